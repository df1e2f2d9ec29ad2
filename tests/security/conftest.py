"""Servers that let in only whom docs/operations.md lets in: its ACLs are read out of the page."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from pydantic import SecretStr

from streams import topics
from streams.embedded import NotInstalled, Valkey, free_port
from streams.settings import Settings
from tests.conftest import running
from tests.kafka.broker import SecuredKafka
from tests.security.certificates import Authority

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text().partition("## Securing it")[2]
OPERATOR, WORKER, COLLECTOR, SERVE, READER = USERS = [
    f"isotherm-{role}" for role in ("operator", "worker", "collector", "serve", "reader")
]
PASSWORDS = {name: f"the word of {name}" for name in (SecuredKafka.ADMIN, *USERS)}
PARTITIONS = 2


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom we trust."""
    try:
        return Authority(tmp_path_factory.mktemp("tls") / "ours")
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


# -- Kafka ---------------------------------------------------------------------------------------------------


def acls() -> list[AclBinding]:
    """What the commands on the page would add."""
    commands = re.search(r"^acl\(\) .*?^```", PAGE, re.DOTALL | re.MULTILINE)
    assert commands
    variables: dict[str, str] = {}
    found = []
    for line in commands[0].splitlines():
        if assigned := re.fullmatch(r'(\w+)="(.*)"', line):
            variables[assigned[1]] = _expanded(assigned[2], variables)
        elif line.startswith("acl --"):
            found += _bindings(shlex.split(_expanded(line, variables))[1:])
    return found


def _expanded(text: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$(\w+)", lambda name: variables[name[1]], text)


def _bindings(options: list[str]) -> Iterator[AclBinding]:
    given: dict[str, list[str]] = {}
    for name, value in zip(options[::2], options[1::2], strict=True):
        given.setdefault(name, []).append(value)
    (principal,) = given.pop("--allow-principal")
    operations = given.pop("--operation")
    (pattern,) = given.pop("--resource-pattern-type", ["literal"])
    for kind, names in given.items():
        resource = {"--topic": ResourceType.TOPIC, "--group": ResourceType.GROUP}[kind]
        for name in names:
            for operation in operations:
                yield AclBinding(
                    resource,
                    name,
                    ResourcePatternType[pattern.upper()],
                    principal,
                    "*",
                    AclOperation[operation.upper()],
                    AclPermissionType.ALLOW,
                )


@pytest.fixture(scope="session")
def secured_kafka(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """Apache Kafka behind TLS and SASL, with the ACLs of the page."""
    if not os.environ.get("ISOTHERM_TEST_KAFKA"):
        pytest.skip("the embedded broker knows no TLS and no users: make test-kafka")
    server = authority.issue("localhost")
    with running(SecuredKafka(tmp_path_factory.mktemp("secured"), server.chain, authority.ca, PASSWORDS)) as kafka:
        grant(kafka, authority)
        yield kafka


def grant(kafka: SecuredKafka, authority: Authority) -> None:
    admin = AdminClient(
        {
            "bootstrap.servers": kafka.address,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": SecuredKafka.ADMIN,
            "sasl.password": PASSWORDS[SecuredKafka.ADMIN],
            "ssl.ca.location": str(authority.ca),
        }
    )
    for added in admin.create_acls(acls()).values():
        added.result(timeout=30)


def as_user(broker: SecuredKafka, authority: Authority, user: str, **given: Any) -> Settings:
    return Settings(
        **{
            "kafka": broker.address,
            "kafka_security": "SASL_SSL",
            "kafka_sasl_mechanism": "SCRAM-SHA-512",
            "kafka_user": user,
            "kafka_password": SecretStr(PASSWORDS[user]),
            "kafka_ca": str(authority.ca),
            "partitions": PARTITIONS,
            "session_timeout_ms": 6_000,
        }
        | given
    )


def unsigned_token(user: str) -> str:
    """A token of OAUTHBEARER as only a test's broker takes it."""
    now = int(time.time())
    parts = (json.dumps(each).encode() for each in ({"alg": "none"}, {"sub": user, "iat": now, "exp": now + 3600}))
    return "".join(base64.urlsafe_b64encode(part).decode().rstrip("=") + "." for part in parts)


# -- Redis ---------------------------------------------------------------------------------------------------


def users() -> str:
    """The file of users on the page, with our passwords in it."""
    found = re.search(r"^```\n(user default off\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    text = found[1]
    for name in (WORKER, OPERATOR, SERVE, READER):
        text = text.replace(f"{name.removeprefix('isotherm-').upper()}_PASSWORD", _word(name))
    assert "_PASSWORD" not in text
    return text


def _word(name: str) -> str:
    return PASSWORDS[name].replace(" ", "-")  # blanks end a rule


class Guarded(Valkey):
    """With the users of the page: Valkey on its socket; `redis-server` over TLS and nothing else."""

    def __init__(self, directory: Path, authority: Authority | None) -> None:
        found = shutil.which("redis-server") if authority else None
        super().__init__(directory, binary=Path(found) if found else None)
        self._authority, self._port = authority, free_port()

    def command(self) -> list[str]:
        more = ["--aclfile", str(self.directory / "users.acl")]
        if self._authority:
            server = self._authority.issue("localhost")
            more += ["--tls-port", str(self._port), "--tls-auth-clients", "no"]
            more += ["--tls-cert-file", str(server.cert), "--tls-key-file", str(server.key)]
            more += ["--tls-ca-cert-file", str(self._authority.ca)]
        return super().command() + more

    def prepare(self) -> None:
        super().prepare()
        (self.directory / "users.acl").write_text(users())

    def answers(self) -> bool:
        """It tells everybody that it knows them not."""
        try:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(0.5)
                peer.connect(str(self._socket))
                peer.sendall(b"PING\r\n")
                return peer.recv(7) == b"-NOAUTH"
        except OSError:
            return False

    def given(self, user: str) -> dict[str, Any]:
        """The settings of somebody who connects."""
        if self._authority:
            url, ca = f"rediss://{user}@localhost:{self._port}/0", str(self._authority.ca)
        else:
            url, ca = self.url.replace("unix://", f"unix://{user}@"), ""
        return {"redis": url, "redis_password": SecretStr(_word(user)), "redis_ca": ca}


@pytest.fixture(scope="session")
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The embedded Valkey has no TLS; the second pass of `make test-kafka` is on redis-server, which has."""
    tls = request.getfixturevalue("authority") if os.environ.get("ISOTHERM_TEST_REDIS") else None
    with running(Guarded(tmp_path_factory.mktemp("guarded"), tls)) as server:
        yield server


# -- both ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Installation:
    """Everybody's settings."""

    operator: Settings
    worker: Settings
    collector: Settings
    serve: Settings
    reader: Settings


@pytest.fixture
async def installation(
    request: pytest.FixtureRequest, guarded: Guarded, kafka: str, tmp_path: Path
) -> Installation:
    """Each with rights of their own: in Redis always, in Kafka where it is Apache's.

    The names of topics, groups and keys are those of the page, so there is one installation a session.
    """
    if os.environ.get("ISOTHERM_TEST_KAFKA"):
        broker: SecuredKafka = request.getfixturevalue("secured_kafka")
        trusted: Authority = request.getfixturevalue("authority")
        (tmp_path / "token").write_text(unsigned_token(READER))

        def of(user: str, **given: Any) -> Settings:
            return as_user(broker, trusted, user, **given)

        by_token = {"kafka_sasl_mechanism": "OAUTHBEARER", "kafka_token_file": str(tmp_path / "token")}
        reading = by_token | {"kafka_user": "", "kafka_password": SecretStr("")}
    else:

        def of(user: str, **given: Any) -> Settings:
            plain = {"kafka": kafka, "idempotence": False, "fetch_max_wait_ms": 5, "session_timeout_ms": 1_000}
            return Settings(**plain | {"partitions": PARTITIONS} | given)

        reading = {}
    key = SecretStr("a secret of the tests")
    made = Installation(
        operator=of(OPERATOR, person_key=key, **guarded.given(OPERATOR)),
        worker=of(WORKER, person_key=key, **guarded.given(WORKER)),
        collector=of(COLLECTOR),
        serve=of(SERVE, **guarded.given(SERVE)),
        reader=of(READER, **guarded.given(READER), **reading),
    )
    await topics.create(made.operator)
    return made

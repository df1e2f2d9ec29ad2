"""Whoever is refused is told by whom, for what, and which setting it is; nobody is shown a stack trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from streams.settings import Settings
from tests.kafka.broker import SecuredKafka
from tests.live.conftest import isotherm
from tests.security.certificates import Authority
from tests.security.conftest import READER, WORKER, Guarded, as_user, unsigned_token

WRONG = SecretStr("a wrong word")


def told(settings: Settings, *command: str, code: int) -> str:
    ended = isotherm(settings, *command)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert WRONG.get_secret_value() not in ended.stdout + ended.stderr
    return ended.stderr


@pytest.mark.redis
def test_redis_refuses_a_wrong_password(guarded: Guarded) -> None:
    settings = Settings(**guarded.given(WORKER) | {"redis_password": WRONG, "person_key": SecretStr("key")})
    assert "Redis refuses us (ISOTHERM_REDIS, ISOTHERM_REDIS_PASSWORD)" in told(settings, "worker", code=1)
    assert "cannot reach Redis (ISOTHERM_REDIS): invalid username-password pair" in told(
        settings, "explain", "acme", code=3
    )


@pytest.mark.redis
def test_redis_refuses_a_worker_that_has_a_readers_rights(guarded: Guarded) -> None:
    settings = Settings(**guarded.given(READER), person_key=SecretStr("key"))
    assert "Redis refuses us (ISOTHERM_REDIS, ISOTHERM_REDIS_PASSWORD)" in told(settings, "worker", code=1)


@pytest.mark.redis
def test_redis_that_is_not_trusted_ends_the_start(guarded: Guarded) -> None:
    given: dict[str, Any] = guarded.given(WORKER)
    if not given["redis_ca"]:
        pytest.skip("the embedded Valkey has no TLS: make test-kafka")
    settings = Settings(**given | {"redis_ca": ""}, person_key=SecretStr("key"))
    assert "Redis is not trusted (ISOTHERM_REDIS, ISOTHERM_REDIS_CA)" in told(settings, "worker", code=1)


# -- Kafka: Apache's alone -----------------------------------------------------------------------------------

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("password", {"kafka_password": WRONG}, "refuses user 'isotherm-worker' or the password (SCRAM-SHA-512"),
    ("user", {"kafka_user": "stranger"}, "refuses user 'stranger' or the password (SCRAM-SHA-512"),
    ("plain", {"kafka_sasl_mechanism": "PLAIN"}, "refuses user 'isotherm-worker' or the password (PLAIN"),
    ("mechanism", {"kafka_sasl_mechanism": "SCRAM-SHA-256"}, "does not know SCRAM-SHA-256"),
    ("authority", {"kafka_ca": ""}, "is not trusted (ISOTHERM_KAFKA, ISOTHERM_KAFKA_CA): "),
    ("host", {"kafka": "127.0.0.1"}, "IP address mismatch"),
    ("token", {"kafka_sasl_mechanism": "OAUTHBEARER"}, "refuses the token (OAUTHBEARER"),
]


@pytest.mark.kafka
@pytest.mark.parametrize(("what", "given", "said"), CASES, ids=[what for what, _, _ in CASES])
def test_kafka_refuses_what_is_wrong(
    secured_kafka: SecuredKafka,
    authority: Authority,
    redis_url: str,
    tmp_path: Path,
    what: str,
    given: dict[str, Any],
    said: str,
) -> None:
    if what == "host":
        given = {"kafka": secured_kafka.address.replace("localhost", given["kafka"])}
    if what == "token":
        (tmp_path / "token").write_text(unsigned_token(WORKER)[:-3] + "...")
        nobody = {"kafka_user": "", "kafka_password": SecretStr("")}
        given = given | nobody | {"kafka_token_file": str(tmp_path / "token")}
    rest = {"redis": redis_url, "namespace": f"refused-{what}", "person_key": SecretStr("key")}
    settings = as_user(secured_kafka, authority, WORKER, **rest | given)
    assert said in told(settings, "topics", code=3)
    assert said in told(settings, "worker", code=1)


@pytest.mark.kafka
def test_topics_that_may_not_be_seen_are_not_simply_missing(
    secured_kafka: SecuredKafka, authority: Authority, redis_url: str
) -> None:
    settings = as_user(
        secured_kafka,
        authority,
        WORKER,
        redis=redis_url,
        namespace="unseen",
        topic_prefix="unseen.",
        person_key=SecretStr("key"),
    )
    assert "or see whether this user may describe them" in told(settings, "worker", code=1)

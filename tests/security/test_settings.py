"""Secrets from files, and settings that do not go together: refused at start, and no value is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from streams.settings import Settings
from tests.security.certificates import Authority

SECRETS = sorted(name for name, field in Settings.model_fields.items() if field.annotation is SecretStr)
CANARY = "canary-5f0c"


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ISOTHERM_") and "TEST" not in name]:
        monkeypatch.delenv(name)


def usable(name: str) -> dict[str, str]:
    """What must be set beside a secret, for it to be one that somebody asks for."""
    scram = {"kafka_security": "SASL_SSL", "kafka_sasl_mechanism": "SCRAM-SHA-512", "kafka_user": "worker"}
    return scram if name == "kafka_password" else {}


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_may_stand_in_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = f"https://{CANARY}.example/ü" if name == "alert_url" else f"{CANARY} ü"
    (tmp_path / "secret").write_text(f"{secret}\n")
    monkeypatch.setenv(f"ISOTHERM_{name.upper()}_FILE", str(tmp_path / "secret"))
    settings = Settings(**usable(name))
    assert getattr(settings, name).get_secret_value() == secret
    assert CANARY not in repr(settings) + str(settings)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    ("content", "said"), [(None, "FileNotFoundError"), (b"\n", "is empty"), (b"\xff", "UnicodeDecodeError")]
)
def test_a_file_that_holds_no_secret_is_refused(
    name: str, content: bytes | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    monkeypatch.setenv(f"ISOTHERM_{name.upper()}_FILE", str(tmp_path / "secret"))
    with pytest.raises(ValidationError, match=said):
        Settings()


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_is_given_twice_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(CANARY)
    monkeypatch.setenv(f"ISOTHERM_{name.upper()}", f"{CANARY} too")
    monkeypatch.setenv(f"ISOTHERM_{name.upper()}_FILE", str(tmp_path / "secret"))
    with pytest.raises(ValidationError, match="keep one of them") as refused:
        Settings()
    assert CANARY not in str(refused.value)


def test_what_is_no_secret_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("elsewhere:9092")
    monkeypatch.setenv("ISOTHERM_KAFKA_FILE", str(tmp_path / "file"))
    assert Settings().kafka == "127.0.0.1:9092"


SASL = {"KAFKA_SECURITY": "SASL_SSL", "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512"}
WHO = {"KAFKA_USER": "worker", "KAFKA_PASSWORD": CANARY}
OAUTH = SASL | {"KAFKA_SASL_MECHANISM": "OAUTHBEARER"}
TOKENS = {"KAFKA_TOKEN_URL": "https://login.example.com/token"}

REFUSED: list[tuple[dict[str, str], str]] = [
    ({"KAFKA_SECURITY": "TLS"}, "ISOTHERM_KAFKA_SECURITY"),
    ({"KAFKA_SECURITY": "SASL_SSL"}, "ISOTHERM_KAFKA_SASL_MECHANISM: SASL_SSL wants one"),
    (SASL | {"KAFKA_SASL_MECHANISM": "GSSAPI"}, "ISOTHERM_KAFKA_SASL_MECHANISM"),
    (SASL, "SCRAM-SHA-512 wants both"),
    (SASL | {"KAFKA_USER": "worker"}, "SCRAM-SHA-512 wants both"),
    (SASL | {"KAFKA_PASSWORD": CANARY}, "SCRAM-SHA-512 wants both"),
    (SASL | WHO | TOKENS, "uses no token"),
    (WHO, "ISOTHERM_KAFKA_USER, ISOTHERM_KAFKA_PASSWORD: nobody is told"),
    (WHO | {"KAFKA_SECURITY": "SSL"}, "set that to SASL_SSL"),
    (OAUTH, "OAUTHBEARER wants one of them"),
    (OAUTH | WHO | TOKENS | {"KAFKA_TOKEN_FILE": "/token"}, "OAUTHBEARER wants one of them"),
    (OAUTH | TOKENS, "client id and client secret"),
    (OAUTH | WHO | {"KAFKA_TOKEN_URL": "http://login.example.com/token"}, "write https://"),
    (OAUTH | WHO | {"KAFKA_TOKEN_URL": f"https://me:{CANARY}@login.example.com"}, "KAFKA_TOKEN_URL is no URL"),
    ({"KAFKA_CA": "/ca.pem"}, "ISOTHERM_KAFKA_CA: nothing is encrypted with ISOTHERM_KAFKA_SECURITY=PLAINTEXT"),
    ({"KAFKA_SECURITY": "SSL", "KAFKA_CA": "/no/ca.pem"}, "ISOTHERM_KAFKA_CA: /no/ca.pem"),
    ({"KAFKA_SECURITY": "SSL", "KAFKA_CA": __file__}, "ISOTHERM_KAFKA_CA: "),
    ({"KAFKA_SECURITY": "SSL", "KAFKA_KEY": "/key.pem"}, "there is no ISOTHERM_KAFKA_CERT"),
    ({"KAFKA_SECURITY": "SSL", "KAFKA_CERT": "/no/cert.pem"}, "ISOTHERM_KAFKA_CERT, ISOTHERM_KAFKA_KEY: /no"),
    ({"REDIS": f"http://me:{CANARY}@localhost"}, "ISOTHERM_REDIS is no URL"),
    ({"REDIS": f"redis://:{CANARY}/@localhost"}, "ISOTHERM_REDIS is no URL"),
    ({"REDIS": "localhost:6379"}, "ISOTHERM_REDIS is no URL"),
    ({"REDIS": f"redis://me:{CANARY}@localhost", "REDIS_PASSWORD": CANARY}, "ISOTHERM_REDIS holds a password"),
    ({"REDIS": "rediss://localhost?ssl_cert_reqs=none"}, "TLS is not set in the URL"),
    ({"REDIS": "rediss://localhost?ssl_check_hostname=false"}, "TLS is not set in the URL"),
    ({"REDIS": f"redis+cluster://:{CANARY}@localhost/3"}, "has no database but 0"),
    ({"REDIS": "redis+cluster://"}, "a cluster is named by one of its nodes"),
    ({"REDIS_CA": "/ca.pem"}, "ISOTHERM_REDIS_CA: nothing is encrypted with a URL with redis://"),
    ({"REDIS": "rediss://localhost", "REDIS_CA": "/no/ca.pem"}, "ISOTHERM_REDIS_CA: /no/ca.pem"),
    ({"ALERT_URL": f"{CANARY}/services"}, "ISOTHERM_ALERT_URL is no URL"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "said"), REFUSED, ids=[f"{n} {said}" for n, (_, said) in enumerate(REFUSED)])
def test_what_does_not_go_together_is_refused(
    given: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from streams.cli import app

    for name, value in given.items():
        monkeypatch.setenv(f"ISOTHERM_{name}", value)
    with pytest.raises(SystemExit) as ended:
        app(["explain", "acme"])
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert said in told.err
    assert CANARY not in told.out + told.err


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (WHO | {"KAFKA_CA": "/ca.pem", "REDIS": "localhost", "ALERT_URL": "x"}).items():
        monkeypatch.setenv(f"ISOTHERM_{name}", value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    (error,) = refused.value.errors()
    assert len(error["msg"].splitlines()) == 4


ALLOWED: list[dict[str, str]] = [
    SASL | WHO,
    SASL | WHO | {"KAFKA_SECURITY": "SASL_PLAINTEXT"},
    OAUTH | WHO | TOKENS,
    OAUTH | WHO | {"KAFKA_TOKEN_URL": "http://127.0.0.1:8080/token", "KAFKA_TOKEN_SCOPE": "kafka"},
    OAUTH | {"KAFKA_TOKEN_FILE": "/made/later"},
    {"KAFKA_SECURITY": "SSL"},
    {"REDIS": f"rediss://me:{CANARY}@redis.example.com:6380/3"},
    {"REDIS": "unix://me@/run/redis.sock", "REDIS_PASSWORD": CANARY},
    {"REDIS": "rediss+cluster://me@redis.example.com:6380", "REDIS_PASSWORD": CANARY},
    {"WRITE_KEYS": "/etc/keys"},
]


@pytest.mark.parametrize("given", ALLOWED, ids=[" ".join(sorted(each)) for each in ALLOWED])
def test_what_goes_together_is_taken(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"ISOTHERM_{name}", value)
    settings = Settings()
    assert CANARY not in repr(settings) + str(settings)


def test_a_certificate_is_taken_with_its_own_key_only(authority: Authority) -> None:
    ours, others = authority.issue("ours"), authority.issue("others")
    given = {"kafka_security": "SSL", "kafka_ca": str(authority.ca), "kafka_cert": str(ours.cert)}
    Settings(**given, kafka_key=str(ours.key))
    Settings(**given | {"kafka_cert": str(ours.chain)})
    with pytest.raises(ValidationError, match="KEY_VALUES_MISMATCH"):
        Settings(**given, kafka_key=str(others.key))


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_a_password(authority: Authority) -> None:
    hidden = authority.issue("hidden", password=CANARY)
    given = {"ISOTHERM_KAFKA_SECURITY": "SSL", "ISOTHERM_KAFKA_CERT": str(hidden.cert)}
    ended = subprocess.run(
        [sys.executable, "-m", "streams.cli", "explain", "acme"],
        env=os.environ | given | {"ISOTHERM_KAFKA_KEY": str(hidden.key)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "the key is encrypted" in ended.stderr
    assert "PEM pass phrase" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, 0),
        (SASL | WHO | {"KAFKA": "kafka.example.com:9092"}, 0),
        (SASL | WHO | {"KAFKA": "kafka.example.com:9092", "KAFKA_SECURITY": "SASL_PLAINTEXT"}, 1),
        (SASL | WHO | {"KAFKA": "localhost:9092,10.0.0.7:9092", "KAFKA_SECURITY": "SASL_PLAINTEXT"}, 1),
        (SASL | WHO | {"KAFKA": "127.0.0.1:9092,[::1]:9092", "KAFKA_SECURITY": "SASL_PLAINTEXT"}, 0),
        ({"REDIS": f"redis://:{CANARY}@redis.example.com"}, 1),
        ({"REDIS": "redis://redis.example.com", "REDIS_PASSWORD": CANARY}, 1),
        ({"REDIS": "redis+cluster://redis.example.com", "REDIS_PASSWORD": CANARY}, 1),
        ({"REDIS": f"rediss://:{CANARY}@redis.example.com"}, 0),
        ({"REDIS": f"redis://:{CANARY}@localhost"}, 0),
        ({"REDIS": "redis://redis.example.com"}, 0),
    ],
)
def test_a_password_that_the_network_can_read_is_told_of(
    given: dict[str, str], shown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"ISOTHERM_{name}", value)
    told = Settings().in_the_clear()
    assert len(told) == shown
    assert CANARY not in "".join(told)

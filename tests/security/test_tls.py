"""Who is trusted: a real TLS server shows certificates of several kinds to the clients that the settings make."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from redis.exceptions import ConnectionError as NotConnected

from streams.connecting import kafka_options, refusal
from streams.embedded import Valkey
from streams.settings import Settings
from streams.store.redis import connect
from tests.conftest import running
from tests.security.certificates import Authority, Pair

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom nobody trusts."""
    return Authority(tmp_path_factory.mktemp("tls") / "strangers")


@asynccontextmanager
async def serving(shown: Pair, talk: Conversation, wants: Authority | None = None) -> AsyncIterator[int]:
    """The port of a server that shows a certificate, and wants one of `wants` from its clients."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(wants.ca) if wants else None)
    context.load_cert_chain(shown.cert, shown.key)
    if wants:
        context.verify_mode = ssl.CERT_REQUIRED
    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\n")
    await writer.drain()
    writer.close()


async def heard(settings: Settings) -> bytes:
    host, port = settings.kafka.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=kafka_options(settings)["ssl_context"])
    try:
        if said := await reader.readline():
            return said
        raise ConnectionResetError("hung up on us")
    finally:
        writer.close()


def tls(authority: Authority, port: int, host: str = "localhost", **given: str) -> Settings:
    return Settings(kafka=f"{host}:{port}", kafka_security="SSL", kafka_ca=str(authority.ca), **given)


async def test_kafka_is_who_its_certificate_says(authority: Authority) -> None:
    async with serving(authority.issue("localhost"), hello) as port:
        assert await heard(tls(authority, port)) == b"hello\n"


async def test_a_certificate_for_another_host_is_refused(authority: Authority) -> None:
    async with serving(authority.issue("elsewhere.example"), hello) as port:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await heard(tls(authority, port))
        assert "is not trusted (ISOTHERM_KAFKA, ISOTHERM_KAFKA_CA): Hostname mismatch" in await refusal(
            tls(authority, port)
        )


async def test_an_address_is_no_host_name(authority: Authority) -> None:
    async with serving(authority.issue("localhost"), hello) as port:
        with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
            await heard(tls(authority, port, "127.0.0.1"))


async def test_a_certificate_of_strangers_is_refused(authority: Authority, strangers: Authority) -> None:
    async with serving(strangers.issue("localhost"), hello) as port:
        with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
            await heard(tls(authority, port))
        with pytest.raises(ssl.SSLCertVerificationError):  # nor does the system know our own authority
            await heard(Settings(kafka=f"localhost:{port}", kafka_security="SSL"))


async def test_we_show_our_own_certificate(authority: Authority, strangers: Authority) -> None:
    ours, theirs = authority.issue("worker"), strangers.issue("worker")
    async with serving(authority.issue("localhost"), hello, wants=authority) as port:
        shown = tls(authority, port, kafka_cert=str(ours.cert), kafka_key=str(ours.key))
        assert await heard(shown) == b"hello\n"
        for refused in (
            tls(authority, port),
            tls(authority, port, kafka_cert=str(theirs.cert), kafka_key=str(theirs.key)),
        ):
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await heard(refused)


async def test_what_speaks_no_tls_is_named(authority: Authority) -> None:
    server = await asyncio.start_server(hello, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert "does not agree on TLS (ISOTHERM_KAFKA_SECURITY)" in await refusal(tls(authority, port))


# -- Redis: a Valkey behind a terminator of TLS --------------------------------------------------------------


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Valkey:
    with running(Valkey(tmp_path_factory.mktemp("valkey"))) as server:
        yield server


async def passed_on(valkey: Valkey, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    inner_reader, inner_writer = await asyncio.open_unix_connection(valkey._socket)

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        sink.close()

    await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer), return_exceptions=True)


def rediss(authority: Authority, port: int, host: str = "localhost", **given: str) -> Settings:
    return Settings(redis=f"rediss://{host}:{port}/0", redis_ca=str(authority.ca), **given)


async def test_redis_is_who_its_certificate_says(authority: Authority, valkey: Valkey) -> None:
    async with serving(authority.issue("localhost"), partial(passed_on, valkey)) as port:
        async with connect(rediss(authority, port)) as redis:
            assert await redis.ping()
        for settings in (rediss(authority, port, "127.0.0.1"), Settings(redis=f"rediss://localhost:{port}/0")):
            async with connect(settings) as redis:
                with pytest.raises(NotConnected, match="certificate verify failed"):
                    await redis.ping()


async def test_redis_is_shown_our_own_certificate(authority: Authority, valkey: Valkey) -> None:
    ours = authority.issue("worker")
    async with serving(authority.issue("localhost"), partial(passed_on, valkey), wants=authority) as port:
        shown = rediss(authority, port, redis_cert=str(ours.cert), redis_key=str(ours.key))
        async with connect(shown) as redis:
            assert await redis.ping()
        async with connect(rediss(authority, port)) as redis:
            with pytest.raises(NotConnected):
                await redis.ping()

"""The proxy does to a connection what it is told to, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import Proxy, Way

SILENCE_S = 0.2  # nothing has come when nothing has come for this long
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server:
    """Answers each line with the same line in capitals, and keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                self.heard.append(line)
                writer.write(line.upper())
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = "{}:{}".format(*listening.sockets[0].getsockname())
    async with listening:
        yield made


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    with Proxy(server.address) as made:
        yield made


async def dial(proxy: Proxy) -> Ends:
    host, _, port = proxy.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


@pytest.fixture
async def ends(proxy: Proxy) -> AsyncIterator[Ends]:
    reader, writer = await dial(proxy)
    writer.write(b"hello\n")
    assert await reader.readline() == b"HELLO\n"
    yield reader, writer
    writer.close()


async def hears_nothing(reader: asyncio.StreamReader) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readline(), SILENCE_S)


async def is_reset(reader: asyncio.StreamReader) -> None:
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.readexactly(1 << 20), 10)


async def test_what_is_held_comes_when_it_is_over(proxy: Proxy, server: Server, ends: Ends) -> None:
    reader, writer = ends
    proxy.set(down=Way.HOLD)
    writer.write(b"one\n")
    await hears_nothing(reader)
    assert server.heard == [b"hello\n", b"one\n"]
    proxy.heal()
    assert await reader.readline() == b"ONE\n"


async def test_requests_that_are_dropped_never_arrive(proxy: Proxy, server: Server, ends: Ends) -> None:
    reader, writer = ends
    proxy.set(up=Way.DROP)
    writer.write(b"one\n")
    await hears_nothing(reader)
    proxy.heal()
    await is_reset(reader)
    assert server.heard == [b"hello\n"]


async def test_replies_that_are_dropped_were_answered(proxy: Proxy, server: Server, ends: Ends) -> None:
    reader, writer = ends
    proxy.set(down=Way.DROP)
    writer.write(b"one\n")
    await hears_nothing(reader)
    proxy.heal()
    await is_reset(reader)
    assert server.heard == [b"hello\n", b"one\n"]


async def test_who_lost_nothing_is_not_reset(proxy: Proxy, ends: Ends) -> None:
    reader, writer = ends
    proxy.set(up=Way.DROP, down=Way.DROP)
    proxy.heal()
    writer.write(b"one\n")
    assert await reader.readline() == b"ONE\n"


async def test_a_reply_breaks_off_in_the_middle(proxy: Proxy, ends: Ends) -> None:
    reader, writer = ends
    proxy.reset_in_reply()
    writer.write(b"12345678\n")
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)) as broken:
        await asyncio.wait_for(reader.readexactly(9), 10)
    if isinstance(broken.value, asyncio.IncompleteReadError):
        assert broken.value.partial == b"1234"


async def test_a_cut_resets_and_refuses(proxy: Proxy, ends: Ends) -> None:
    proxy.cut()
    await is_reset(ends[0])

    async def dial_and_read() -> bytes:
        reader, _ = await dial(proxy)
        return await asyncio.wait_for(reader.readexactly(1), 10)

    with pytest.raises(ConnectionResetError):
        await dial_and_read()


async def test_replies_are_late_by_both_ways(proxy: Proxy, ends: Ends) -> None:
    reader, writer = ends
    proxy.set(delay_s=0.1)
    began = time.monotonic()
    writer.write(b"one\n")
    assert await reader.readline() == b"ONE\n"
    assert time.monotonic() - began >= 0.2


async def test_it_goes_on_to_another_server(proxy: Proxy, ends: Ends) -> None:
    other = Server()
    listening = await asyncio.start_server(other.serve, "127.0.0.1", 0)
    async with listening:
        proxy.retarget("{}:{}".format(*listening.sockets[0].getsockname()))
        await is_reset(ends[0])
        reader, writer = await dial(proxy)
        writer.write(b"two\n")
        assert await reader.readline() == b"TWO\n"
        assert other.heard == [b"two\n"]
        writer.close()

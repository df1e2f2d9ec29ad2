"""A TCP proxy that misbehaves when it is told to: what stands between workers and servers in the fault tests.

    client ─► up ─► server          way: pass · hold (delivered when it is over) · drop (never delivered)
    client ◄─ down ◄─ server        and: delay, cut, retarget, reset in mid-reply

It runs in a thread with a loop of its own, so that a test may block without holding up its servers' traffic. A
connection that has lost bytes is of no use any more: it is reset when `heal` is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Self

CHUNK = 64 * 1024
NO_LINGER = struct.pack("ii", 1, 0)  # closing resets the connection, as a crashed host's kernel would


class Way(StrEnum):
    PASS = "pass"
    HOLD = "hold"
    DROP = "drop"


class _Pair:
    """A client's connection and ours to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.writers = (client, server)
        self.lost = False  # bytes that never arrived

    def reset(self) -> None:
        for writer in self.writers:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            writer.transport.abort()


class Proxy:
    """Listens on a loopback port of its own and passes on to `target`, a `host:port`."""

    def __init__(self, target: str = "") -> None:
        self.target = target
        self.up = self.down = Way.PASS
        self.delay_s = 0.0
        self.connections = 0  # accepted so far
        self._cut = False
        self._resets = 0  # replies still to be broken off
        self._rewrites: Callable[[bytes], bytes] | None = None
        self._pairs: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname()[:2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- what a test says -----------------------------------------------------------------------------------

    def set(self, *, up: Way = Way.PASS, down: Way = Way.PASS, delay_s: float = 0.0) -> None:
        def change() -> None:
            self.up, self.down, self.delay_s = up, down, delay_s

        self._do(change)

    def cut(self) -> None:
        """All connections are reset, and new ones too."""

        def change() -> None:
            self._cut = True
            self._reset(lambda pair: True)

        self._do(change)

    def reset_in_reply(self, times: int = 1) -> None:
        """Breaks off the next `times` replies after half of their bytes."""

        def change() -> None:
            self._resets = times

        self._do(change)

    def retarget(self, target: str) -> None:
        """What comes from now on goes elsewhere; connections there are reset."""

        def change() -> None:
            self.target = target
            self._reset(lambda pair: True)

        self._do(change)

    def rewrite(self, rewrites: Callable[[bytes], bytes] | None) -> None:
        """Each piece of a reply is put through `rewrites` from now on."""

        def change() -> None:
            self._rewrites = rewrites

        self._do(change)

    def heal(self) -> None:
        """Everything passes again; what was held is delivered."""

        def change() -> None:
            self._cut, self._resets, self._rewrites = False, 0, None
            self.up = self.down = Way.PASS
            self.delay_s = 0.0
            self._reset(lambda pair: pair.lost)

        self._do(change)

    # -- how it is done -------------------------------------------------------------------------------------

    def _do(self, change: Callable[[], None]) -> None:
        """Makes a change in the proxy's own thread and returns when it is made."""

        async def in_loop() -> None:
            change()
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

        asyncio.run_coroutine_threadsafe(in_loop(), self._loop).result()

    def _reset(self, which: Callable[[_Pair], bool]) -> None:
        for pair in [pair for pair in self._pairs if which(pair)]:
            pair.reset()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _close(self) -> None:
        self._server.close()
        self._reset(lambda pair: True)
        here = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not here]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        host, _, port = self.target.rpartition(":")
        try:
            if self._cut:
                raise ConnectionRefusedError
            theirs, ours = await asyncio.open_connection(host, int(port))
        except OSError:
            _Pair(writer, writer).reset()
            return
        pair = _Pair(writer, ours)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pump(pair, reader, ours, "up"), self._pump(pair, theirs, writer, "down"))
        except OSError:
            pass
        finally:
            self._pairs.discard(pair)
            pair.reset()

    async def _pump(
        self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        while chunk := await reader.read(CHUNK):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            while (policy := getattr(self, way)) is Way.HOLD:
                await self._changed.wait()
            if policy is Way.DROP:
                pair.lost = True
                continue
            if way == "down" and self._resets:
                self._resets -= 1
                writer.write(chunk[: len(chunk) // 2])
                await writer.drain()
                raise ConnectionResetError
            writer.write(self._rewrites(chunk) if way == "down" and self._rewrites is not None else chunk)
            await writer.drain()
        raise ConnectionResetError  # one end is gone: the other one goes too

"""Commands that are asked for in the same moment go to Redis together, and come back together.

A worker folds its partitions side by side, and each of them asks Redis for a few things a batch. Sent one by one,
every command costs the client more than it costs Redis: a connection taken and given back, a timeout, a wake-up.
So what is asked for in one turn of the event loop is sent as one pipeline, without a transaction; each command
has its own answer or its own error. When the connection breaks, nobody knows which of them were carried out, and
all that wait get that error, just as if each had been alone.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import NoScriptError

Asked = tuple[tuple[Any, ...], "asyncio.Future[Any]"]


class Together:
    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._asked: list[Asked] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def ask(self, *command: Any) -> Any:
        """The answer to `command`. Raises what redis-py raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._send)  # behind everybody who is ready to go on now
        self._asked.append((command, answer))
        return await answer

    async def run(self, script: Any, keys: list[str], arguments: list[Any]) -> Any:
        """The answer of a registered script. A server that has not heard of it, which ran nothing, is told."""
        try:
            return await self.ask("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await script(keys=keys, args=arguments)

    def _send(self) -> None:
        asked, self._asked = self._asked, []
        task = asyncio.get_running_loop().create_task(self._exchange(asked))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _exchange(self, asked: list[Asked]) -> None:
        answers: list[Any]
        try:
            answers = await self._answers([command for command, _ in asked])
        except asyncio.CancelledError:
            for _, waiting in asked:
                waiting.cancel()
            raise
        except Exception as error:
            answers = [error] * len(asked)
        for (_, waiting), answer in zip(asked, answers, strict=True):
            if waiting.done():
                continue  # whoever asked has gone
            if isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)

    async def _answers(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        if len(commands) == 1:
            return [await self._redis.execute_command(*commands[0])]
        async with self._redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
            return answers

"""Seeded traffic: facts of a CRM and activity on the web, some 200 accounts, each message acknowledged or not.

Most accounts are named outright. Some are met by their web domain before the CRM tells of them, so that they are
merged: their state goes from one partition of the log to another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.settings import Settings
from streams.topics import CRM_UPDATES, LARGEST_MESSAGE, WEB_ACTIVITY

FORMAT = [("format", b"canonical")]
ACCOUNTS, MERGING = 160, 40
TURN_S = 0.05

Place = tuple[str, int, int]  # topic's role, partition, offset


def messages(random: random.Random) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Topic, key and message without its instant, for ever."""
    linked = 0
    while True:
        account = f"acct-{random.randrange(ACCOUNTS)}"
        whom: dict[str, Any] = {"account": account}
        if random.random() < 0.15:
            account = f"m{random.randrange(MERGING)}"
            whom = {"domain": f"{account}.example"}
        dice = random.random()
        if dice < 0.03 and linked < MERGING:
            linked += 1
            told = {"crm": f"crm-{linked - 1}", "domain": f"m{linked - 1}.example", "set": {"employees": 700}}
            yield CRM_UPDATES, f"crm-{linked - 1}", {"kind": "facts", **told}
        elif dice < 0.15:
            facts = {
                "employees": random.choice([10, 499, 500, 9000]),
                "industry": random.choice(["retail", "law"]),
            }
            yield CRM_UPDATES, account, {"kind": "facts", **whom, "set": facts}
        elif dice < 0.17:
            yield CRM_UPDATES, account, {"kind": "delete", "account": f"acct-{random.randrange(ACCOUNTS)}"}
        elif dice < 0.20:
            yield CRM_UPDATES, account, {"kind": "restore", "account": f"acct-{random.randrange(ACCOUNTS)}"}
        else:
            name = random.choices(["visited", "asked", "bought"], [8, 2, 2])[0]
            person = {"person": f"p{random.randrange(3)}"} if random.random() < 0.7 else {}
            props = {"amount": random.randrange(10, 90)} if name == "bought" else {}
            yield WEB_ACTIVITY, account, {"kind": "activity", **whom, **person, "name": name, "props": props}


@dataclass
class Traffic:
    """Produces while it is entered. `acked` says where each acknowledged message stands."""

    settings: Settings  # that reach the brokers directly
    seed: int = 1
    rate: float = 150.0  # messages a second
    duplicates: float = 0.0  # how many of them are sent twice
    late: float = 0.05  # how many happened some time ago
    late_ms: int = 20_000  # at most so long; a window of the rules is 12 s at most
    skew_ms: int = 0  # how far the clock of who sends is ahead
    # Longer than the longest outage: an idempotent producer of aiokafka that gave a message up is of no more use.
    patience_ms: int = 60_000
    acked: list[Place] = field(default_factory=list)
    refused: int = 0  # not acknowledged: they may be there or not
    _count: int = 0
    _task: asyncio.Task[None] | None = None
    _waiting: set[asyncio.Future[Any]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._messages = messages(self._random)
        self._kafka = AIOKafkaProducer(
            bootstrap_servers=self.settings.kafka,
            acks="all",
            enable_idempotence=True,
            max_request_size=2 * LARGEST_MESSAGE,
            request_timeout_ms=self.patience_ms,
        )
        await self._kafka.start()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """No more; returns when each has been answered."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        await self._kafka.flush()
        await asyncio.gather(*self._waiting, return_exceptions=True)
        await self._kafka.stop()

    async def send(self, topic: str, key: str, value: bytes | None, headers: Any = FORMAT) -> None:
        sent = await self._kafka.send(
            self.settings.topics(topic), value, key=key.encode() or None, headers=list(headers)
        )
        self._waiting.add(sent)
        sent.add_done_callback(lambda done: self._answered(topic, done))

    def _answered(self, topic: str, done: asyncio.Future[Any]) -> None:
        self._waiting.discard(done)
        if done.cancelled() or done.exception() is not None:
            self.refused += 1
        else:
            self.acked.append((topic, done.result().partition, done.result().offset))

    async def _run(self) -> None:
        """A few messages every turn; while brokers are away they wait in the producer."""
        owed = 0.0
        while True:
            owed += self.rate * TURN_S
            for topic, key, message in [next(self._messages) for _ in range(int(owed))]:
                self._count += 1
                message |= {"at": int(time.time() * 1000) + self.skew_ms - self._lateness()}
                if self.duplicates:
                    message["id"] = f"{self.seed}-{self._count}"
                value = json.dumps(message).encode()
                for _ in range(2 if self._random.random() < self.duplicates else 1):
                    with contextlib.suppress(KafkaError):
                        await self.send(topic, key, value)
            owed %= 1
            await asyncio.sleep(TURN_S)

    def _lateness(self) -> int:
        return self._random.randrange(self.late_ms) if self._random.random() < self.late else 0

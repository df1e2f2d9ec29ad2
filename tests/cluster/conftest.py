"""Three nodes that share the slots: Valkey, or redis-server where `ISOTHERM_TEST_REDIS` asks for Redis."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from streams.embedded import Valkey, free_port
from streams.keys import SLOTS
from tests.conftest import running

SHARES = [(each * SLOTS // 3, (each + 1) * SLOTS // 3 - 1) for each in range(3)]


class Node(Valkey):
    def __init__(self, directory: Path, enabled: str = "yes") -> None:
        self._enabled = enabled
        found = shutil.which("redis-server") if os.environ.get("ISOTHERM_TEST_REDIS") else None
        super().__init__(directory, binary=Path(found) if found else None)
        self.port, self._bus = free_port(), free_port()

    def command(self) -> list[str]:
        here = ["--port", str(self.port), "--bind", "127.0.0.1", "--cluster-port", str(self._bus)]
        return [*super().command(), *here, "--cluster-enabled", self._enabled, "--cluster-node-timeout", "1000"]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, *command: Any) -> Any:
        with Redis(port=self.port, decode_responses=True) as client:
            return client.execute_command(*command)

    def meet(self, other: Node) -> None:
        self.ask("CLUSTER", "MEET", "127.0.0.1", other.port, other._bus)

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER", "MYID"))


class Nodes(list[Node]):
    @property
    def url(self) -> str:
        return f"redis+cluster://{self[0].address}"

    def join(self) -> None:
        for node, (first, last) in zip(self, SHARES, strict=True):
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node in self[1:]:
            self[0].meet(node)
        self.agree()

    def agree(self) -> None:
        until(lambda: all(self._agrees(node) for node in self))

    def _agrees(self, node: Node) -> bool:
        ranges = node.ask("CLUSTER", "SLOTS")
        return len(ranges) == len(self) and "cluster_state:ok" in str(node.ask("CLUSTER", "INFO"))

    def of(self, slot: int) -> Node:
        ranges = self[0].ask("CLUSTER", "SLOTS")  # once: another node may have it a moment later
        (port,) = (port for first, last, (_, port, *_), *_ in ranges if first <= slot <= last)
        (found,) = (node for node in self if node.port == port)
        return found

    def begin_moving(self, slot: int, to: Node) -> Node:
        """From now on `to` takes what the owner of the slot, which it gives, has not."""
        old = self.of(slot)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", old.id)
        old.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        return old

    def move_keys(self, slot: int, old: Node, to: Node) -> None:
        while names := old.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            old.ask("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *names)

    def end_moving(self, slot: int, old: Node, to: Node) -> None:
        for node in (to, old, *(node for node in self if node not in (old, to))):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", to.id)

    def move_at_once(self, slot: int, to: Node) -> None:
        self.of(slot).ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", to.id)
        until(lambda: self.of(slot) is to)

    def move(self, slot: int, to: Node) -> None:
        old = self.begin_moving(slot, to)
        self.move_keys(slot, old, to)
        self.end_moving(slot, old, to)


def until(true: Any) -> None:
    """Nodes gossip; nothing tells when they have."""
    for _ in range(1_000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("the nodes did not come to agree")


@contextmanager
def started(directory: Path) -> Iterator[Nodes]:
    with ExitStack() as running_:
        found = Nodes(running_.enter_context(running(Node(directory / str(n)))) for n in range(3))
        found.join()
        yield found


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with started(tmp_path_factory.mktemp("nodes")) as found:
        yield found


@pytest.fixture
def cluster(nodes: Nodes) -> Nodes:
    """Empty, and each slot where it belongs."""
    for node in nodes:
        node.ask("FLUSHALL")
    return nodes

"""The servers that the fault tests break: three Kafka brokers, a Redis with a replica, and worker processes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from aiokafka.conn import create_conn
from aiokafka.protocol.metadata import MetadataRequest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from redis import Redis

from streams.embedded import Server, Startable, Waits, _together, _until, _valkey, _wait, free_port
from streams.settings import Settings
from tests.faults.proxy import Proxy
from tests.kafka.broker import ApacheKafka
from tests.live.conftest import environment

ROOT = Path(__file__).parents[2]
STOP_AT, CLOCK = "ISOTHERM_TEST_STOP_AT", "ISOTHERM_TEST_CLOCK"
NEXT_BUILD = "ISOTHERM_TEST_NEXT_BUILD"
WHOLE_WITHIN_S = 120.0  # a machine with much else to do takes its time
REPLICATED_WITHIN_S = 20.0


class Node(ApacheKafka):
    """One of several, broker and controller. Workers reach it by its proxy, tests and brokers at `address`."""

    def __init__(self, directory: Path, number: int, proxy: Proxy) -> None:
        super().__init__(directory)
        self.number, self.proxy = number, proxy
        self.controller = self._controller
        self.quorum = ""
        proxy.retarget(f"127.0.0.1:{free_port()}")

    def settings(self) -> dict[str, str]:
        return super().settings() | {
            "node.id": str(self.number),
            "controller.quorum.voters": self.quorum,
            "listeners": f"PLAINTEXT://{self.address},PROXIED://{self.proxy.target},CONTROLLER://{self.controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address},PROXIED://{self.proxy.address}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "broker.heartbeat.interval.ms": "500",
            "broker.session.timeout.ms": "4000",
            "min.insync.replicas": "2",
            "offsets.topic.replication.factor": "3",
            "transaction.state.log.replication.factor": "3",
            "transaction.state.log.min.isr": "2",
            "share.coordinator.state.topic.replication.factor": "3",
            "share.coordinator.state.topic.min.isr": "2",
        }

    def metadata(self) -> Any:
        """The cluster as this broker sees it, or one that it named; None when it is away."""
        quiet = logging.getLogger("unheard")
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0, "logger": quiet})
        try:
            return admin.list_topics(timeout=10)
        except KafkaException:
            return None

    async def shows(self) -> set[str]:
        """The topics that this very broker knows of."""
        host, _, port = self.address.rpartition(":")
        connection = await create_conn(host, int(port))
        try:
            answer = await connection.send(MetadataRequest(None))
        finally:
            connection.close()
        return {topic for _, topic, *_ in answer.topics}


class Cluster(Startable):
    """Three brokers on loopback; a topic with three replicas takes writes while two of them live."""

    def __init__(self, directory: Path, size: int = 3) -> None:
        self.proxies = [Proxy() for _ in range(size)]
        self.nodes = [Node(directory / f"broker{n}", n, proxy) for n, proxy in enumerate(self.proxies, 1)]
        for node in self.nodes:
            node.quorum = ",".join(f"{each.number}@{each.controller}" for each in self.nodes)

    @property
    def direct(self) -> str:
        return ",".join(node.address for node in self.nodes)

    @property
    def proxied(self) -> str:
        return ",".join(proxy.address for proxy in self.proxies)

    def starting(self) -> Waits:
        try:
            yield from self._reviving()
        except BaseException:
            self.kill()
            raise

    def _reviving(self) -> Waits:
        down = [node for node in self.nodes if node._exited()]
        for node in down:
            node.kill()  # forgets one that ended by itself
        yield from _together(*(node.starting() for node in down))
        yield from _until(self.is_whole, WHOLE_WITHIN_S)
        assert self.is_whole()

    def is_whole(self) -> bool:
        """All brokers are in, and every replica has what its leader has."""
        told = self.nodes[0].metadata()
        return (
            told is not None
            and len(told.brokers) == len(self.nodes)
            and all(each.leader >= 0 and len(each.isrs) == len(each.replicas) for each in _partitions(told))
        )

    def stopping(self) -> Waits:
        try:
            yield from _together(*(node.stopping() for node in self.nodes))
        finally:
            self.kill()
            for proxy in self.proxies:
                proxy.__exit__()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def revive(self) -> None:
        """Whoever does not run is started again, and nothing stands in the way of anybody."""
        _wait(self._reviving())
        for proxy in self.proxies:
            proxy.heal()


KEEPS = {
    "aof-always": ("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
    "aof-everysec": ("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
    "rdb": ("--appendonly", "no", "--save", ""),
}


class Valkey(Server):
    """A Valkey on a loopback port. `keeps` says what a kill leaves: aof-always, aof-everysec or rdb."""

    def __init__(self, directory: Path, keeps: str = "aof-everysec") -> None:
        super().__init__(directory)
        self.port, self._keeps = free_port(), KEEPS[keeps]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            *(str(_valkey()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.data)),
            *self._keeps,
            *("--maxmemory-policy", "noeviction", "--set-proc-title", "no", "--daemonize", "no"),
        ]

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.5) as peer:
                peer.sendall(b"PING\r\n")
                return peer.recv(5) == b"+PONG"
        except OSError:
            return False

    def ask(self, *command: Any) -> Any:
        with Redis(port=self.port, socket_timeout=5) as redis:
            return redis.execute_command(*command)


def _partitions(told: Any) -> list[Any]:
    return [each for topic in told.topics.values() for each in topic.partitions.values()]


class RedisPair(Startable):
    """A primary and its replica behind one address, as a floating IP or a proxy would give them."""

    def __init__(self, directory: Path, keeps: str = "aof-everysec") -> None:
        self.primary, self.replica = Valkey(directory / "primary", keeps), Valkey(directory / "replica", keeps)
        self.proxy = Proxy(self.primary.address)

    @property
    def direct(self) -> str:
        """Of whichever serves now."""
        return f"redis://{self.proxy.target}/0"

    @property
    def proxied(self) -> str:
        return f"redis://{self.proxy.address}/0"

    def starting(self) -> Waits:
        yield from _together(self.primary.starting(), self.replica.starting())
        self.replica.ask("REPLICAOF", "127.0.0.1", str(self.primary.port))
        yield from _until(self._is_replicated, REPLICATED_WITHIN_S)
        assert self._is_replicated()

    def _is_replicated(self) -> bool:
        return bool(self.replica.ask("INFO", "replication")["master_link_status"] == "up")

    def stopping(self) -> Waits:
        try:
            yield from _together(self.primary.stopping(), self.replica.stopping())
        finally:
            self.primary.kill()
            self.replica.kill()
            self.proxy.__exit__()

    def detach(self) -> None:
        """From here on the replica hears of nothing: what is written will be lost by `promote`."""
        self.replica.ask("REPLICAOF", "NO", "ONE")

    def promote(self) -> None:
        """The primary is gone, the replica takes its place."""
        self.primary.kill()
        self.primary, self.replica = self.replica, self.primary
        self.proxy.retarget(self.primary.address)

    def follow(self) -> None:
        """Who was the primary comes back, and follows."""
        self.replica.start()
        self.replica.ask("REPLICAOF", "127.0.0.1", str(self.primary.port))
        _wait(_until(self._is_replicated, REPLICATED_WITHIN_S))


@dataclass
class Worker:
    """`isotherm worker` as a process. `stop_at="commit:3:KILL"`: it kills itself there, the third time."""

    settings: Settings
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, stop_at: str = "", clock: str = "", next_build: bool = False) -> Self:
        """`clock="3600,1.05"`: its own clock is an hour ahead, and goes 5 % too fast."""
        given = environment(self.settings) | {STOP_AT: stop_at, CLOCK: clock}
        given |= {NEXT_BUILD: "1"} if next_build else {}
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "tests.faults.worker_main"]
            self.process = subprocess.Popen(command, env=given, cwd=ROOT, stdout=log, stderr=log)
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def is_stopped(self) -> bool:
        """By SIGSTOP."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    @property
    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def terminate(self) -> None:
        assert self.process is not None
        self.process.terminate()

    def ends(self, within_s: float) -> bool:
        """Waits for its end; one that does not come says where it hangs."""
        assert self.process is not None
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGUSR1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2)
            return False
        return True

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log of that kind."""
        said = [line[line.index('{"') :] for line in self.log.read_text().splitlines() if '{"' in line]
        lines = [json.loads(line) for line in said if line.endswith("}")]
        return [line for line in lines if line["event"] == event]

    def peak_mb(self) -> float:
        """The most memory it has had, MB; 0 when it is gone."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0.0
        return int(next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), 0)) / 1024

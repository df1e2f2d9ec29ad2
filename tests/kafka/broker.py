"""Apache Kafka and Redis as children of this process, in the shape of `streams.embedded`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from streams.embedded import DidNotStart, NotInstalled, Server, Valkey, free_port, speaks_kafka

HERE = Path(__file__).parent
JARS = HERE / "jars"
OLDEST_JAVA = 17

_CLUSTER = "aXNvdGhlcm0tdGVzdHMtMQ"  # 16 bytes in base64, as Kafka wants its ids
_JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true")
_LOGGING = """\
status=warn
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""


class ApacheKafka(Server):
    """One node, broker and controller in one JVM, on loopback; its data outlives a restart of the same object."""

    start_within = 60.0
    stop_within = 15.0

    def __init__(self, directory: Path, *, fresh: bool = True, jars: Path = JARS) -> None:
        super().__init__(directory, fresh=fresh)
        self.address = f"127.0.0.1:{free_port()}"
        self._controller = f"127.0.0.1:{free_port()}"
        self._jars = jars
        self._properties = self.directory / "server.properties"

    def command(self) -> list[str]:
        return [*self._java(), "kafka.Kafka", str(self._properties)]

    def answers(self) -> bool:
        return speaks_kafka(self.address)

    def prepare(self) -> None:
        self._properties.write_text(self._settings())
        (self.directory / "log4j2.properties").write_text(_LOGGING)
        if not (self.data / "meta.properties").exists():
            self._format()

    def _java(self) -> list[str]:
        java = shutil.which("java")
        if java is None:
            raise NotInstalled(f"Apache Kafka needs Java {OLDEST_JAVA} or newer; there is no `java` on the PATH")
        logging = f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}"
        return [java, *_JVM, logging, "-cp", f"{self._jars.absolute()}/*"]

    def _format(self) -> None:
        tool = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(self._properties)]
        done = subprocess.run([*self._java(), *tool], capture_output=True, text=True, check=False)
        if done.returncode:
            raise DidNotStart(f"Formatting {self.data} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def _settings(self) -> str:
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{self._controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{self._controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.data),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",  # so that tests of lost workers need not wait 6 s
            "broker.heartbeat.interval.ms": "300",
            "broker.session.timeout.ms": "1500",  # a killed broker is let in again only after this
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())


class RedisServer(Valkey):
    """The system's `redis-server`; NotInstalled when there is none."""

    def __init__(self, directory: Path, *, fresh: bool = True) -> None:
        found = shutil.which("redis-server")
        if found is None:
            raise NotInstalled("There is no `redis-server` on the PATH")
        super().__init__(directory, fresh=fresh, binary=Path(found))


def java_version() -> int:
    """The major version of the `java` on the PATH; 0 when there is none that says."""
    java = shutil.which("java")
    if java is None:
        return 0
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else 0

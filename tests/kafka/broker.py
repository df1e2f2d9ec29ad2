"""Apache Kafka and Redis as children of this process, in the shape of `streams.embedded`."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
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
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in self.settings().items()))
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
        tool = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(self._properties), *self.users()]
        done = subprocess.run([*self._java(), *tool], capture_output=True, text=True, check=False)
        if done.returncode:
            raise DidNotStart(f"Formatting {self.data} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def users(self) -> list[str]:
        """Options that make users who are known from the first start on."""
        return []

    def settings(self) -> dict[str, str]:
        return {
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


class SecuredKafka(ApacheKafka):
    """The same with TLS, SASL and an authorizer: nobody may do anything but `ADMIN`, until an ACL says so.

    Its certificate is made out to `localhost`. `passwords` are those of SCRAM; PLAIN knows `ADMIN` alone, and
    OAUTHBEARER takes tokens that nobody signed.
    """

    ADMIN = "admin"

    def __init__(self, directory: Path, chain: Path, ca: Path, passwords: dict[str, str]) -> None:
        """`chain` is a PEM file with the broker's key and certificate, `ca` the authority's."""
        super().__init__(directory)
        self._port = int(self.address.rpartition(":")[2])
        self.address = f"localhost:{self._port}"
        self._chain, self._ca, self._passwords = chain, ca, passwords

    def answers(self) -> bool:
        """Once it shows its certificate; it says more only to whom it knows."""
        try:
            with (
                socket.create_connection(("localhost", self._port), timeout=0.5) as peer,
                ssl.create_default_context(cafile=str(self._ca)).wrap_socket(peer, server_hostname="localhost"),
            ):
                return True
        except OSError:
            return False

    def users(self) -> list[str]:
        made = (f"SCRAM-SHA-512=[name={name},password={password}]" for name, password in self._passwords.items())
        return [part for each in made for part in ("--add-scram", each)]

    def settings(self) -> dict[str, str]:
        security, password = "org.apache.kafka.common.security", self._passwords[self.ADMIN]
        nobody = 'unsecuredLoginStringClaim_sub="nobody"'
        plain = f'username="{self.ADMIN}" password="{password}" user_{self.ADMIN}="{password}"'
        ours = "listener.name.sasl_ssl"
        return super().settings() | {
            "listeners": f"SASL_SSL://{self.address},CONTROLLER://{self._controller}",
            "advertised.listeners": f"SASL_SSL://{self.address}",
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "SASL_SSL",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512,OAUTHBEARER",
            f"{ours}.plain.sasl.jaas.config": f"{security}.plain.PlainLoginModule required {plain};",
            f"{ours}.scram-sha-512.sasl.jaas.config": f"{security}.scram.ScramLoginModule required;",
            f"{ours}.oauthbearer.sasl.jaas.config": (
                f"{security}.oauthbearer.OAuthBearerLoginModule required {nobody};"
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._chain),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._ca),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # ANONYMOUS is the controller, on a port of its own.
            "super.users": f"User:{self.ADMIN};User:ANONYMOUS",
        }


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

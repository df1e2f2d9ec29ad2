"""Run the tests of servers against Apache Kafka and redis-server: python tests/kafka/run.py [pytest arguments]

Those marked `kafka` or `redis`, with the embedded Valkey where no redis-server is installed. The status is
pytest's, or 75 when Apache Kafka cannot be had here: no Java 17, no Maven, or no answer from Maven Central. With
ISOTHERM_KAFKA_OPTIONAL=1 that passes instead, as loudly.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from broker import HERE, JARS, OLDEST_JAVA, ApacheKafka, RedisServer, java_version

from streams.embedded import NotInstalled

ROOT = HERE.parent.parent
POM = HERE / "pom.xml"
CANNOT_RUN = 75  # EX_TEMPFAIL in sysexits.h
MAVEN_WITHIN = 600  # seconds; about 45 MB the first time
MAVEN = [
    *("mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"),
    # How long to wait for Maven Central, in the words of Maven 3.8 and of 3.9.
    *("-Dmaven.wagon.http.connectionTimeout=15000", "-Dmaven.wagon.rto=60000"),
    *("-Daether.connector.connectTimeout=15000", "-Daether.connector.requestTimeout=60000"),
]


# What a browser shows, and what the pages say, does not depend on which broker it comes from.
ONCE = ("--ignore", "tests/page", "--ignore", "tests/docs")


class Unobtainable(Exception):
    """Apache Kafka cannot be had here, and why."""


def main(arguments: list[str]) -> int:
    try:
        obtain()
    except Unobtainable as error:
        return without(error)
    with tempfile.TemporaryDirectory(prefix="isotherm-kafka-") as directory:
        return run(Path(directory), arguments)


def obtain() -> None:
    """Fill `jars/` with what pom.xml names, unless it is."""
    if java_version() < OLDEST_JAVA:
        raise Unobtainable(f"it needs Java {OLDEST_JAVA} or newer (found {java_version() or 'none'})")
    if not up_to_date():
        download()


def up_to_date() -> bool:
    """The pom is copied beside the jars last, so that it vouches for them."""
    copied = JARS / POM.name
    return copied.exists() and copied.read_bytes() == POM.read_bytes()


def download() -> None:
    if shutil.which("mvn") is None:
        raise Unobtainable("its jars come through Maven, and there is no `mvn` on the PATH")
    print("Fetching Apache Kafka from Maven Central ...", flush=True)
    shutil.rmtree(JARS, ignore_errors=True)
    try:
        subprocess.run([*MAVEN, f"-DoutputDirectory={JARS}"], check=True, timeout=MAVEN_WITHIN)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise Unobtainable("Maven could not get its jars (its own words stand above)") from error
    shutil.copy(POM, JARS)


def run(directory: Path, arguments: list[str]) -> int:
    """On one broker, and the system's redis-server if there is one: `make test` has the embedded pair."""
    with ApacheKafka(directory / "kafka") as kafka, ExitStack() as stack:
        servers = {"ISOTHERM_TEST_KAFKA": kafka.address, "ISOTHERM_TEST_KAFKA_PID": str(kafka.pid)}
        try:
            redis = stack.enter_context(RedisServer(directory / "redis"))
        except NotInstalled as error:
            say(f"NOT TESTED against redis-server: {error}")
            say(f"Apache Kafka at {kafka.address}, embedded Valkey")
        else:
            servers["ISOTHERM_TEST_REDIS"] = redis.url
            say(f"Apache Kafka at {kafka.address}, redis-server")
        return pytest(arguments, **servers)


def pytest(arguments: list[str], **environment: str) -> int:
    command = [sys.executable, "-m", "pytest", "-m", "kafka or redis", *ONCE, *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=False).returncode


def without(error: Unobtainable) -> int:
    say(f"APACHE KAFKA NOT TESTED: {error}")
    if os.environ.get("ISOTHERM_KAFKA_OPTIONAL") == "1":
        say("Passing nevertheless, because ISOTHERM_KAFKA_OPTIONAL=1")
        return 0
    return CANNOT_RUN


def say(line: str) -> None:
    print(f"\n==== {line}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The demo's worker: `isotherm worker` as a child process that dies with the demo.

Its settings are a file of `export` lines: a shell that sources the same file reaches the same broker and Valkey.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

from pydantic import SecretStr
from redis import Redis
from redis.exceptions import RedisError

from streams import keys
from streams.embedded import Server
from streams.keys import PartitionKeys
from streams.settings import Settings
from streams.topics import SOURCE_PARTITIONS, SOURCES

LOOK_EVERY_S = 0.1


class Worker(Server):
    """Serves once it owns every partition: then nothing that is sent has to wait for it."""

    start_within = 45.0
    stop_within = 10.0

    def __init__(self, directory: Path, settings: Settings, environment: Path) -> None:
        super().__init__(directory / "worker")
        self.log = directory.absolute() / "worker.log"
        self._settings = settings
        self._environment = environment.absolute()
        self._looked = 0.0
        self._owns = False

    def command(self) -> list[str]:
        return [sys.executable, "-m", "streams.demo.worker", str(self._environment)]

    def answers(self) -> bool:
        """Asked every few milliseconds, looks now and then."""
        if not self._owns and time.monotonic() - self._looked > LOOK_EVERY_S:
            self._looked = time.monotonic()
            self._owns = self._owns_every_partition()
        return self._owns

    @property
    def runs(self) -> bool:
        return not self._exited()

    def _owns_every_partition(self) -> bool:
        """True once each partition's key stands in Redis: taking a partition over writes it."""
        owned = self._owned_keys()
        try:
            with Redis.from_url(self._settings.redis, socket_timeout=0.5) as redis:
                return bool(redis.exists(*owned) == len(owned))
        except RedisError:
            return False

    def _owned_keys(self) -> list[str]:
        settings = self._settings
        log = [
            PartitionKeys.of(p, settings.partitions, settings.namespace).meta for p in range(settings.partitions)
        ]
        return log + [
            keys.source(settings.topics(role), p, settings.namespace)
            for role in SOURCES
            for p in range(SOURCE_PARTITIONS)
        ]


def write_environment(path: Path, settings: Settings) -> None:
    """Every setting as an `export` line; readable by this user only, for the person key is a secret."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        for name in type(settings).model_fields:
            value = getattr(settings, name)
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            file.write(f"export ISOTHERM_{name.upper()}={shlex.quote(text)}\n")


def read_environment(path: Path) -> dict[str, str]:
    lines = (shlex.split(line) for line in path.read_text().splitlines())
    return dict(assignment.split("=", 1) for _, assignment in lines)


def main() -> None:
    from streams.run import work

    os.environ.update(read_environment(Path(sys.argv[1])))
    work(Settings())


if __name__ == "__main__":
    main()

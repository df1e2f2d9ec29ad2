"""What other languages need to be run from a test; where it is missing the test is skipped and says why."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

INSTALLED_WITHIN_S = 300


def node(package: Path) -> str:
    """The `node` to run, the packages in `package` installed as its lock file says."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        pytest.skip("there is no `node` and `npm` on the PATH")
    with (package / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of the tests may be at it
        if not _is_installed(package):
            _install(npm, package)
    return found


def _is_installed(package: Path) -> bool:
    """The lock file is copied beside the packages last, so that it vouches for them."""
    copied = package / "node_modules" / "installed-by.json"
    return copied.exists() and copied.read_bytes() == (package / "package-lock.json").read_bytes()


def _install(npm: str, package: Path) -> None:
    # No package's own scripts are run.
    command = [
        npm,
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--fetch-retries=1",
        "--fetch-timeout=30000",
    ]
    try:
        done = subprocess.run(
            command, cwd=package, capture_output=True, text=True, check=False, timeout=INSTALLED_WITHIN_S
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm could not install {package.name} within {INSTALLED_WITHIN_S} s")
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        pytest.skip(f"npm could not install {package.name}: {'; '.join(said[:3])}")
    shutil.copy(package / "package-lock.json", package / "node_modules" / "installed-by.json")


def java(jars: Path, oldest: int) -> tuple[str, str]:
    """The `java` to run and a class path with Kafka's client and Jackson."""
    from tests.kafka.broker import java_version

    if java_version() < oldest:
        pytest.skip(f"it needs Java {oldest} or newer (found {java_version() or 'none'})")
    if not list(jars.glob("kafka-clients-*.jar")):
        pytest.skip("there are no jars of Kafka's client: `make test-kafka` fetches them")
    return str(shutil.which("java")), f"{jars}/*"

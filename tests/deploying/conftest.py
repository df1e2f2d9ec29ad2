"""The parts of the live tests: a worker, what it publishes, and commands as processes."""

from tests.live.conftest import changes, producer, receiver, settings, worker

__all__ = ["changes", "producer", "receiver", "settings", "worker"]

"""What `isotherm verify` found last, left in Redis for whoever watches: /metrics of `isotherm serve`, the page and
`isotherm status`. Accounts that somebody named are not left: one that is well says nothing of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from redis.exceptions import RedisError

from rules.changes import iso
from streams import keys
from streams.metrics import Sample
from streams.settings import Settings
from streams.store.redis import connect


class Verified(msgspec.Struct, frozen=True):
    """As of `at`, UTC ms: how many accounts were compared, and what differed, by kind (see `verifying`)."""

    at: int
    compared: int
    over: int
    under: int
    answers: int
    wakes: int
    sets: int

    @property
    def differences(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("over", "under", "answers", "wakes", "sets")}

    def plain(self) -> dict[str, Any]:
        return {"at": iso(self.at), "accounts": self.compared, **self.differences}

    def samples(self) -> Iterator[Sample]:
        yield Sample("isotherm_verified_time_seconds", (), self.at / 1000)
        yield Sample("isotherm_verified_accounts", (), self.compared)
        for kind, count in self.differences.items():
            yield Sample("isotherm_verified_differences", (kind,), count)


async def leave(settings: Settings, found: Mapping[str, int]) -> str:
    """Why it could not be left; "" once it was."""
    redis = connect(settings)
    try:
        seconds, micros = await redis.time()
        told: dict[Any, Any] = {"at": seconds * 1000 + micros // 1000}
        told |= {name: found[name] for name in Verified.__struct_fields__ if name != "at"}
        await redis.hset(keys.verified(settings.namespace), mapping=told)
    except (RedisError, OSError) as error:
        return str(error) or type(error).__name__
    finally:
        await redis.aclose()
    return ""


async def last_verified(redis: Any, namespace: str) -> Verified | None:
    """None where nobody has verified yet, or this code cannot read what was left."""
    found = await redis.hgetall(keys.verified(namespace))
    try:
        told = {name.decode(): value.decode() for name, value in found.items()}
        return msgspec.convert(told, Verified, strict=False) if told else None
    except (msgspec.ValidationError, UnicodeDecodeError):
        return None

"""Every Redis key, in one place.

All keys of a log partition carry the same hash tag and so lie in one slot of a cluster: its owner's commit is
one script on one node. Tags are chosen so that the slots of partitions are evenly spaced.

| key | type | holds | owner |
| --- | --- | --- | --- |
| ns:{tag}:meta | hash | token, offset, batch, partition (packed), words | fold |
| ns:{tag}:accounts | hash | account → state (packed and squeezed, see store.base) | fold |
| ns:{tag}:wakes | sorted set | account by the instant it is due, UTC ms | fold |
| ns:{tag}:in:DIM/SEG | set | accounts in that segment | fold |
| ns:{tag}:tally:DAY | hash | DIM/SEG/WHAT → how many, that UTC day (see rules.tally) | fold |
| ns:{tag}:outbox | stream | committed, not yet published; id: log offset | fold adds, publisher trims |
| ns:{tag}:ruleset | string | the ruleset in force, JSON of its files | fold |
| ns:rebuild:{tag}:… | | the same once more, while `isotherm rebuild` folds the log into it | rebuild |
| ns:shadow:{tag}:… | | the same under other rules, while `isotherm shadow run` folds the log into it | shadow |
| ns:{ids}:src:TOPIC/P | hash | where we read: the fields of `SourceHeld` | router |
| ns:{ids}:links:N | hash | identity links, packed: eight bytes of a digest → account and person | router |
| ns:{ids}:changed | string | by what save links were changed last | router |
| ns:{ids}:restoring | hash | token, done: who restores links that Redis has lost, how far | router |
| ns:{ids}:conflicts | hash | domain → who has it, and who claims it too | router |
| ns:{sizes}:day, ns:{sizes}:35d | sorted set | sizes of segments (packed) by instant, see remembering | serve |
| ns:{quality}:day, ns:{quality}:35d | sorted set | the same of how many accounts, and facts known | serve |
| ns:{shadow}:day, ns:{shadow}:35d | sorted set | the same of how rules in the shadow differed | shadow |
| ns:{sizes}:turn, ns:{quality}:turn | string, expires | a sample is taken: nobody else takes one now | serve |
| ns:partitions | string | how many partitions this state was made for | worker |
| ns:owners | hash | partition → who folds it, when they said so, why they do not (JSON; for people) | worker |
| ns:verified | hash | what `isotherm verify` found last, and when | commands |
| ns:deploying | string, expires | who puts rules in force right now: one at a time | commands |
| ns:{alerts}:states | hash | account → its alerts, as in alerts.state | alerting |
| ns:{alerts}:queue:WHO | sorted set | account by when WHO may be told; nobody: when time changes it | alerting |
| ns:{alerts}:queues | set | WHO may have something waiting | alerting |
| ns:{alerts}:sent:WHO | sorted set | messages by when they were sent, for the limit | alerting |
| ns:{alerts}:turn:WHO | string, expires | who sends there now, or that nobody does for a moment | alerting |
| ns:{alerts}:writer | string, expires | the token of who writes states now | alerting |
| ns:{alerts}:whole | string | that all that is in alerts.state is here | alerting |
| ns:{to.NAME}:status | hash | of an endpoint: owners, since when it fails, what is asked of it | delivery |
| ns:{to.NAME}:waiting:P | hash | change → a delivery that failed and is tried again (packed) | delivery |
| ns:{to.NAME}:records | hash | change → what came of its delivery (packed) | delivery |
| ns:{to.NAME}:done:HOW | sorted set | changes that were delivered, given up or superseded, by when | delivery |
| ns:{to.NAME}:asked | hash | change → a delivery that somebody wants made again (packed) | commands |
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from functools import lru_cache

SLOTS = 16_384
NAMESPACE = "isotherm"


@lru_cache(1024)
def tag(partition: int, partitions: int) -> str:
    """A hash tag whose cluster slot lies in the partition's own share of the slots."""
    low, high = partition * SLOTS // partitions, (partition + 1) * SLOTS // partitions
    for i in range(1_000_000):
        text = f"{partition}" if i == 0 else f"{partition}.{i}"
        if low <= binascii.crc_hqx(text.encode(), 0) % SLOTS < high:
            return text
    raise ValueError(f"no tag for partition {partition} of {partitions}")


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    prefix: str

    @classmethod
    def of(cls, partition: int, partitions: int, namespace: str = NAMESPACE) -> PartitionKeys:
        return cls(f"{namespace}:{{{tag(partition, partitions)}}}")

    @property
    def meta(self) -> str:
        return f"{self.prefix}:meta"

    @property
    def accounts(self) -> str:
        return f"{self.prefix}:accounts"

    @property
    def wakes(self) -> str:
        return f"{self.prefix}:wakes"

    @property
    def outbox(self) -> str:
        return f"{self.prefix}:outbox"

    @property
    def ruleset(self) -> str:
        return f"{self.prefix}:ruleset"

    def tally(self, day: int) -> str:
        return f"{self.prefix}:tally:{day}"

    def members(self, dimension: str, segment: str) -> str:
        return f"{self.prefix}:in:{dimension}/{segment}"

    @property
    def all(self) -> str:
        """A pattern that SCAN matches with every key of the partition."""
        return re.sub(r"([*?\[\]\\])", r"\\\1", self.prefix) + ":*"

    def place(self, key: str) -> tuple[str, str] | None:
        """(dimension, segment) of a key that is a set of members."""
        _, found, place = key.partition(f"{self.prefix}:in:")
        dimension, _, segment = place.partition("/")
        return (dimension, segment) if found else None


def rebuilt(namespace: str = NAMESPACE) -> str:
    """Where the log is folded once more, beside the live namespace: whoever may use that one, may use this one."""
    return f"{namespace}:rebuild"


def source(topic: str, partition: int, namespace: str = NAMESPACE) -> str:
    return f"{namespace}:{{ids}}:src:{topic}/{partition}"


def partitions(namespace: str = NAMESPACE) -> str:
    return f"{namespace}:partitions"


def owners(namespace: str = NAMESPACE) -> str:
    return f"{namespace}:owners"


def verified(namespace: str = NAMESPACE) -> str:
    return f"{namespace}:verified"


def links(namespace: str = NAMESPACE) -> str:
    """What the packed hashes of links are called, but for their number."""
    return f"{namespace}:{{ids}}:links:"


def changed(namespace: str = NAMESPACE) -> str:
    return f"{namespace}:{{ids}}:changed"


def restoring(namespace: str = NAMESPACE) -> str:
    return f"{namespace}:{{ids}}:restoring"


def conflicts(namespace: str = NAMESPACE) -> str:
    return f"{namespace}:{{ids}}:conflicts"


def deploying(namespace: str = NAMESPACE) -> str:
    return f"{namespace}:deploying"


def alerts(what: str, namespace: str = NAMESPACE) -> str:
    """All in one slot: one script writes states and queues together."""
    return f"{namespace}:{{alerts}}:{what}"


@dataclass(frozen=True, slots=True)
class EndpointKeys:
    """Of one endpoint that changes are delivered to; all in one slot."""

    prefix: str

    @classmethod
    def of(cls, name: str, namespace: str = NAMESPACE) -> EndpointKeys:
        return cls(f"{namespace}:{{to.{name}}}")

    @property
    def status(self) -> str:
        return f"{self.prefix}:status"

    @property
    def records(self) -> str:
        return f"{self.prefix}:records"

    @property
    def asked(self) -> str:
        return f"{self.prefix}:asked"

    def waiting(self, partition: int) -> str:
        return f"{self.prefix}:waiting:{partition}"

    def done(self, how: str) -> str:
        return f"{self.prefix}:done:{how}"


def remembered(what: str, which: str, namespace: str = NAMESPACE) -> str:
    """All of one thing that is sampled lie in one slot."""
    return f"{namespace}:{{{what}}}:{which}"

"""How good the data is, from every account as it stands: read in slices in the background, and kept for a while.

100,000 accounts take ten to fifteen seconds of work. They are spread out so that whoever looks at another page
meanwhile does not wait, and the whole is done anew at most as often as it takes a tenth of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec
import structlog
from redis.exceptions import RedisError

from rules.quality import Quality
from rules.records import is_visitor
from rules.ruleset import Dimension, Ruleset
from rules.state import NEVER, UNCLASSIFIED, AccountState, standing_in
from streams.api.app import Api
from streams.clock import ClockSteppedError
from streams.page.keeping import Kept
from streams.page.views.account import leaves
from streams.remembering import MONTH, Remembered
from streams.store.base import unpack_state

log = structlog.get_logger()
ANEW_S = 30.0
AT_ONCE_S, REST_S = 0.01, 0.02  # of work without a pause, and how long that is

Known = tuple[int, dict[str, int]]  # how many accounts there were; fact -> of how many it was known


class BySource(msgspec.Struct):
    """What one source says of one fact, as far as it is its word that counts."""

    accounts: int = 0
    stale: int = 0
    nearly: int = 0
    confidence: float = 0.0


@dataclass(slots=True)
class Survey:
    """The survey of all accounts, as of an instant."""

    at: int
    quality: Quality = field(default_factory=Quality)
    sources: dict[tuple[str, str], BySource] = field(default_factory=dict)  # (fact, source)
    # (fact, dimension) -> accounts undecided there because the fact is missing or not understood
    gaps: Counter[tuple[str, str]] = field(default_factory=Counter)
    claimed_twice: dict[str, str] = field(default_factory=dict)

    def take(self, state: AccountState, ruleset: Ruleset) -> None:
        """Counts one more account."""
        self.quality.survey(state, ruleset, self.at)
        if state.deleted:
            return
        for name, rule in ruleset.facts.items():
            fact = state.facts.get(name)
            if fact is None or fact.value is None:
                continue
            by = self.sources.setdefault((name, fact.source or "not said"), BySource())
            by.accounts += 1
            by.stale += rule.refresh < NEVER and self.at - fact.at > rule.refresh
            if fact.match is not None:
                by.nearly += 1
                by.confidence += fact.match[1]
        if state.quarantined >= 0:
            return  # nothing is asked of it: it may raise
        for dimension in ruleset.dimensions:
            self.gaps.update((fact, dimension.name) for fact in self._lacking(dimension, state, ruleset))

    def _lacking(self, dimension: Dimension, state: AccountState, ruleset: Ruleset) -> set[str]:
        """The facts for want of which nobody knows where on a ladder it is, or whether it is in some of a set."""
        if dimension.kind == "set":
            gone = {name for name in facts_of(dimension.reads) if ruleset.views[name].value(state.facts) is None}
            asked = ((each, gone & facts_of(each.condition.reads)) for each in dimension.segments if gone)
            return {name for each, gone in asked if gone and each.is_unknown(state, self.at) for name in gone}
        if standing_in(state, dimension.name).answer != (UNCLASSIFIED,):
            return set()
        told = dimension.tell(UNCLASSIFIED, state, self.at)
        return {each["fact"] for each in leaves(told) if each["verdict"] == "unknown" and "fact" in each}


@lru_cache(1024)
def facts_of(reads: frozenset[str]) -> frozenset[str]:
    """Of what is read, the names of facts."""
    return frozenset(each.removeprefix("fact:") for each in reads if each.startswith("fact:"))


@dataclass(slots=True)
class Surveys:
    api: Api
    partitions: int
    trend: Remembered[Known]
    done: int = 0  # accounts of the survey that is being made
    of: int = 0
    newest: Kept[Survey] = field(init=False)

    def __post_init__(self) -> None:
        self.newest = Kept(self._make, age_s=ANEW_S, share=0.1)

    async def run(self) -> None:
        """Until it is cancelled: also when nobody looks, there is one for each of the trend's coarse steps."""
        while True:
            await asyncio.sleep(MONTH.step / 1000)
            try:
                await self.api.clock.keep()
                await self.trend.read()
                if self.trend.is_due(MONTH, self.api.clock.now()):
                    await self.newest.get()
            except (RedisError, OSError, ClockSteppedError) as error:
                log.info("no survey", why=f"{type(error).__name__}: {error}")

    async def _make(self) -> Survey:
        await self.api.clock.keep()
        reader, survey = self.api.reader, Survey(self.api.clock.now())
        self.done, self.of = 0, sum([await reader.size(number) for number in range(self.partitions)])
        began = time.monotonic()
        for number in range(self.partitions):
            async for some in reader.slices(number):
                for account, blob in some.accounts.items():
                    self.done += 1
                    if not is_visitor(account):
                        state = unpack_state(blob)
                        if not state.merged_into:
                            survey.take(state, some.ruleset)
                    if time.monotonic() - began > AT_ONCE_S:
                        await asyncio.sleep(REST_S)
                        began = time.monotonic()
        survey.claimed_twice = await reader.claimed_twice()
        now = self.api.clock.now()
        if await self.trend.wants(now):
            known = {name: each.known for name, each in survey.quality.facts.items()}
            await self.trend.keep(now, (survey.quality.accounts, known))
        return survey

"""A ruleset as it runs: dimensions compiled to closures, and an index from what changed to what to ask again.

Built once per ruleset by `compiler`, then only read. `step` looks up which measures an activity feeds and
which dimensions a changed fact or measure can move; nothing else is evaluated. Dimensions stand in an order in
which each comes after those that its rules refer to, so one pass over them settles all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import islice
from typing import Literal

from rules import membership, overriding
from rules.comparing import Reader
from rules.conditions import WORD, Condition, Decide, Told
from rules.durations import in_words
from rules.facts import FactRule
from rules.filling import Filled, Filling, lacking
from rules.membership import Rule, Settle
from rules.records import Activity
from rules.state import NEVER, NOWHERE, UNCLASSIFIED, AccountState, Answer, Standing, copy, standing_in

ANY_ACTIVITY = "any"
FILLED_KEPT = 8
LOOKED_AHEAD = 64  # wakes that `stays_until` walks before it settles for the last

Matches = Callable[[Activity], bool]
# (mine, theirs, offset of the record that brings theirs, log_time, whether some events came to both) -> one
Join = Callable[[bytes, bytes, int, int, bool], bytes]


@dataclass(frozen=True, slots=True)
class Kept:
    """A measure as accounts keep it: the empty one, from its floor, and what becomes of two.

    `fill(mine, theirs, how)` puts in what happened before a switch. `since(measure, offset, floor)` is what came
    at that log offset or later; None where the measure cannot tell.
    `renamed(measure, person, same_as)`, where people are told apart: what one did is the other's, or nobody's.
    """

    empty: Callable[[int], bytes]
    join: Join
    fill: Callable[[bytes, bytes, Filled], bytes]
    since: Callable[[bytes, int, int], bytes] | None
    size: tuple[int, int]  # how many entries are kept at most, and how many ms
    renamed: Callable[[bytes, str, str | None], bytes] | None = None

    def is_more_than(self, other: Kept) -> bool:
        return self.size[0] > other.size[0] or self.size[1] > other.size[1]


@dataclass(frozen=True, slots=True)
class Feed:
    """How one activity changes one measure, and which dimensions read it.

    `add(value, at, activity, log_time)` gives the measure with one more activity. One that is `longest` old or
    older when it arrives lies outside every window and changes no answer; the measure only notes that it is
    missing, for a rule that may one day ask further back.

    `asked` is what conditions ask of the measure: while each says the same as before, and not for less long, no
    dimension needs to be asked again. Their wakes may then come early, never late.
    """

    measure: str
    matches: Matches | None  # None: every activity of that name
    add: Callable[[bytes, int, Activity, int], bytes]
    empty: bytes
    longest: int
    dimensions: tuple[int, ...]
    asked: tuple[Decide, ...] = ()
    renews: Callable[[bytes, Activity, int], bool] | None = None  # tells quickly that nobody need be asked


@dataclass(frozen=True, slots=True)
class Segment:
    """One answer: its rule, and what people are to know and do about it."""

    name: str
    condition: Condition
    owner: str = ""
    action: dict[str, str] = field(default_factory=dict)
    description: str = ""
    messaging: dict[str, list[str]] = field(default_factory=dict)
    stay: Condition | None = None
    rule: Rule | None = None  # given when membership is more than the condition's verdict

    def is_unknown(self, state: AccountState, now: int) -> bool:
        """Whether nobody knows if the account belongs here."""
        return self.condition.decide(state, now)[0] is None


@dataclass(frozen=True, slots=True)
class Dimension:
    """One question about an account. `decide` gives its answer and until when time cannot change it.

    Where an account may have to wait or is held (`for`, `stay`, `keep_for`), `settle` does, with its standing.
    """

    name: str
    kind: Literal["ladder", "set"]
    segments: tuple[Segment, ...]
    decide: Callable[[AccountState, int], tuple[Answer, int]]
    reads: frozenset[str]
    skips_unknown: bool = False
    settle: Settle | None = None
    behind: tuple[int, ...] = ()  # the dimensions its rules refer to, theirs included, in order; then itself
    ahead: tuple[int, ...] = ()  # the dimensions whose rules refer to it
    description: str = ""

    def segment(self, name: str) -> Segment | None:
        return next((segment for segment in self.segments if segment.name == name), None)

    def standing(self, state: AccountState, now: int, before: Standing) -> Standing:
        """Where the account stands now; `before` itself when nothing is different."""
        if self.settle is not None:
            after = self.settle(state, now, before)
            return before if before == after else after
        answer, wake = self.decide(state, now)
        if before.answer != answer:
            return Standing(answer, now, wake)
        if before.wake == wake and not before.timers:
            return before
        return Standing(answer, now if before is NOWHERE else before.since, wake)

    def tell(self, name: str, state: AccountState, now: int) -> Told:
        """Why `name` is or is not (part of) the answer: its condition tree, or what was not known."""
        segment = self.segment(name)
        if segment is not None:
            return _tell(segment, self, state, now)
        undecided = (each for each in self.segments if each.is_unknown(state, now))
        return {
            "says": "not known",
            "verdict": "unknown",
            "parts": [each.condition.tell(state, now) for each in islice(undecided, 1)],
        }


def _tell(segment: Segment, dimension: Dimension, state: AccountState, now: int) -> Told:
    """The segment's condition, and what makes an account wait for it or holds it there."""
    told = segment.condition.tell(state, now)
    rule, standing = segment.rule, standing_in(state, dimension.name)
    if rule is None:
        return told
    if told["verdict"] == "true":
        since = membership.waiting_since(rule, standing)
        if since is None:
            return told
        needs = f"must hold for {in_words(rule.wait)}"
        wait: Told = {"says": needs, "verdict": "false", "at": since, "until": since + rule.wait}
        return {"says": "all", "verdict": "false", "parts": [told, wait]}
    held = [] if segment.stay is None else [_staying(segment.stay.tell(state, now))]
    until = membership.kept_until(rule, standing)
    if until is not None and now < until:
        says = f"kept for {in_words(rule.keep)}, whatever happens"
        held = [{"says": says, "verdict": "true", "until": until}]
    if not held:
        return told
    return {"says": "any", "verdict": WORD[segment.name in standing.answer], "parts": [told, *held]}


def _staying(told: Told) -> Told:
    return {"says": "stays while", "verdict": told["verdict"], "parts": [told]}


def ladder(
    segments: tuple[Segment, ...], skips_unknown: bool
) -> Callable[[AccountState, int], tuple[Answer, int]]:
    """The first segment that is true. Unknown above it stops the search, or is passed over."""
    rungs: list[tuple[Decide, Answer]] = [(each.condition.decide, (each.name,)) for each in segments]
    unclassified: Answer = (UNCLASSIFIED,)

    def decide(state: AccountState, now: int) -> tuple[Answer, int]:
        until = NEVER
        for check, answer in rungs:
            verdict, holds = check(state, now)
            if holds < until:
                until = holds
            if verdict is True:
                return answer, until
            if verdict is None and not skips_unknown:
                return unclassified, until
        return (), until

    return decide


def members(segments: tuple[Segment, ...]) -> Callable[[AccountState, int], tuple[Answer, int]]:
    """A set: every segment that is true; unknown is not a member."""
    each = [(segment.condition.decide, segment.name) for segment in segments]

    def decide(state: AccountState, now: int) -> tuple[Answer, int]:
        until, answer = NEVER, []
        for check, name in each:
            verdict, holds = check(state, now)
            if holds < until:
                until = holds
            if verdict is True:
                answer.append(name)
        return tuple(answer), until

    return decide


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an activity says of how it went with an account: `won`, and the property that holds the revenue."""

    name: str
    revenue: str = ""


@dataclass(frozen=True, slots=True)
class Ruleset:
    hash: str = ""
    files: dict[str, str] = field(default_factory=dict)
    dimensions: tuple[Dimension, ...] = ()
    measures: dict[str, Kept] = field(default_factory=dict)
    feeds: dict[str, tuple[Feed, ...]] = field(default_factory=dict)  # by activity, `any` included
    readers: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by `fact:NAME` or `contacts`
    facts: dict[str, FactRule] = field(default_factory=dict)
    contact_facts: dict[str, FactRule] = field(default_factory=dict)
    index: dict[str, int] = field(default_factory=dict)  # dimension -> its place
    views: dict[str, Reader] = field(default_factory=dict)  # how rules see each declared fact of an account
    outcomes: dict[str, tuple[tuple[Matches | None, Outcome], ...]] = field(default_factory=dict)  # by activity

    def feeds_of(self, activity: str) -> tuple[Feed, ...]:
        feeds = self.feeds.get(activity)
        return self.feeds.get(ANY_ACTIVITY, ()) if feeds is None else feeds

    def dimension(self, name: str) -> Dimension | None:
        place = self.index.get(name)
        return None if place is None else self.dimensions[place]

    def stays_until(self, dimension: Dimension, state: AccountState) -> int:
        """When the account's answer will change if nothing happens (NEVER: not by time alone).

        A wake may come before the change it watches for, so the wakes are walked until the answer differs. In
        quarantine nothing changes by time, and to ask may raise.
        """
        if state.quarantined >= 0:
            return NEVER
        if dimension.settle is None and len(dimension.behind) == 1 and not state.overrides:
            return _walk(dimension, state)
        return self._walk_all(dimension, state)

    def _walk_all(self, dimension: Dimension, state: AccountState) -> int:
        """The same where the answer follows from others too, or from how long it has stood: all are moved on."""
        state = copy(state)
        answer, wake = standing_in(state, dimension.name).answer, NEVER
        for _ in range(LOOKED_AHEAD):
            behind = [self.dimensions[i] for i in dimension.behind]
            wake = min(standing_in(state, each.name).wake for each in behind)
            if wake >= NEVER:
                break
            due = tuple(i for i in dimension.behind if standing_in(state, self.dimensions[i].name).wake <= wake)
            self.settle(state, due, wake, only=dimension.behind)
            if standing_in(state, dimension.name).answer != answer:
                break
        return wake

    def settle(
        self, state: AccountState, due: tuple[int, ...], now: int, only: tuple[int, ...] | None = None
    ) -> list[tuple[Dimension, Answer]]:
        """Asks the `due` dimensions, and those that refer to one whose answer changed; what moved, from where.

        The state gets new standings if any is different, and is otherwise left alone.
        """
        standings = current = state.standings
        moved: list[tuple[Dimension, Answer]] = []
        todo = list(due)
        while todo:
            place = heappop(todo)
            while todo and todo[0] == place:
                heappop(todo)
            dimension = self.dimensions[place]
            before = current.get(dimension.name, NOWHERE)
            if state.overrides and dimension.name in state.overrides:
                after = overriding.settle(dimension, state, now, before)
            else:
                after = dimension.standing(state, now, before)
            if after is before:
                continue
            if standings is current:
                standings = state.standings = dict(current)
            if after.answer or after.wake < NEVER or after.timers:
                standings[dimension.name] = after
            else:
                standings.pop(dimension.name, None)
            if before.answer != after.answer:
                moved.append((dimension, before.answer))
                for each in dimension.ahead:
                    if only is None or each in only:
                        heappush(todo, each)
        return moved


def _walk(dimension: Dimension, state: AccountState) -> int:
    standing = standing_in(state, dimension.name)
    wake = standing.wake
    for _ in range(LOOKED_AHEAD):
        if wake >= NEVER:
            break
        then, following = dimension.decide(state, wake)
        if then != standing.answer:
            return wake
        wake = following
    return wake


NO_RULES = Ruleset()


@dataclass(frozen=True, slots=True)
class InForce:
    """A ruleset at work in a partition: since which record, by which deployment, since when each measure has been
    kept, and what is to be filled. What a `quiet` deployment changes is no news."""

    ruleset: Ruleset = NO_RULES
    offset: int = -1
    at: int = 0
    introduced: dict[str, tuple[int, int]] = field(default_factory=dict)  # measure -> (offset, log_time)
    deployment: str = ""
    quiet: bool = False
    fillings: tuple[Filling, ...] = ()  # the oldest first
    before: tuple[str, str] = ("", "")  # the deployment and hash that were in force until then
    was_filled: tuple[Filling, ...] = ()  # the last ones of which all is filled
    lacking: tuple[str, ...] = ()  # measures of which nobody has asked for the past that they lack

    @property
    def known_by(self) -> tuple[str, str]:
        """By what another partition says that these are in force there too."""
        return self.deployment, self.ruleset.hash

    def switch(
        self,
        ruleset: Ruleset,
        offset: int,
        log_time: int,
        deployment: str = "",
        quiet: bool = False,
        fill_since: int | None = None,
    ) -> InForce:
        introduced = {m: self.introduced.get(m, (offset, log_time)) for m in ruleset.measures}
        fillings, lacks = self.fillings, lacking(self, ruleset, introduced)
        if fill_since is not None and lacks:
            fillings, lacks = (*fillings, Filling(deployment, offset, log_time, fill_since, lacks)), ()
        return InForce(
            ruleset,
            offset,
            log_time,
            introduced,
            deployment,
            quiet,
            fillings,
            self.known_by,
            self.was_filled,
            lacks,
        )

    def filled(self, deployment: str) -> InForce:
        """Of that deployment nothing is to be filled any more."""
        open_ = tuple(each for each in self.fillings if each.deployment != deployment)
        done = tuple(each for each in self.fillings if each.deployment == deployment)
        return replace(self, fillings=open_, was_filled=(*self.was_filled, *done)[-FILLED_KEPT:])

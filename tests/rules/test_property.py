"""Incremental equals recomputed from scratch, at every instant, however the log is cut.

Rulesets and logs are generated (`generate`), with every kind of condition and every operator in them. Every
instant at which something may flip is looked at one millisecond before, on it, and one after.

Float sums taken in another order differ in the last place. Where a score lies so near to its threshold that this
decides, the oracle says so, and the example ends there. `test_stories` holds those edges.

`ISOTHERM_TESTS=nightly` runs more examples, not the same ones each time.
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from random import Random
from typing import Any

from generate import ACCOUNTS, Pick, changing_worlds, fresh, rule_files, walk, worlds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive import Answer, Life, Naive, TooClose
from story import DAY

from rules import compiler, model, operators
from rules.changes import cloud_event, memberships
from rules.conditions import Decide
from rules.engine import let_time_pass, step
from rules.fold import Outgoing, Partition, accounts_of, fold, runs
from rules.reasons import display_name
from rules.records import Record, RulesetRecord, Tick
from rules.replay import Replay
from rules.ruleset import InForce, Ruleset
from rules.state import NEVER, AccountState, name_in, pack, standing_in, unpack
from rules.work import Cause, Kind

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile("ci", max_examples=150, deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile("nightly", max_examples=3000, deadline=None, suppress_health_check=SLOW)
PROFILE = settings.get_profile(os.environ.get("ISOTHERM_TESTS", "ci"))
TWICE, OFTEN = (settings(PROFILE, max_examples=n * PROFILE.max_examples) for n in (2, 6))
LATER = 400 * DAY  # by then every window has passed
World = tuple[list[dict[str, str]], list[Record]]


def compile_files(files: dict[str, str]) -> Ruleset:
    """Compiling is a function of the files, and takes longer than most of what is tested here."""
    return _compiled(tuple(sorted(files.items())))


@lru_cache(64)
def _compiled(files: tuple[tuple[str, str], ...]) -> Ruleset:
    return compiler.compile_files(dict(files))


def held(state: AccountState | None, ruleset: Ruleset) -> dict[str, Answer]:
    """Where an account stands, without the dimensions in which it is nowhere."""
    if state is None or not state.ruleset:
        return {}
    answers = {each.name: standing_in(state, each.name).answer for each in ruleset.dimensions}
    return {name: answer for name, answer in answers.items() if answer}


# -- (a) incremental equals from scratch --------------------------------------------------------------------


class Watched:
    """A replay, and beside it each account's life as the oracle tells it."""

    def __init__(self, files: dict[str, str]) -> None:
        self.replay = Replay(compile_files(files))
        naive = Naive(files)
        self.lives = {account: Life(naive) for account in ACCOUNTS}
        self.told: list[Outgoing] = []
        self.log_time = 0
        self.right: Callable[[Any, Any], bool] = operator.eq

    def feed(self, record: Record) -> None:
        self.pass_time(record.received)
        self.log_time = max(self.log_time, record.received)
        self.told += self.replay.feed(record)
        for account, life in self.lives.items():
            if isinstance(record, RulesetRecord):
                life.is_judged_by(Naive(record.files), self.log_time)
            elif not isinstance(record, Tick) and record.account == account:
                life.meets(record, self.log_time)
        self.compare(self.log_time)

    def pass_time(self, until: int) -> None:
        """Advances to every instant up to `until` at which anything could flip, and looks."""
        while self.log_time < until and (flips := self.flips(until)):
            for instant in sorted({flip + beside for flip in flips for beside in (-1, 0, 1)}):
                if self.log_time < instant <= until:
                    self.log_time = instant
                    self.told += self.replay.advance(instant)
                    self.compare(instant)

    def flips(self, until: int) -> set[int]:
        """What may flip next, by the oracle or the core: not all at once, a flip may lead to others."""
        flips = {flip for life in self.lives.values() for flip in life.flips_until(until)}
        return {flip for flip in {*flips, self.replay.next_wake()} if self.log_time < flip <= until}

    def compare(self, now: int) -> None:
        for account, life in self.lives.items():
            life.pass_time(now)
            holds = held(self.replay.states.get(account), self.replay.rules.ruleset)
            assert self.right(holds, life.answers), (account, now, holds, life.answers)


@settings(OFTEN)
@given(worlds())
def test_incremental_equals_recomputed_from_scratch_at_every_instant(world: World) -> None:
    (files,), log = world
    watched = Watched(files)
    try:
        for record in fresh(log):
            watched.feed(record)
        watched.pass_time(watched.log_time + LATER)
    except TooClose:
        return
    _follow(watched)


def _follow(watched: Watched) -> None:
    """A subscriber that only hears the changes holds the same memberships, and no change is empty."""
    known: dict[str, dict[str, tuple[str, ...]]] = {}
    for out in watched.told:
        change = out.change
        if change.kind is Kind.STATE:
            known[change.account] = {name: each.answer for name, each in change.memberships.items()}
        else:
            assert change.before != change.after
            known.setdefault(change.account, {})[change.dimension] = change.after
    ruleset = watched.replay.rules.ruleset
    for account, answers in known.items():
        said = {dimension: answer for dimension, answer in answers.items() if answer}
        assert said == held(watched.replay.states[account], ruleset)


@settings(PROFILE)
@given(worlds(versions=3, shapes=("ladder stop",), dwell=False, missing=False), st.data())
def test_when_the_rules_change_an_answer_is_right_or_unclassified(world: World, data: st.DataObject) -> None:
    """What a new rule was not there to see it calls unknown; where it claims to know, it is right."""
    (first, *others), log = world
    watched = Watched(first)
    watched.right = right_or_unclassified
    places = sorted(data.draw(st.integers(0, len(log))) for _ in others)
    try:
        for i, record in enumerate([*fresh(log), Tick(received=log[-1].received)]):
            for files in (files for place, files in zip(places, others, strict=True) if place == i):
                watched.feed(RulesetRecord(received=max(watched.log_time, log[0].received), hash="", files=files))
            watched.feed(record)
        watched.pass_time(watched.log_time + LATER)
    except TooClose:
        return
    _follow(watched)


def right_or_unclassified(held: dict[str, Answer], answers: dict[str, Answer]) -> bool:
    return all(held.get(name) in (answers.get(name), ("unclassified",)) for name in held.keys() | answers.keys())


# -- (b) however the log is cut -----------------------------------------------------------------------------


class Store:
    """What a live worker has: states and wakes, packed between batches."""

    def __init__(self, ruleset: Ruleset) -> None:
        self.rules = InForce().switch(ruleset, -1, 0)
        self.partition = Partition(3, ruleset=ruleset.hash, introduced=self.rules.introduced)
        self.packed: dict[str, bytes] = {}
        self.published: list[bytes] = []
        self.changes: list[Outgoing] = []

    def owes(self, until: int) -> bool:
        """Whether somebody is due, or has not been swept."""
        due = any(unpack(blob).wake <= until for blob in self.packed.values())
        return due or self.partition.sweep is not None

    def batch(self, batch: Sequence[Record]) -> None:
        for run in runs(batch):
            self._run(run)

    def _run(self, run: Sequence[Record]) -> None:
        due, unswept, named = [], [], accounts_of(run)
        if isinstance(run[0], Tick | RulesetRecord):
            now = max(run[0].received, self.partition.log_time)
            wakes = [(unpack(blob).wake, account) for account, blob in self.packed.items()]
            due = sorted(wake for wake in wakes if wake[0] <= now)
            if isinstance(run[0], Tick) and self.partition.sweep is not None:
                unswept = sorted(a for a in self.packed if a > self.partition.sweep)[: run[0].sweeps]
            named = {account for _, account in due} | set(unswept)
        states = {account: unpack(self.packed[account]) for account in named if account in self.packed}
        folded = fold(self.partition, self.rules, run, states, compile_files, due, unswept)
        self.partition, self.rules = folded.partition, folded.rules
        known = {account: state for account, state in folded.states.items() if state is not None}
        self.packed |= {account: pack(state) for account, state in known.items()}
        self.changes += folded.outgoing
        for out in folded.outgoing:
            self.published.append(cloud_event(3, self.rules.ruleset, out))
            self.published.append(memberships(3, self.rules.ruleset, out) or b"")


def cut(log: Sequence[Record], places: Iterable[int]) -> Iterator[Sequence[Record]]:
    edges = sorted({0, len(log), *(place for place in places if place < len(log))})
    for start, end in pairwise(edges):
        yield log[start:end]


def stored(files: dict[str, str], log: list[Record], places: Iterable[int]) -> Store:
    store = Store(compile_files(files))
    for batch in cut(fresh(log), places):
        store.batch(batch)
    return store


CUTS = st.sets(st.integers(1, 30), max_size=8)


@settings(PROFILE)
@given(changing_worlds(), CUTS)
def test_the_cut_into_batches_changes_nothing(
    world: tuple[dict[str, str], list[Record]], places: set[int]
) -> None:
    files, log = world
    one_by_one, at_once, as_cut = (stored(files, log, each) for each in (range(len(log)), [], places))
    for other in (at_once, as_cut):
        assert other.packed == one_by_one.packed
        assert other.partition == one_by_one.partition
        assert other.published == one_by_one.published
        assert [_place(out) for out in other.changes] == [_place(out) for out in one_by_one.changes]


def _place(out: Outgoing) -> Any:
    return out.epoch, out.offset, out.n, out.change


@settings(PROFILE)
@given(worlds())
def test_fewer_ticks_decide_later_but_the_same(world: World) -> None:
    """A replay ticks at every wake, this store only where the log does: what takes effect when is the same."""
    (files,), log = world
    store, replay = stored(files, log, []), Replay(compile_files(files))
    told = [out for record in fresh(log) for out in replay.feed(record)]
    end = max(record.received for record in log) + 1
    told += replay.advance(end)
    offset = len(log)
    while any(unpack(blob).wake <= end for blob in store.packed.values()):
        store.batch([Tick(received=end, offset=offset)])
        offset += 1
    for account in ACCOUNTS:
        assert _effects(store.changes, account) == _effects(told, account)


@settings(PROFILE)
@given(changing_worlds())
def test_after_a_switch_and_its_sweep_all_is_as_if_every_account_had_switched_at_once(
    world: tuple[dict[str, str], list[Record]],
) -> None:
    """What a deployment leaves behind is what folding the whole log gives in which, from its record on, everybody
    goes by the new rules: however late the sweep comes to an account, and with whatever traffic in between."""
    files, log = world
    ends = max(record.received for record in log)
    kept = _one_switch(log)
    at_once, late = Replay(compile_files(files)), Store(compile_files(files))
    told = [out for record in fresh(kept) for out in at_once.feed(record)]
    for record in fresh(kept):
        late.batch([record])
    while late.owes(ends):
        late.batch([Tick(received=ends, offset=late.partition.offset)])
    assert {a: _stands(unpack(blob)) for a, blob in late.packed.items()} == {
        a: _stands(state) for a, state in at_once.states.items()
    }
    for account in ACCOUNTS:
        assert _effects(late.changes, account) == _effects(told, account)


def _one_switch(log: list[Record]) -> list[Record]:
    """Of two rulesets an account may miss the first altogether: nobody told it of anything meanwhile."""
    switches = [i for i, record in enumerate(log) if isinstance(record, RulesetRecord)]
    return [record for i, record in enumerate(log) if i not in switches[1:]]


def _stands(state: AccountState) -> Any:
    """All that a later record can tell; offsets are other ones where there are more ticks."""
    held = {name: (each.answer, each.since, each.timers) for name, each in state.standings.items() if each.answer}
    said = {name: each.forced for name, each in state.overrides.items()}
    return state.ruleset, state.deleted, state.facts, state.contacts, held, said, state.wake


def _effects(outgoing: Iterable[Outgoing], account: str) -> list[Any]:
    changes = [out.change for out in outgoing if out.change.account == account]
    return [(c.kind, c.dimension, c.before, c.after, c.effective, c.cause, c.stays_until) for c in changes]


# -- (c) a verdict holds as long as it says ------------------------------------------------------------------


@settings(TWICE)
@given(worlds())
def test_a_verdict_holds_until_the_instant_it_gives(world: World) -> None:
    """`decide(state, now) = (verdict, until)` promises that verdict for all of [now, until)."""
    (files,), log = world
    ruleset, replay = compile_files(files), Replay(compile_files(files))
    lives = {account: Life(Naive(files)) for account in ACCOUNTS}
    for record in fresh(log):
        list(replay.feed(record))
        if isinstance(record, Tick):
            continue
        now = replay.partition.log_time
        lives[record.account].meets(record, now)
        if (state := replay.states.get(record.account)) is None:
            continue  # something was said of an account that nobody has heard of
        life = lives[record.account]
        for decide in deciders(ruleset):
            verdict, until = decide(state, now)
            assert until > now
            asked = {now + 1, (now + min(until, now + LATER)) // 2, until - 1, *life.flips}
            assert [at for at in asked if now < at < until and decide(state, at)[0] is not verdict] == []


def deciders(ruleset: Ruleset) -> Iterator[Decide]:
    for dimension in ruleset.dimensions:
        for segment in dimension.segments:
            yield segment.condition.decide
            if segment.stay is not None:
                yield segment.stay.decide


# -- (d) every kind is drawn --------------------------------------------------------------------------------


def test_every_kind_of_condition_and_every_operator_is_generated() -> None:
    kinds, compared, ways = set(), set(), set()

    def look(node: dict[str, Any]) -> None:
        kind = model.which(node)
        if kind is not None and "dimension" not in node:
            kinds.add(kind)
        if kind == "fact":
            compared.update(node.keys() & operators.TABLE.keys())
        if kind == "segment" and "missing" in node:
            ways.add("reference missing")
        ways.update(node.keys() & WAYS)

    pick = Pick(partial(Random(1).randint, 0))
    for _ in range(500):
        for text in rule_files(pick).values():
            walk(json.loads(text), look)
    assert kinds == set(model.CONDITION_KEYS)
    assert compared == operators.TABLE.keys()
    assert ways == WAYS


WAYS = {
    *("within", "calendar", "timezone", "who", "span", "or_missing", "fold", "stay", "for", "keep_for"),
    *("by_fact", "by_bands", "otherwise", "cap", "half_life", "sources", "refresh", "also", "reference missing"),
}


# -- (e) pure, packed, promised -----------------------------------------------------------------------------


@settings(PROFILE)
@given(worlds())
def test_a_step_leaves_the_state_it_was_given_and_states_survive_packing(world: World) -> None:
    (files,), log = world
    rules = InForce().switch(compile_files(files), -1, 0)
    states: dict[str, AccountState] = {}
    log_time = 0
    for record in fresh(log):
        log_time = max(log_time, record.received)
        if isinstance(record, Tick):
            done = {a: let_time_pass(a, s, log_time, log_time, rules) for a, s in states.items()}
        else:
            state = states.get(record.account)
            before = pack(state) if state else b""
            done = {record.account: step(state, record, log_time, rules)}
            assert (pack(state) if state else b"") == before
            assert step(state, record, log_time, rules) == done[record.account]
        for account, each in done.items():
            if each.state is None:
                continue  # something was said of an account that nobody has heard of
            assert unpack(pack(each.state)) == each.state
            assert pack(unpack(pack(each.state))) == pack(each.state)
            assert name_in(pack(each.state)) == display_name(each.state)
            states[account] = each.state


@settings(PROFILE)
@given(worlds(most=15))
def test_stays_until_is_when_it_changes_if_nothing_happens(world: World) -> None:
    (files,), log = world
    ruleset = compile_files(files)
    replay = Replay(ruleset)
    for record in fresh(log):
        told = list(replay.feed(record))
        last = replay.partition.offset - 1
        _as_promised(ruleset, [out for out in told if out.offset == last], alone(ruleset, replay))


def alone(ruleset: Ruleset, replay: Replay) -> list[Outgoing]:
    """What becomes of the accounts if nothing else happens."""
    later = Replay(ruleset)
    later.partition, later.rules = replay.partition, replay.rules
    later.states = {account: unpack(pack(state)) for account, state in replay.states.items()}
    later._wakes = sorted((state.wake, account) for account, state in replay.states.items())
    return list(later.advance(NEVER - 1))


def _as_promised(ruleset: Ruleset, told: list[Outgoing], later: list[Outgoing]) -> None:
    """Each promise is kept by the next change of that dimension, promises on the way included."""
    promises: dict[tuple[str, str], int] = {}
    for out in told:
        promises |= _promises(ruleset, out)
    # Several segments of a set are left and entered at once: several changes, one promise.
    moves = {(out.change.account, out.change.dimension, out.change.effective): out.change for out in later}
    for (account, dimension, effective), change in moves.items():
        assert change.cause in (Cause.TIME, Cause.OVERRIDE)
        assert promises.get((account, dimension), effective) == effective
        promises[account, dimension] = change.stays_until
    assert [key for key, instant in promises.items() if instant < NEVER] == []


def _promises(ruleset: Ruleset, out: Outgoing) -> dict[tuple[str, str], int]:
    change = out.change
    if change.kind is not Kind.STATE:
        return {(change.account, change.dimension): change.stays_until}
    found = {}
    for name in change.memberships:
        dimension = ruleset.dimension(name)
        assert dimension is not None
        found[change.account, name] = ruleset.stays_until(dimension, out.state)
    return found

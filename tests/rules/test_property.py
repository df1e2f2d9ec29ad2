"""Incremental equals recomputed from scratch, at every instant, however the log is cut.

Rulesets and logs are generated. Time is coarse (hours), so that windows are met exactly on their edges, and
every instant at which something may flip is looked at one millisecond before, on it, and one after.

Float sums taken in another order differ in the last place, and so may the millisecond in which a score falls
below its threshold: instants within 2 ms of a crossing are left out. `test_stories` holds those edges.

`ISOTHERM_TESTS=nightly` runs more examples, not the same ones each time.
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive import Naive, Seen
from story import HOUR, MON

from rules.changes import cloud_event, memberships
from rules.compiler import compile_files
from rules.engine import let_time_pass, step
from rules.fold import ACCOUNTS_PER_TICK, Outgoing, Partition, accounts_of, fold, runs
from rules.records import Activity, Contact, Delete, Facts, Record, Restore, RulesetRecord, Tick
from rules.replay import Replay
from rules.ruleset import InForce, Ruleset
from rules.state import NEVER, AccountState, pack, unpack
from rules.work import Cause, Kind

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile("ci", max_examples=150, deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile("nightly", max_examples=3000, deadline=None, suppress_health_check=SLOW)
PROFILE = settings.get_profile(os.environ.get("ISOTHERM_TESTS", "ci"))

NAMES: dict[str, Any] = {
    "facts": {"employees": {"type": "number"}, "country": {"type": "text"}, "customer": {"type": "boolean"}},
    "contact_facts": {"status": {"type": "text"}},
    "activities": {
        "page": {},
        "demo": {},
        "pricing": {"of": "page", "where": {"path": {"starts": "/p"}}},
        "offer": {"of": "pricing", "where": {"path": {"ends": "x"}}},
    },
    "scores": {
        "fast": {
            "half_life": "2h",
            "signals": [{"activity": "demo", "weight": 5}, {"activity": "page", "weight": 2}],
        },
        "slow": {
            "half_life": "1d",
            "signals": [
                {"activity": "pricing", "weight": 3},
                {"activity": "any", "weight": 1},
                {"activity": "page", "weight": 0.5, "where": {"seconds": {"above": 5}}},
            ],
        },
    },
}
WINDOWS = ["1h", "2h", "5h", "1d"]
ACTIVITIES = ["page", "demo", "pricing", "offer", "any"]
ACCOUNTS = ["a", "b"]
FEED = ["a", "a", "b"]

# -- rulesets -----------------------------------------------------------------------------------------------


def optional(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


WHERE = st.one_of(
    st.just({}),
    st.just({"path": "/px"}),
    st.just({"path": {"ends": "x"}}),
    st.just({"seconds": {"at_least": 5}, "path": {"exists": True}}),
    st.just({"path": {"missing": True}}),
    st.just({"path": {"is_not": "/px"}}),
)
COUNTS = st.builds(
    lambda name, window, where, bounds: {"count": name, "within": window, **where, **bounds},
    st.sampled_from(ACTIVITIES),
    st.sampled_from(WINDOWS),
    st.builds(lambda where: {"where": where} if where else {}, WHERE),
    st.one_of(
        st.fixed_dictionaries({"at_least": st.integers(1, 4)}, optional={"at_most": st.integers(2, 5)}),
        st.fixed_dictionaries({"below": st.integers(1, 4)}),
        st.fixed_dictionaries({"at_most": st.integers(0, 3)}),
    ),
)
LEAVES = st.one_of(
    COUNTS,
    st.builds(
        lambda name, window: {"seen": name, "within": window},
        st.sampled_from(ACTIVITIES),
        st.sampled_from(WINDOWS),
    ),
    st.builds(
        lambda name, window: {"quiet": name, "for": window}, st.sampled_from(ACTIVITIES), st.sampled_from(WINDOWS)
    ),
    st.builds(
        lambda name, bound, threshold: {"score": name, bound: threshold},
        st.sampled_from(["fast", "slow"]),
        st.sampled_from(["at_least", "below"]),
        st.sampled_from([0.5, 3, 5, 7.5]),
    ),
    st.sampled_from(
        [
            {"fact": "employees", "at_least": 200},
            {"fact": "employees", "at_least": 1, "below": 200},
            {"fact": "country", "in": ["DE", "AT"]},
            {"fact": "country", "is_not": "DE"},
            {"fact": "country", "is_not": "DE", "or_missing": True},
            {"fact": "country", "exists": True},
            {"fact": "customer", "missing": True},
            {"fact": "customer", "is": True},
        ]
    ),
    st.builds(
        lambda which, where: {"contacts": which, "where": {"status": where}},
        st.sampled_from(["all", "any", "none"]),
        st.sampled_from([{"is": "bounced"}, {"in": ["bounced", "left"]}, {"missing": True}, "ok"]),
    ),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=5,
)


@st.composite
def dimensions(draw: st.DrawFn, name: str, kinds: Sequence[str]) -> dict[str, Any]:
    kind, _, on_unknown = draw(st.sampled_from(kinds)).partition(" ")
    segments: list[dict[str, Any]] = [
        {"segment": f"s{i}", "when": when}
        for i, when in enumerate(draw(st.lists(CONDITIONS, min_size=1, max_size=3)))
    ]
    if kind == "ladder" and draw(st.booleans()):
        segments.append({"segment": "rest", "otherwise": True})
    return {"dimension": name, "kind": kind, "on_unknown": on_unknown or "stop", "segments": segments}


@st.composite
def rule_files(draw: st.DrawFn, kinds: Sequence[str] = ("ladder stop", "ladder skip", "set")) -> dict[str, str]:
    """JSON is YAML, and it has no anchors."""
    names = draw(st.sampled_from([["d0"], ["d0", "d1"], ["d1", "d2"]]))
    files = {f"{name}.yaml": json.dumps(draw(dimensions(name, kinds))) for name in names}
    return {"names.yaml": json.dumps(NAMES), **files}


# -- logs ---------------------------------------------------------------------------------------------------

# Mostly whole hours; now and then a millisecond beside one.
STEPS = st.builds(
    lambda hours, beside: max(0, hours * HOUR + beside),
    st.sampled_from([0, 0, 0, 1, 1, 2, 3, 5, 24]),
    st.sampled_from([0, 0, 0, 0, 1, -1]),
)
# How long before its arrival it happened; below 0: stamped in the future.
AGES = st.sampled_from(
    [0, 0, 0, 0, 1 * HOUR, 2 * HOUR, 2 * HOUR - 1, 4 * HOUR, 5 * HOUR, 24 * HOUR, 30 * HOUR, -3 * HOUR]
)
PROPS = optional(path=st.sampled_from(["/p", "/px", "/x", "/"]), seconds=st.sampled_from([4, 5, 6]))
IDS = st.one_of(st.just(""), st.sampled_from(["id1", "id2", "id3"]))
SET = optional(
    employees=st.sampled_from([None, 0, 150, 200, 2000]),
    country=st.sampled_from(["DE", "AT", "FR", None]),
    customer=st.booleans(),
)
CONTACT_SET = st.fixed_dictionaries({"status": st.sampled_from(["ok", "bounced", "left", None])})


@st.composite
def records(draw: st.DrawFn, before: int) -> Record:
    """A record after `before`, now and then received a little out of order."""
    now = before + draw(STEPS) - draw(st.sampled_from([0] * 8 + [HOUR]))
    kind = draw(
        st.sampled_from(["activity"] * 9 + ["facts"] * 4 + ["contact"] * 3 + ["tick"] * 2 + ["delete", "restore"])
    )
    if kind == "tick":
        return Tick(received=now)
    account, at, id = draw(st.sampled_from(FEED)), now - draw(AGES), draw(IDS)
    match kind:
        case "activity":
            name = draw(st.sampled_from(["page", "page", "demo", "other"]))
            return Activity(
                account=account, name=name, at=at, received=now, id=id, props=draw(PROPS), source="web"
            )
        case "facts":
            clear = draw(st.lists(st.sampled_from(["country", "employees"]), max_size=1))
            return Facts(account=account, at=at, received=now, id=id, set=draw(SET), clear=clear, source="crm")
        case "contact":
            return Contact(
                account=account,
                person=draw(st.sampled_from(["p", "q"])),
                at=at,
                received=now,
                id=id,
                set=draw(CONTACT_SET),
                gone=draw(st.sampled_from([False, False, True])),
                source="crm",
            )
        case "delete":
            return Delete(account=account, at=at, received=now, id=id, source="crm")
        case _:
            return Restore(account=account, at=at, received=now, id=id, source="crm")


@st.composite
def logs(draw: st.DrawFn, most: int = 25) -> list[Record]:
    log: list[Record] = []
    latest = MON
    for _ in range(draw(st.sampled_from([2, 5, most // 2, most]))):
        log.append(draw(records(latest)))
        latest = max(latest, log[-1].received)
    return log


def fresh(log: Iterable[Record]) -> list[Record]:
    """Copies, with their offsets: whoever reads a record sets its place."""
    return [msgspec.structs.replace(record, offset=i) for i, record in enumerate(log)]


# -- (a) incremental equals from scratch --------------------------------------------------------------------


class Watched:
    """A replay and the raw history beside it."""

    def __init__(self, files: dict[str, str]) -> None:
        self.naive = Naive(files)
        self.replay = Replay(compile_files(files))
        self.histories: dict[str, list[tuple[int, Any]]] = {account: [] for account in ACCOUNTS}
        self.told: list[Outgoing] = []
        self.log_time = 0
        self.right: Callable[[Any, Any], bool] = operator.eq

    def feed(self, record: Record) -> None:
        self.pass_time(record.received)
        self.log_time = max(self.log_time, record.received)
        self.told += self.replay.feed(record)
        if not isinstance(record, Tick | RulesetRecord):
            self.histories[record.account].append((self.log_time, record))
        self.compare(self.seen(), self.log_time)

    def pass_time(self, until: int) -> None:
        """Advances to every instant up to `until` at which anything could flip, and looks."""
        seen = self.seen()
        for instant in sorted(self.interesting(seen, until)):
            self.told += self.replay.advance(instant)
            self.compare(seen, instant)

    def interesting(self, seen: dict[str, Seen], until: int) -> set[int]:
        spans = self.naive.spans()
        edges = {at + span for each in seen.values() for at, _, _ in each.activities for span in spans}
        edges |= {int(crossing) + 3 for each in seen.values() for crossing in each.crossings(self.log_time)}
        edges |= {int(crossing) - 3 for each in seen.values() for crossing in each.crossings(self.log_time)}
        if self.replay.next_wake() < NEVER:
            edges.add(self.replay.next_wake())
        return {edge + beside for edge in edges for beside in (-1, 0, 1) if self.log_time < edge + beside < until}

    def seen(self) -> dict[str, Seen]:
        return {account: self.naive.see(history) for account, history in self.histories.items()}

    def compare(self, seen: dict[str, Seen], now: int) -> None:
        for account, each in seen.items():
            if any(abs(crossing - now) <= 2 for crossing in each.crossings(now)):
                continue
            state = self.replay.states.get(account)
            held = {} if state is None else {name: standing.answer for name, standing in state.standings.items()}
            assert self.right(held, each.answers(now)), (account, now, held, each.answers(now))


@settings(PROFILE)
@given(rule_files(), logs())
def test_incremental_equals_recomputed_from_scratch_at_every_instant(
    files: dict[str, str], log: list[Record]
) -> None:
    watched = Watched(files)
    for record in fresh(log):
        watched.feed(record)
    watched.pass_time(watched.log_time + 40 * HOUR)
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
    held = {
        account: {name: each.answer for name, each in state.standings.items()}
        for account, state in watched.replay.states.items()
    }
    assert {account: {d: a for d, a in answers.items() if a} for account, answers in known.items()} == {
        account: {d: a for d, a in answers.items() if a} for account, answers in held.items() if account in known
    }


STOPPING = rule_files(("ladder stop",))


@settings(PROFILE)
@given(st.lists(STOPPING, min_size=2, max_size=3), logs(), st.data())
def test_when_the_rules_change_an_answer_is_right_or_unclassified(
    versions: list[dict[str, str]], log: list[Record], data: st.DataObject
) -> None:
    """What a new rule was not there to see it calls unknown; where it claims to know, it is right."""
    watched = Watched(versions[0])
    watched.right = right_or_unclassified
    places = sorted(data.draw(st.integers(0, len(log))) for _ in versions[1:])
    for i, record in enumerate([*fresh(log), Tick(received=log[-1].received)]):
        for files in (files for place, files in zip(places, versions[1:], strict=True) if place == i):
            watched.naive = Naive(files)
            watched.feed(RulesetRecord(received=max(watched.log_time, MON), hash="", files=files))
        watched.feed(record)
    watched.pass_time(watched.log_time + 40 * HOUR)
    _follow(watched)


def right_or_unclassified(held: dict[str, tuple[str, ...]], answers: dict[str, tuple[str, ...]]) -> bool:
    return held.keys() == answers.keys() and all(held[name] in (answers[name], ("unclassified",)) for name in held)


# -- (b) however the log is cut -----------------------------------------------------------------------------


class Store:
    """What a live worker has: states and wakes, packed between batches."""

    def __init__(self, ruleset: Ruleset) -> None:
        self.rules = InForce().switch(ruleset, -1, 0)
        self.partition = Partition(3, ruleset=ruleset.hash, introduced=self.rules.introduced)
        self.packed: dict[str, bytes] = {}
        self.published: list[bytes] = []
        self.changes: list[Outgoing] = []

    def batch(self, batch: Sequence[Record]) -> None:
        for run in runs(batch):
            self._run(run)

    def _run(self, run: Sequence[Record]) -> None:
        due, unswept, named = [], [], accounts_of(run)
        if isinstance(run[0], Tick):
            now = max(run[0].received, self.partition.log_time)
            wakes = [(unpack(blob).wake, account) for account, blob in self.packed.items()]
            due = sorted(wake for wake in wakes if wake[0] <= now)[:ACCOUNTS_PER_TICK]
            if self.partition.sweep is not None:
                unswept = sorted(a for a in self.packed if a > self.partition.sweep)[:ACCOUNTS_PER_TICK]
            named = {account for _, account in due} | set(unswept)
        states = {account: unpack(self.packed[account]) for account in named if account in self.packed}
        folded = fold(self.partition, self.rules, run, states, compile_files, due, unswept)
        self.partition, self.rules = folded.partition, folded.rules
        self.packed |= {account: pack(state) for account, state in folded.states.items()}
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


@st.composite
def logs_with_rulesets(draw: st.DrawFn) -> list[Record]:
    """A log in which the rules change once or twice."""
    log = draw(logs())
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(log) - 1))
        ruleset = RulesetRecord(received=log[place].received, hash="", files=draw(rule_files()))
        log[place:place] = [ruleset, *[Tick(received=log[place].received)] * draw(st.integers(0, 1))]
    return log


CUTS = st.sets(st.integers(1, 30), max_size=8)


@settings(PROFILE)
@given(rule_files(), logs_with_rulesets(), CUTS)
def test_the_cut_into_batches_changes_nothing(files: dict[str, str], log: list[Record], places: set[int]) -> None:
    one_by_one, at_once, as_cut = (stored(files, log, each) for each in (range(len(log)), [], places))
    for other in (at_once, as_cut):
        assert other.packed == one_by_one.packed
        assert other.partition == one_by_one.partition
        assert other.published == one_by_one.published
        assert [_place(out) for out in other.changes] == [_place(out) for out in one_by_one.changes]


def _place(out: Outgoing) -> Any:
    return out.epoch, out.offset, out.n, out.change


@settings(PROFILE)
@given(rule_files(), logs())
def test_fewer_ticks_decide_later_but_the_same(files: dict[str, str], log: list[Record]) -> None:
    """A replay ticks at every wake, this store only where the log does: what takes effect when is the same."""
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


def _effects(outgoing: Iterable[Outgoing], account: str) -> list[Any]:
    changes = [out.change for out in outgoing if out.change.account == account]
    return [(c.kind, c.dimension, c.before, c.after, c.effective, c.cause, c.stays_until) for c in changes]


# -- (c), (d), (e) ------------------------------------------------------------------------------------------


@settings(PROFILE)
@given(rule_files(), logs())
def test_a_step_leaves_the_state_it_was_given_and_states_survive_packing(
    files: dict[str, str], log: list[Record]
) -> None:
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
            assert unpack(pack(each.state)) == each.state
            assert pack(unpack(pack(each.state))) == pack(each.state)
            states[account] = each.state


@settings(PROFILE)
@given(rule_files(), logs(most=15))
def test_stays_until_is_when_it_changes_if_nothing_happens(files: dict[str, str], log: list[Record]) -> None:
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
        assert change.cause is Cause.TIME
        assert promises.get((account, dimension), effective) == effective
        promises[account, dimension] = change.stays_until
    assert [key for key, instant in promises.items() if instant < NEVER] == []


def _promises(ruleset: Ruleset, out: Outgoing) -> dict[tuple[str, str], int]:
    change = out.change
    if change.kind is not Kind.STATE:
        return {(change.account, change.dimension): change.stays_until}
    found = {}
    for name, standing in change.memberships.items():
        dimension = ruleset.dimension(name)
        assert dimension is not None
        found[change.account, name] = dimension.stays_until(standing.answer, out.state, standing.wake)
    return found

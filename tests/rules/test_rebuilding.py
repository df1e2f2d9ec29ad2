"""Two accounts that were one, and are separated, are as if they had never been one.

A history of two accounts, and of a third that is part of one of them, is lived twice: once they are merged for a
while and then separated by what `rebuilding` makes of the log, once they never were. Facts, contacts and reasons
are the same afterwards, at that instant and later, but for log offsets.

What is not equal, and not asked: since when an account has stood where it does, and rules with a memory (`for`,
`stay`, `keep_for`), which ran on with what both had. What came while they were one and named neither a CRM's
record nor a group stays with the account that stayed; there is no such record here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from generate import PEOPLE, Pick, drawing, log_of, rule_files
from hypothesis import given, settings
from hypothesis import strategies as st
from story import DAY, HOUR, MON, question
from test_property import LATER, PROFILE, compile_files

from rules import measures
from rules.explain import explanation
from rules.fold import Folded
from rules.rebuilding import Apart, Rebuilding, Survey, separate
from rules.records import (
    AccountRecord,
    Activity,
    Delete,
    Erase,
    Facts,
    Merge,
    Record,
    Restate,
    Restore,
    RulesetRecord,
    Tick,
    decode_record,
    encode_record,
)
from rules.replay import Replay
from rules.state import AccountState, standing_in
from rules.work import Outcome

THEIRS, MINE, THIRD = "salesforce:2", "salesforce:1", "group:g"


class Part(Replay):
    """A partition that keeps its log, as bytes, and what it sends to other accounts."""

    def __init__(self, files: dict[str, str], number: int) -> None:
        super().__init__(compile_files(files), number)
        self.log: list[bytes] = [encode_record(RulesetRecord(received=1, hash="", files=files))]
        self.partition = msgspec.structs.replace(self.partition, offset=1, ruleset_offset=0, ruleset_at=1)
        self.rules = self.rules.switch(self.rules.ruleset, 0, 1)
        self.sent: list[AccountRecord] = []
        self.told: list[Any] = []

    def _fold(self, record: Record) -> Iterator[Any]:
        self.log.append(encode_record(record))
        yield from super()._fold(record)

    def _keep(self, folded: Folded) -> None:
        super()._keep(folded)
        self.sent += folded.sent
        folded.sent.clear()
        self.last = folded

    def records(self, start: int = 0) -> Iterator[Record]:
        for offset, blob in enumerate(self.log[start:], start):
            record = decode_record(blob)
            record.offset = offset
            yield record


class World:
    """Accounts over one partition or two, with the links that a router would have."""

    def __init__(self, files: dict[str, str], partitions: int = 1) -> None:
        self.parts = [Part(files, number) for number in range(partitions)]
        self.one = False  # they are one account for now
        self.into: dict[str, str] = {}  # of the third
        self._said = 0

    def part(self, account: str) -> Part:
        return self.parts[-1 if account == MINE else 0]

    def state(self, account: str) -> AccountState | None:
        return self.part(account).states.get(account)

    def told(self) -> list[Any]:
        return [each for part in self.parts for each in part.told]

    def feed(self, record: Record) -> Folded:
        """A record into the log, and whatever it sends."""
        record = msgspec.structs.replace(record)
        if isinstance(record, Erase | RulesetRecord | Tick):
            for part in self.parts:
                part.told += part.feed(msgspec.structs.replace(record))
            return self.parts[0].last
        part = self.part(record.account)
        if record.via is None and not isinstance(record, Restate):
            record.via = ("crm.updates/0", self._said, 0)
            self._said += 1
        part.told += part.feed(record)
        done = part.last
        while part.sent:
            self.feed(part.sent.pop(0))
        return done

    def says(self, record: Record, late: bool = False) -> None:
        """A message, as a router has it written: to the account that it means by now, `late` to the one before."""
        if isinstance(record, Erase | RulesetRecord | Tick):
            self.feed(record)
            return
        claimed = account = record.account
        if not isinstance(record, Delete | Restore):
            steps = [claimed, *([self.into[claimed]] if claimed in self.into else [])]
            steps += [MINE] if self.one and steps[-1] == THEIRS else []
            account = steps[-2] if late and len(steps) > 1 else steps[-1]
        self.feed(msgspec.structs.replace(record, account=account, under="" if account == claimed else claimed))

    def merge(self, now: int) -> None:
        self.one = True
        self.feed(Merge(account=THEIRS, into=MINE, at=now, received=now, by_crm=True))

    # -- as `isotherm unmerge` does it -----------------------------------------------------------------------

    def survey(self, account: str) -> Survey:
        survey = Survey(account)
        for record in self.part(account).records():
            survey.hears(record)
        return survey

    def separates(self) -> tuple[Apart, Apart, list[Apart], list[Apart]]:
        self.one = False
        theirs, mine = self.survey(THEIRS), self.survey(MINE)
        names = [each for each, into in self.into.items() if into == THEIRS]
        return *separate(theirs, mine, names), theirs.apart, mine.apart

    def rebuilding(self, account: str, apart: Iterable[Apart]) -> Rebuilding:
        rebuilding = Rebuilding(account, self.part(account).partition.number, apart, compile_files)
        self.goes_on(rebuilding)
        return rebuilding

    def goes_on(self, rebuilding: Rebuilding) -> None:
        heard, own = rebuilding.upto, self.part(rebuilding.account).partition.number
        parts = sorted(self.parts, key=lambda part: part.partition.number != own)
        if heard:
            parts = parts[:1]
        for number, record in _in_order([(part.partition.number, part.records(heard)) for part in parts]):
            rebuilding.hears(number, record)

    def unmerge(self, now: int) -> None:
        theirs, mine, theirs_before, mine_before = self.separates()
        for account, apart, before in ((THEIRS, theirs, theirs_before), (MINE, mine, mine_before)):
            done = self.feed(self.rebuilding(account, [*before, apart]).restate(apart, now))
            assert done.counts == {(Outcome.APPLIED, ""): 1}

    # -- looking ---------------------------------------------------------------------------------------------

    def told_of(self, account: str, now: int) -> Any:
        """All there is to say of an account at an instant, but for offsets and since when."""
        part = self.part(account)
        part.told += part.advance(now)
        state = part.states.get(account)
        if state is None or not (state.facts or state.contacts or state.measures or state.seen or state.deleted):
            return None  # nobody has heard of it; or that it is there, and nothing else
        told = explanation(account, state, part.rules.ruleset, now)
        return _but_for_places(told), state.facts, state.contacts, state.seen, state.merged_into


def _in_order(logs: Sequence[tuple[int, Iterator[Record]]]) -> Iterator[tuple[int, Record]]:
    ahead = [(number, next(records, None), records) for number, records in logs]
    times = dict.fromkeys((number for number, _ in logs), 0)
    while waiting := [each for each in ahead if each[1] is not None]:
        first = min(waiting, key=lambda each: max(times[each[0]], each[1].received))  # type: ignore[union-attr]
        number, record, records = first
        assert record is not None
        times[number] = max(times[number], record.received)
        yield number, record
        ahead[ahead.index(first)] = number, next(records, None), records


def _but_for_places(node: Any) -> Any:
    match node:
        case dict():
            return {key: _but_for_places(each) for key, each in node.items() if key not in ("offset", "since")}
        case list() | tuple():
            return [_but_for_places(each) for each in node]
        case _:
            return node


# -- the property -------------------------------------------------------------------------------------------


@dataclass
class History:
    files: dict[str, str]
    log: list[Record]
    late: list[bool]  # whether the router has not heard of the last link yet
    periods: list[tuple[int, int]]  # they are one from before record m until before record n
    third: tuple[int, str] | None  # when, and of which it turns out to be part
    partitions: int

    def lived(self, merged: bool) -> World:
        world = World(self.files, self.partitions)
        for i in range(len(self.log) + 1):
            now = self.log[max(i - 1, 0)].received if self.log else MON
            if self.third and self.third[0] == i:
                into = self.third[1]
                world.feed(Merge(account=THIRD, into=into, at=now, received=now))
                world.into[THIRD] = into
            for start, end in self.periods if merged else []:
                if start == i:
                    world.merge(now)
                if end == i:
                    world.unmerge(now)
            if i < len(self.log):
                world.says(self.log[i], self.late[i])
        return world


@st.composite
def histories(draw: st.DrawFn) -> History:
    pick = drawing(draw)
    files, others = (rule_files(pick, dwell=False) for _ in range(2))
    log = _apart([each for each in log_of(pick, 16) if not isinstance(each, Tick)], pick)
    places = sorted(pick.of(range(len(log) + 1)) for _ in range(pick.of([2, 2, 4])))
    third = None
    if pick.of([True, False]):
        into = pick.of([THEIRS, MINE])
        third = (pick.of(range(places[0] + 1 if into == THEIRS else len(log) + 1)), into)
    now = log[-1].received if log else MON
    more: list[tuple[int, Record]] = []
    if pick.of([True, False, False]):
        more.append((pick.of(range(len(log) + 1)), RulesetRecord(received=now, hash="", files=others)))
    if pick.of([True, False, False]):
        more.append((pick.of(range(len(log) + 1)), Erase(received=now, persons=[pick.of(PEOPLE)])))
    periods = list(zip(places[::2], places[1::2], strict=True))
    for place, record in sorted(more, key=lambda each: -each[0]):
        record.received = log[place].received - 1 if place < len(log) else now + 1
        log.insert(place, record)
        periods = [(start + (start > place), end + (end > place)) for start, end in periods]
        third = third and (third[0] + (third[0] > place), third[1])
    if log and any(isinstance(record, RulesetRecord) for record in log):
        # Who is separated is known from then on, also if nothing had ever been heard of them; for a rule that is
        # made later that is a difference.
        first = log[0].received
        log[:0] = [Facts(account=account, at=first - 1, received=first - 1) for account in (THEIRS, MINE)]
        periods = [(start + 2, end + 2) for start, end in periods]
        third = third and (third[0] + 2, third[1])
    late = [pick.one_in(5) for _ in log]
    return History(files, log, late, periods, third, pick.of([1, 2]))


def _apart(log: list[Any], pick: Pick) -> list[Any]:
    """Records of the accounts, each received later than the one before, each of an instant of its own."""
    found, taken, received = [], set(), 0
    for i, record in enumerate(log):
        received = max(received + 3, record.received)
        at = next(each for each in range(min(record.at, received), 0, -1) if each not in taken)
        taken.add(at)
        account = pick.of([THEIRS, THEIRS, MINE, THIRD])
        id = f"{record.id}/{i // 2}" if record.id else ""
        found.append(msgspec.structs.replace(record, account=account, at=at, received=received, id=id))
    return found


@settings(PROFILE, max_examples=3 * PROFILE.max_examples)
@given(histories())
def test_separated_they_are_as_if_they_had_never_been_one(history: History) -> None:
    lived, never = history.lived(merged=True), history.lived(merged=False)
    now = max((record.received for record in history.log), default=MON)
    for instant in (now, now + HOUR, now + 30 * HOUR, now + 8 * DAY, now + LATER):
        for account in (THEIRS, MINE):
            assert lived.told_of(account, instant) == never.told_of(account, instant), (account, instant)


# -- stories ------------------------------------------------------------------------------------------------

NAMES = """
facts: {employees: {type: number}, industry: {type: text}}
activities: {visit: {}}
"""
HOT = question("{count: visit, at_least: 3, within: 7d}", "skip")
FILES = {"names.yaml": NAMES, "hot.yaml": textwrap.dedent(HOT)}


def two(partitions: int = 1) -> World:
    """Two accounts, each with a visit and what is known of it."""
    world = World(FILES, partitions)
    for account, employees in ((THEIRS, 5000), (MINE, 50)):
        world.says(Facts(account=account, at=MON, received=MON, set={"employees": employees}, source="crm"))
        visits(world, account, MON)
    return world


def visits(world: World, account: str, *instants: int, late: bool = False, **said: Any) -> None:
    for at in instants:
        world.says(Activity(account=account, name="visit", at=at, received=at, source="web", **said), late)


def answer(world: World, account: str) -> str:
    state = world.state(account)
    assert state is not None
    return "".join(standing_in(state, "answer").answer)


def facts(world: World, account: str) -> dict[str, Any]:
    state = world.state(account)
    assert state is not None
    return {name: fact.value for name, fact in state.facts.items()}


@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize("late", [False, True], ids=["in the other's name", "passed on"])
def test_each_has_what_is_its_own_again(partitions: int, late: bool) -> None:
    world = two(partitions)
    world.merge(MON + HOUR)
    visits(world, THEIRS, MON + 2 * HOUR, MON + 3 * HOUR, late=late)
    assert (answer(world, MINE), facts(world, MINE)) == ("yes", {"employees": 50})
    world.unmerge(MON + 4 * HOUR)
    assert (answer(world, THEIRS), facts(world, THEIRS)) == ("yes", {"employees": 5000})
    assert (answer(world, MINE), facts(world, MINE)) == ("no", {"employees": 50})
    last = {out.change.account: out.change for out in world.told()}
    assert {last[each].cause for each in (THEIRS, MINE)} == {"merge"}
    assert {last[each].origin for each in (THEIRS, MINE)} == {"rebuild"}  # which alerts nobody
    assert (last[THEIRS].kind, last[THEIRS].merged_into) == ("account.state", "")
    assert (last[MINE].before, last[MINE].after) == (("yes",), ("no",))


def test_a_state_is_refused_when_the_account_has_gone_on_since() -> None:
    world = two()
    world.merge(MON + HOUR)
    apart, _, before, _ = world.separates()
    rebuilding = world.rebuilding(THEIRS, [*before, apart])
    restate = rebuilding.restate(apart, MON + 2 * HOUR)
    visits(world, THEIRS, MON + 2 * HOUR)
    was = world.state(THEIRS)
    assert world.feed(restate).counts == {(Outcome.OVERTAKEN, ""): 1}
    assert world.state(THEIRS) == was
    world.goes_on(rebuilding)
    assert rebuilding.touched < rebuilding.upto - 1  # as the fold said
    assert world.feed(rebuilding.restate(apart, MON + 3 * HOUR)).counts == {(Outcome.APPLIED, ""): 1}
    world.goes_on(rebuilding)
    assert rebuilding.touched == rebuilding.upto - 1
    visits(world, THEIRS, MON + 4 * HOUR)
    assert answer(world, THEIRS) == "yes"
    assert world.feed(restate).counts == {(Outcome.OVERTAKEN, ""): 1}, "a second time, from a broker that had it"
    assert answer(world, THEIRS) == "yes"


def test_time_and_what_comes_for_others_is_nothing_that_came_in_between() -> None:
    world = two()
    world.merge(MON + HOUR)
    apart, _, before, _ = world.separates()
    restate = world.rebuilding(THEIRS, [*before, apart]).restate(apart, MON + 2 * HOUR)
    visits(world, "salesforce:3", MON + 2 * HOUR)
    world.feed(Tick(received=MON + 3 * HOUR))
    assert world.feed(restate).counts == {(Outcome.APPLIED, ""): 1}


def test_under_other_rules_what_the_state_did_not_have_is_unknown() -> None:
    world = two()
    world.merge(MON + HOUR)
    apart, _, before, _ = world.separates()
    restate = world.rebuilding(THEIRS, [*before, apart]).restate(apart, MON + 2 * HOUR)
    days = textwrap.dedent(question("{people: visit, at_least: 1, within: 1d}", "stop"))
    world.says(RulesetRecord(received=MON + 2 * HOUR, hash="", files=FILES | {"hot.yaml": days}))
    world.feed(restate)
    assert answer(world, THEIRS) == "unclassified"
    assert world.told_of(THEIRS, MON + 2 * DAY)
    assert answer(world, THEIRS) == "no"


def test_who_is_forgotten_while_the_state_is_on_its_way_is_not_brought_back() -> None:
    people = textwrap.dedent(question("{people: visit, at_least: 1, within: 7d}"))
    world = World(FILES | {"hot.yaml": people})
    visits(world, THEIRS, MON, person="p")
    visits(world, MINE, MON + 1, person="q")
    world.merge(MON + HOUR)
    apart, _, before, _ = world.separates()
    restate = world.rebuilding(THEIRS, [*before, apart]).restate(apart, MON + 2 * HOUR)
    world.says(Erase(received=MON + 2 * HOUR, persons=["p"]))
    assert world.feed(restate).counts == {(Outcome.APPLIED, ""): 1}
    assert answer(world, THEIRS) == "no"


def test_a_chain_is_taken_apart_from_its_end() -> None:
    """2 into 1, 1 into 0; then 1 is separated from 0, and 2 from 1: what came to 0 under 2's name is 2's."""
    world, end = two(2), "salesforce:0"
    world.says(Facts(account=end, at=MON, received=MON, set={"employees": 7}, source="crm"))
    world.merge(MON + HOUR)
    world.feed(Merge(account=MINE, into=end, at=MON + HOUR, received=MON + HOUR, by_crm=True))
    for hour in (2, 3):
        at = MON + hour * HOUR
        world.feed(Activity(account=end, name="visit", at=at, received=at, under=THEIRS))
    world.feed(Activity(account=THEIRS, name="visit", at=MON + 4 * HOUR, received=MON + 4 * HOUR))
    assert answer(world, end) == "yes"

    def separates(merged: str, stays: str, names: Sequence[str] = ()) -> None:
        theirs, mine = world.survey(merged), world.survey(stays)
        both = separate(theirs, mine, names)
        for survey, apart in zip((theirs, mine), both, strict=True):
            rebuilding = Rebuilding(
                survey.account, world.part(survey.account).partition.number, [*survey.apart, apart], compile_files
            )
            world.goes_on(rebuilding)
            done = world.feed(rebuilding.restate(apart, MON + 5 * HOUR))
            assert done.counts == {(Outcome.APPLIED, ""): 1}

    separates(MINE, end)
    assert (answer(world, end), answer(world, MINE)) == ("no", "yes")
    separates(THEIRS, MINE)
    assert [answer(world, each) for each in (end, MINE, THEIRS)] == ["no", "no", "yes"]
    assert [facts(world, each)["employees"] for each in (end, MINE, THEIRS)] == [7, 50, 5000]
    visits(world, MINE, MON + 6 * HOUR, MON + 7 * HOUR)
    assert [answer(world, each) for each in (end, MINE, THEIRS)] == ["no", "yes", "yes"]


def test_what_comes_too_late_under_the_others_name_is_lost_to_nobody() -> None:
    """It was decided before the separation and written to the log afterwards: it stays where it came to."""
    world = two()
    world.merge(MON + HOUR)
    theirs, mine, *_ = world.separates()
    visits(world, MINE, MON + 2 * HOUR, under=THEIRS)
    visits(world, MINE, MON + 3 * HOUR, under=THEIRS)
    for account, apart in ((THEIRS, theirs), (MINE, mine)):
        world.feed(world.rebuilding(account, [apart]).restate(apart, MON + 4 * HOUR))
    assert (answer(world, THEIRS), answer(world, MINE)) == ("no", "yes")


def test_an_account_that_nobody_had_heard_of_is_there_and_nothing_is_known_of_it() -> None:
    world = World(FILES)
    visits(world, MINE, MON)
    world.merge(MON + HOUR)
    world.unmerge(MON + 2 * HOUR)
    assert (answer(world, THEIRS), answer(world, MINE)) == ("no", "no")
    assert facts(world, THEIRS) == {}


def test_what_was_deleted_is_deleted_and_comes_back_when_it_is_restored() -> None:
    world = two()
    world.merge(MON + HOUR)
    world.says(Delete(account=THEIRS, at=MON + 2 * HOUR, received=MON + 2 * HOUR))
    state = world.state(MINE)
    assert state is not None
    assert not state.deleted
    world.unmerge(MON + 3 * HOUR)
    assert answer(world, THEIRS) == ""
    world.says(Restore(account=THEIRS, at=MON + 4 * HOUR, received=MON + 4 * HOUR))
    assert (answer(world, THEIRS), facts(world, THEIRS)) == ("no", {"employees": 5000})


def test_merged_again_it_is_one_again() -> None:
    world = two()
    visits(world, THEIRS, MON + HOUR)
    world.merge(MON + 2 * HOUR)
    world.unmerge(MON + 3 * HOUR)
    assert answer(world, MINE) == "no"
    world.merge(MON + 4 * HOUR)
    assert answer(world, MINE) == "yes"


def test_what_is_redelivered_counts_once() -> None:
    world = two()
    first = Activity(account=THEIRS, name="visit", at=MON + 1, received=MON + 1, via=("web.activity/0", 7, 0))
    world.feed(first)
    world.feed(first)
    world.merge(MON + HOUR)
    world.unmerge(MON + 2 * HOUR)
    assert answer(world, THEIRS) == "no"
    visits(world, THEIRS, MON + 3 * HOUR)
    assert answer(world, THEIRS) == "yes"


def test_what_rules_in_between_did_not_count_is_not_known_to_be_all() -> None:
    """The sweep after each ruleset drops what it does not ask for."""
    other = textwrap.dedent(question("{fact: employees, at_least: 200}"))
    lived = two()
    lived.merge(MON + HOUR)
    for hour, files in ((2, FILES | {"hot.yaml": other}), (3, FILES)):
        lived.says(RulesetRecord(received=MON + hour * HOUR, hash="", files=files))
    lived.unmerge(MON + 4 * HOUR)
    state = lived.state(THEIRS)
    assert state is not None
    assert [measures.floor_of(each) for each in state.measures.values()] == [MON + 3 * HOUR]

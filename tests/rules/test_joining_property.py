"""Two accounts that turn out to be one are as if everything had happened at the one that stays.

A history is split over two or three accounts, which become one at some point, in some order, some records still
coming for what is no more. Afterwards the account that stays stands wherever it would stand had it been one
from the start, at that instant and at every later one. Measures by themselves are asked the same, with so little
kept that much is missing: they are unknown then, and never wrong.

What is not equal, and why:

- **`for`, `stay`, `keep_for`** run on as they did at the account that stays: nobody can say since when a rule
  would have been true of both together. Rules here have no memory.
- **Ties.** What came from the other account bears the log offset of the record that brought it. So two reports of
  a fact at the same instant, and two steps of a sequence at the same instant, may come in another order.
  Instants are distinct here.
- **The same event at both accounts** counts once where entries are kept, if its id is still known to both. A score
  keeps none, and has it twice; a different event of that instant is taken for it. Ids are distinct here, and
  `test_joining` tells those stories.
- **CRM merges** keep the facts of the account that stays; here all facts were its own if the CRM merges.
- **Floats** added in another order differ in the last place; an example that hangs on it ends there.
- **An erased visitor** is gone with all that was done; had it been known who it was, the counts would have stayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from generate import KINDS, PEOPLE, Pick, drawing, fresh, log_of, rule_files
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import CLOSE, Life, Naive, TooClose
from story import DAY
from test_measures_property import (
    AHEAD,
    COMPARED,
    OF,
    Crowd,
    History,
    Score,
    amounts,
    chains,
    drawn,
    says,
    scores,
)
from test_property import LATER, PROFILE, compile_files, held, right_or_unclassified

from rules import compiler, counting, growing, measures
from rules.engine import let_time_pass, step
from rules.growing import Add
from rules.measures import Decision, Verdict
from rules.records import (
    AccountRecord,
    Activity,
    Contact,
    Delete,
    EndOverride,
    Erase,
    Facts,
    Merge,
    Override,
    Record,
    Restore,
    Same,
    Tick,
    is_visitor,
)
from rules.replay import Replay
from rules.ruleset import InForce, Join, Ruleset
from rules.state import NEVER, AccountState
from rules.work import Kind

HOME = "home"
MANY = settings(PROFILE, max_examples=2 * PROFILE.max_examples)  # they are small
FEW = settings(PROFILE, max_examples=PROFILE.max_examples // 2)

# -- measures -----------------------------------------------------------------------------------------------


@dataclass
class Measured:
    """A kind of measure, as accounts keep it that let so much be kept, and what is asked of it."""

    empty: Callable[[int], bytes]
    feeds: Callable[[int, int], list[Add]]  # (number of the activity, entries kept) -> how it is fed
    join: Callable[[int], Join]
    decide: Callable[[bytes, int], Decision]
    truth: Callable[[int], Verdict]


@dataclass
class Split:
    """A history at three accounts, one of which may have nothing, until they are one; then it goes on there."""

    history: History
    places: list[int]  # at which account each activity happened
    apart: int  # so many came before they were one
    keep: list[int]
    introduced: list[int]  # since when each account's fold has kept the measure
    measured: Measured = field(repr=False)
    made_of: Any = None

    @property
    def joined_at(self) -> int:
        return self.history.arrivals[max(self.apart - 1, 0)][0]

    def accounts(self) -> list[bytes]:
        return [self._account(place) for place in range(3)]

    def _account(self, place: int) -> bytes:
        arrivals = [each for each in self.history.arrivals[: self.apart] if self.places[each[2]] == place]
        since = self.introduced[place]
        measure = self.measured.empty(since if any(log_time <= since for log_time, _, _ in arrivals) else 0)
        return self._fed(measure, [each for each in arrivals if each[0] > since], self.keep[place])

    def _fed(self, measure: bytes, arrivals: Sequence[tuple[int, int, int]], keep: int) -> bytes:
        for log_time, at, offset in arrivals:
            for add in self.measured.feeds(offset, keep):
                measure = add(measure, at, _activity(self.made_of, at, offset), log_time)
        return measure

    def join(self, mine: bytes, theirs: bytes, offset: int) -> bytes:
        return self.measured.join(self.keep[0])(mine, theirs, offset, self.joined_at, False)

    def going_on(self, measure: bytes) -> bytes:
        return self._fed(measure, self.history.arrivals[self.apart :], self.keep[0])

    def whole(self) -> bytes:
        """The measure had all happened at one account."""
        return self._fed(self.measured.empty(0), self.history.arrivals, self.keep[0])

    @property
    def is_even(self) -> bool:
        """Whether all accounts kept as much, from the start."""
        return len(set(self.keep)) == 1 and not any(self.introduced)

    def decisions(self, measure: bytes) -> list[Decision]:
        now = self.history.now
        return [self.measured.decide(measure, at) for at in range(now, now + AHEAD)]


def _activity(made_of: Any, at: int, offset: int) -> Activity:
    person = made_of.who[offset] if isinstance(made_of, Crowd) else None
    values = getattr(made_of, "values", None)
    props = {"v": values[offset]} if values else {}
    return Activity(account=HOME, name="x", at=at, received=at, offset=offset, person=person, props=props)


def split(pick: Pick, history: History, made_of: Any, measured: Measured) -> Split:
    """Where each activity happens, and until when the accounts are apart."""
    arrivals = history.arrivals
    apart = pick.of(range(1, len(arrivals) + 1))
    keep = [history.keep] * 3 if pick.of([True, True, False]) else [pick.of([1, 2, 3, 9]) for _ in range(3)]
    early = [0, 0, 0, 0, arrivals[0][0], arrivals[(apart - 1) // 2][0], arrivals[apart - 1][0]]
    places = [pick.of(pick.of([[0, 1, 2], [0, 1]])) for _ in arrivals]
    return Split(history, places, apart, keep, [pick.of(early) for _ in range(3)], measured, made_of)


def joined_counts(pick: Pick) -> Split:
    history, k = History(pick), pick.of([1, 1, 2, 2, 3, 4])
    longest = history.longest
    return split(
        pick,
        history,
        k,
        Measured(
            measures.empty_ring,
            lambda offset, keep: [growing.ring_add(keep, longest)],
            lambda keep: growing.RING.join(keep, longest),
            lambda ring, now: measures.ring_decide_leaving(ring, k, history.leaves, now),
            lambda now: len(history.inside(now)) >= k,
        ),
    )


def joined_people(pick: Pick) -> Split:
    crowd = Crowd(pick)
    history = crowd.history
    _make_distinct(history)
    return split(
        pick,
        history,
        crowd,
        Measured(
            measures.empty_ring,
            lambda offset, keep: [growing.people_add(keep, history.longest)],
            lambda keep: growing.PEOPLE.join(keep, history.longest),
            crowd.decide,
            crowd.truth,
        ),
    )


def joined_amounts(pick: Pick) -> Split:
    case = amounts(pick)
    history = case.history
    _make_distinct(history)
    window = counting.Window(history.leaves, history.longest, "in a while")
    condition = counting.amount("m", case.kind, "amount", case.op, case.bound, window)

    def truth(now: int) -> Verdict:
        there = [case.values[offset] for _, offset in history.inside(now)]
        if not there and case.kind != "sum":
            return None
        return COMPARED[case.op](OF[case.kind](there), case.bound)

    return split(
        pick,
        history,
        case,
        Measured(
            measures.empty_ring,
            lambda offset, keep: [growing.amounts_add("v")(keep, history.longest)],
            lambda keep: growing.AMOUNTS.join(keep, history.longest),
            lambda ring, now: condition.decide(AccountState(born=0, measures={"m": ring}), now),
            truth,
        ),
    )


def joined_firsts(pick: Pick) -> Split:
    history, age = History(pick), pick.of([1, 5, 10, 30])
    earliest = history.pairs[0][0]
    return split(
        pick,
        history,
        age,
        Measured(
            measures.empty_ring,
            lambda offset, keep: [growing.first_add(keep, NEVER)],
            lambda keep: growing.FIRST.join(keep, NEVER),
            lambda first, now: measures.first_decide(first, age, now),
            lambda now: earliest <= now - age,
        ),
    )


def joined_sequences(pick: Pick) -> Split:
    case = chains(pick)
    history = case.history
    if pick.of([True, False]):  # more of what is dropped, and may have been part of a chain
        history.keep, case.ever, case.span = pick.of([1, 1, 2]), True, pick.of([2, 3, 5])
        case.steps = [pick.of([[0], [case.n - 1], [case.n - 1], [1]]) for _ in case.steps]
    _make_distinct(history)
    span, ends, longest = case.span, case.ends, NEVER if case.ever else history.longest

    def leaving(at: int) -> int:
        return NEVER if case.ever else history.leaves(at)

    def feeds(offset: int, keep: int) -> list[Add]:
        return [growing.sequence_add(each, span)(keep, longest) for each in case.steps[offset]]

    return split(
        pick,
        history,
        case,
        Measured(
            lambda floor: measures.empty_sequence(case.n, floor),
            feeds,
            lambda keep: growing.sequence(span).join(keep, longest),
            lambda known, now: measures.ring_decide_leaving(measures.completions(known), 1, leaving, now),
            lambda now: any(leaving(end) > now for end in ends),
        ),
    )


def _make_distinct(history: History) -> None:
    taken: set[int] = set()
    for i, (log_time, at, offset) in enumerate(history.arrivals):
        free = next(each for each in range(at, 0, -1) if each not in taken)
        taken.add(free)
        history.arrivals[i] = log_time, free, offset
    history.pairs = sorted((at, offset) for _, at, offset in history.arrivals)


def joined_scores(pick: Pick) -> Split:
    case = scores(pick)
    parts, threshold = case.parts, case.threshold

    def feeds(offset: int, keep: int) -> list[Add]:
        part, weight = case.given[offset]
        return [growing.score_add(weight, parts[part].half_life, part)(1, NEVER)]

    return split(
        pick,
        case.history,
        case,
        Measured(
            lambda floor: measures.empty_score(len(parts), floor),
            feeds,
            lambda keep: growing.score([part.half_life for part in parts]).join(1, NEVER),
            lambda score, now: measures.score_decide(score, threshold, parts, now, case.signed),
            lambda now: case.value(now) >= threshold,
        ),
    )


def never_wrong(case: Split) -> list[bytes]:
    """Joins the three in both orders, lets the rest happen, and sees that what they say is so."""
    mine, second, third = case.accounts()
    one_by_one = case.going_on(case.join(case.join(mine, second, 100), third, 101))
    in_a_chain = case.going_on(case.join(mine, case.join(second, third, 100), 101))
    for joined in (one_by_one, in_a_chain):
        says(lambda now, joined=joined: case.measured.decide(joined, now), case.measured.truth, case.history.now)
    return [one_by_one, in_a_chain]


def the_same_as_one(case: Split) -> None:
    one_by_one, in_a_chain = never_wrong(case)
    if case.is_even:
        assert case.decisions(one_by_one) == case.decisions(case.whole())
    if len(set(case.keep)) == 1:
        assert case.decisions(one_by_one) == case.decisions(in_a_chain)


@settings(MANY)
@given(drawn(joined_counts))
def test_a_count_at_several_accounts_is_one_count(case: Split) -> None:
    the_same_as_one(case)


@settings(MANY)
@given(drawn(joined_people))
def test_people_at_several_accounts_are_counted_once(case: Split) -> None:
    the_same_as_one(case)


@settings(MANY)
@given(drawn(joined_amounts))
def test_amounts_at_several_accounts_are_one_amount(case: Split) -> None:
    the_same_as_one(case)


@settings(MANY)
@given(drawn(joined_firsts))
def test_the_first_at_several_accounts_is_the_earliest(case: Split) -> None:
    the_same_as_one(case)


@settings(MANY, max_examples=2 * MANY.max_examples)
@given(drawn(joined_sequences))
def test_a_sequence_over_several_accounts_is_never_wrong(case: Split) -> None:
    """Where nothing was dropped it is what it would have been at one account, in whatever order they joined."""
    one_by_one, in_a_chain = never_wrong(case)
    if case.is_even and max(len(case.history.arrivals), 3) <= case.keep[0]:
        assert case.decisions(one_by_one) == case.decisions(case.whole()) == case.decisions(in_a_chain)


@settings(MANY)
@given(drawn(joined_scores))
def test_scores_at_several_accounts_add_up(case: Split) -> None:
    made: Score = case.made_of
    truth = case.measured.truth

    def near(now: int) -> bool:
        return abs(made.value(now) - made.threshold) <= CLOSE * made.threshold

    def sure(now: int) -> Verdict:
        return case.measured.decide(joined, now)[0] if near(now) else truth(now)

    mine, second, third = case.accounts()
    for joined in (
        case.going_on(case.join(case.join(mine, second, 100), third, 101)),
        case.going_on(case.join(mine, case.join(second, third, 100), 101)),
    ):
        says(lambda now, joined=joined: case.measured.decide(joined, now), sure, case.history.now)
        assert any(case.introduced) or case.measured.decide(joined, case.history.now)[0] is not None


@settings(MANY)
@given(
    drawn(
        lambda pick: pick.of(
            [joined_counts, joined_people, joined_amounts, joined_firsts, joined_sequences, joined_scores]
        )(pick)
    )
)
def test_joining_an_account_where_nothing_happened_changes_no_answer(case: Split) -> None:
    mine, *_ = case.accounts()
    nothing = case.measured.empty(0)
    assert case.decisions(case.join(mine, nothing, 100)) == case.decisions(mine)
    assert case.decisions(case.join(nothing, mine, 100)) == case.decisions(mine)


@settings(MANY)
@given(drawn(joined_people), st.sampled_from("pqr"), st.sampled_from([None, "p", "q", "new"]))
def test_somebody_known_by_another_name_counts_as_that_one(case: Split, person: str, same_as: str | None) -> None:
    """Renaming before or after joining is the same, and so is having had that name from the start."""
    if not case.is_even or case.made_of.asked:
        return
    crowd: Crowd = case.made_of
    mine, second, _ = case.accounts()
    late = measures.person_renamed(case.join(mine, second, 100), person, same_as)
    soon = case.join(*(measures.person_renamed(each, person, same_as) for each in (mine, second)), 100)
    crowd.who = [same_as if each == person else each for each in crowd.who]
    mine, second, _ = case.accounts()
    start = case.join(mine, second, 100)
    if len({each for each in crowd.who if each}) < case.keep[0]:
        assert case.decisions(late) == case.decisions(soon) == case.decisions(start)
    tag = measures.person_tag(person)
    assert person == same_as or not any(tag in each for each in (late, soon))
    assert same_as is not None or len(late) <= len(mine) + len(second)


# -- accounts -----------------------------------------------------------------------------------------------


@dataclass
class World:
    """A ruleset; a log in which all is known from the start, and the same one over several accounts."""

    files: dict[str, str]
    together: list[Record]
    apart: list[Record]
    aliases: dict[str, str]  # as whom somebody was known at first -> who it is

    @property
    def end(self) -> int:
        return max(record.received for record in self.together)


@st.composite
def joined_worlds(
    draw: st.DrawFn, most: int = 22, shapes: Sequence[str] = KINDS, missing: bool = True, visitors: bool = True
) -> World:
    pick = drawing(draw)
    files = rule_files(pick, shapes, dwell=False, missing=missing)
    log = _distinct([each for each in log_of(pick, most) if not isinstance(each, Delete | Restore | Tick)])
    apart, aliases = _split(pick, log, visitors)
    heard_of = _heard_of(apart)
    left_out = {each.at for each in apart if isinstance(each, SAYING) and each.at not in heard_of}

    def counts(record: Any) -> bool:
        return not (isinstance(record, SAYING) and record.at in left_out)

    return World(files, list(filter(counts, log)), list(filter(counts, apart)), aliases)


SAYING = (Override, EndOverride)


def _heard_of(apart: list[Any]) -> set[int]:
    """When something was said of an account that somebody had heard of by then; else it counts nowhere."""
    into: dict[str, str] = {}
    heard, found = set[str](), set[int]()
    for each in apart:
        account = each.account
        while account in into:
            account = into[account]
        if isinstance(each, SAYING):
            found |= {each.at} if account in heard else set()
        elif isinstance(each, Merge):
            into[each.account] = each.into
            target = each.into
            while target in into:
                target = into[target]
            heard |= {target} if account in heard else set()
        elif not isinstance(each, Same):
            heard.add(account)
    return found


def _distinct(log: list[Any]) -> list[Any]:
    """Each at an instant of its own, none later than its log_time; each id once."""
    found, taken, log_time = [], set(), 0
    for i, record in enumerate(log):
        log_time = max(log_time, record.received)
        at = next(each for each in range(min(record.at, log_time), 0, -1) if each not in taken)
        taken.add(at)
        id = f"{record.id}/{i}" if record.id else ""
        found.append(msgspec.structs.replace(record, account=HOME, at=at, id=id))
    return found


def _split(pick: Pick, log: list[Any], visitors: bool) -> tuple[list[Record], dict[str, str]]:
    """The log over several accounts, which are merged on the way; and who was known by another name."""
    if not log:
        return [], {}
    short = log[-1].received - log[0].received < 25 * DAY  # a visitor is forgotten some day
    first = "visitor:v" if visitors and short and pick.of([True, True, False]) else "group:g"
    others = [first, *pick.of([[], ["domain:d"], ["crm"]])]
    by_crm = pick.one_in(4)  # then all facts are the survivor's
    into = {each: pick.of([HOME, *others[i + 1 :]]) for i, each in enumerate(others)}
    places = {each: pick.of(range(len(log) + 1)) for each in others}
    known_as = {each: pick.of(PEOPLE) for each in others if pick.of([True, False])}
    # Of two accounts the later word would count, though it may have ended or been taken back by then: what was
    # said before is not kept. So all is said of one; and of a visitor nothing can be said.
    said_of = pick.of([HOME, *(each for each in others if not is_visitor(each))])
    same, same_at = pick.of(PEOPLE), pick.of([0, pick.of(range(len(log) + 1))])
    apart: list[Record] = []
    log_time = log[0].received
    for i in range(len(log) + 1):
        for each in others:
            if places[each] == i:
                person = (f"anonymous at {each}", known_as[each]) if each in known_as else None
                head: dict[str, Any] = {"account": each, "at": log_time, "received": log_time}
                apart.append(Merge(**head, into=into[each], by_crm=by_crm, person=person))
        if same_at == i:
            apart.append(Same(account=HOME, person="old", same_as=same, at=log_time, received=log_time))
        if i == len(log):
            break
        record = log[i]
        log_time = max(log_time, record.received)
        facts = by_crm and isinstance(record, Facts)
        account = HOME if facts else pick.of([HOME, *others])
        account = said_of if isinstance(record, SAYING) else account
        more: dict[str, Any] = {"account": account}
        if isinstance(record, Activity | Contact) and record.person is not None:
            if account != HOME and i < places[account] and record.person == known_as.get(account):
                more["person"] = f"anonymous at {account}"
            elif account == HOME and i < same_at and record.person == same:
                more["person"] = "old"
        apart.append(msgspec.structs.replace(record, **more))
    return apart, {"old": same} | {f"anonymous at {each}": person for each, person in known_as.items()}


def outlive(world: World, together: Replay, apart: Replay) -> Iterator[tuple[int, Any, Any]]:
    """Where the account stands in either, at the end and at each later instant at which either may move."""
    end = now = world.end
    for _ in range(60):
        for replay in (together, apart):
            list(replay.advance(now))
        yield (
            now,
            *(held(each.states.get(HOME), each.rules.ruleset) for each in (together, apart)),
        )
        now = min(each.next_wake() for each in (together, apart))
        if now > end + LATER:
            break


def is_too_close(world: World, now: int) -> bool:
    """Whether floats added in another order decide. The oracle says so."""
    life = Life(Naive(world.files))
    log_time = 0
    try:
        for record in world.together:
            log_time = max(log_time, record.received)
            life.meets(record, log_time)
        life.pass_time(now)
    except TooClose:
        return True
    return False


@settings(FEW, max_examples=2 * FEW.max_examples)
@given(joined_worlds())
def test_what_became_one_stands_where_it_would_had_it_always_been_one(world: World) -> None:
    if not world.together:
        return
    ruleset = compile_files(world.files)
    together, apart = Replay(ruleset), Replay(ruleset)
    list(together.run(fresh(world.together)))
    told = list(apart.run(fresh(world.apart)))
    for now, expected, found in outlive(world, together, apart):
        if expected != found:
            assert is_too_close(world, now), (now, expected, found)
            return
    known: dict[str, dict[str, tuple[str, ...]]] = {}
    for change in (out.change for out in told):
        assert not is_visitor(change.account)
        if change.kind is Kind.STATE:
            known[change.account] = {name: each.answer for name, each in change.memberships.items()}
        else:
            known[change.account][change.dimension] = change.after
    now_apart = Replay(ruleset)
    list(now_apart.run(fresh(world.apart)))
    for account, answers in known.items():
        said = {dimension: answer for dimension, answer in answers.items() if answer}
        assert said == held(now_apart.states[account], ruleset)
        assert account == HOME or not said


@settings(FEW)
@given(joined_worlds(shapes=("ladder stop",), missing=False))
def test_where_too_little_is_kept_an_answer_is_right_or_unclassified(world: World) -> None:
    """With rings of two, most of what happened is missing somewhere. The other account keeps all of it."""
    if not world.together:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "KEPT_AT_LEAST", 2)
        patch.setattr(measures, "TAGGED_KEPT", 2)
        together, apart = Replay(compile_files(world.files)), Replay(compiler.compile_files(world.files))
    list(together.run(fresh(world.together)))
    list(apart.run(fresh(world.apart)))
    for now, expected, found in outlive(world, together, apart):
        if not right_or_unclassified(found, expected):
            assert is_too_close(world, now), (now, expected, found)
            return


@st.composite
def two_partitions(draw: st.DrawFn) -> tuple[list[dict[str, str]], list[Any], list[bool], int, tuple[int, int]]:
    """Two rulesets; a log over two partitions; when one's account is merged into the other's, and when each fold
    learns the second ruleset."""
    pick = drawing(draw)
    files = [rule_files(pick, ("ladder stop",), dwell=False, missing=False) for _ in range(2)]
    log = _distinct([each for each in log_of(pick, 14) if not isinstance(each, (Delete, Restore, Tick, *SAYING))])
    places = range(len(log) + 1)
    theirs = [pick.of([True, False]) for _ in log]
    return files, log, theirs, pick.of(places), (pick.of(places), pick.of(places))


class Fold:
    """One account, step by step, under rules that become others."""

    def __init__(self, name: str, ruleset: Ruleset) -> None:
        self.name = name
        self.rules = InForce().switch(ruleset, -1, 0)
        self.state: AccountState | None = None

    def meets(self, record: AccountRecord, log_time: int) -> list[AccountRecord]:
        done = step(self.state, msgspec.structs.replace(record, account=self.name), log_time, self.rules)
        self.state = done.state
        return list(done.sent)

    def learns(self, ruleset: Ruleset, offset: int, log_time: int) -> None:
        self.rules = self.rules.switch(ruleset, offset, log_time)

    def passes(self, until: int) -> None:
        if self.state is not None:
            self.state = let_time_pass(self.name, self.state, until, until, self.rules).state


@settings(FEW)
@given(two_partitions())
def test_what_the_other_fold_did_not_keep_is_unknown_and_never_wrong(case: Any) -> None:
    files, log, theirs, merged_at, learnt = case
    old, new = (compile_files(each) for each in files)
    home, other = Fold(HOME, old), Fold("other", old)
    life = Life(Naive(files[1]))
    log_time, offset = log[0].received if log else 1, 0
    for i in range(len(log) + 1):
        for fold, since in zip((home, other), learnt, strict=True):
            if since == i:
                fold.learns(new, offset, log_time)
                offset += 1
        if merged_at == i:
            merge = Merge(account="other", into=HOME, at=log_time, received=log_time, offset=offset)
            for sent in other.meets(merge, log_time):
                home.meets(msgspec.structs.replace(sent, offset=offset + 1), log_time)
            offset += 2
        if i == len(log):
            break
        log_time = max(log_time, log[i].received)
        record = msgspec.structs.replace(log[i], offset=offset)
        life.history.append((log_time, record))
        offset += 2
        for sent in (other if theirs[i] else home).meets(record, log_time):
            home.meets(msgspec.structs.replace(sent, offset=offset - 1), log_time)
    try:
        life.is_judged_by(life.rules, log_time)
        home.passes(log_time)
        for _ in range(30):
            assert right_or_unclassified(held(home.state, new), life.answers)
            now = min(life.next_flip(), home.state.wake if home.state else NEVER)
            if now > log_time + LATER:
                break
            life.pass_time(now)
            home.passes(now)
    except TooClose:
        return


@settings(FEW)
@given(joined_worlds(visitors=False), st.sampled_from(PEOPLE))
def test_to_forget_somebody_before_or_after_joining_is_the_same(world: World, person: str) -> None:
    """After it nothing is kept of them at any account."""
    if not world.together:
        return
    ruleset = compile_files(world.files)
    names = [person, *(alias for alias, each in world.aliases.items() if each == person)]
    last = max(i for i, record in enumerate(world.apart) if isinstance(record, Merge))
    merge = world.apart[last]
    forget = Erase(received=merge.received, persons=names)
    soon, late = Replay(ruleset), Replay(ruleset)
    list(soon.run(fresh([*world.apart[:last], forget, merge])))
    list(late.run(fresh([*world.apart[:last], merge, forget])))
    one, other = soon.states.get(HOME), late.states.get(HOME)
    assert held(one, ruleset) == held(other, ruleset)
    assert (one.contacts if one else {}) == (other.contacts if other else {})
    for state in (*soon.states.values(), *late.states.values()):
        assert state.contacts.keys().isdisjoint(names)
        assert not any(measures.person_tag(each) in kept for each in names for kept in state.measures.values())

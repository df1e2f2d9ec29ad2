"""Two accounts turn out to be one: who came before anybody knew her, what is left behind, who is forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from story import (
    ACME,
    DAY,
    FRI,
    HOUR,
    MON,
    MS,
    NAMES,
    SAT,
    SUN,
    THU,
    TUE,
    WED,
    Account,
    given,
    given_when,
    moved,
    question,
    ruleset,
)

from rules import measures
from rules.applying import CONTACTS_KEPT, FACTS_KEPT
from rules.changes import cloud_event, memberships
from rules.engine import HOPS, VISITORS_KEPT_DAYS, erase, let_time_pass, step
from rules.fold import ERASED_KEPT, Partition, fold
from rules.joining import ALSO_KEPT
from rules.measures import TAGGED_KEPT, person_tag
from rules.records import (
    AccountRecord,
    Activity,
    Contact,
    Delete,
    Erase,
    Facts,
    Merge,
    Record,
    Restore,
    RulesetRecord,
    Same,
    Stale,
    Tick,
    Transfer,
)
from rules.ruleset import InForce
from rules.state import GONE, HERE, NEVER, SEEN_BYTES, SEEN_KEPT, AccountState, Fact, Report, pack, unpack
from rules.work import Cause, Kind, Outcome

YES, NO, UNKNOWN = "yes", "no", "unclassified"
WEEK = 7 * DAY
VISITOR, DOMAIN, OLD = "visitor:7", "domain:acme.com", "acme-old"
HOT = """
dimension: engagement
segments:
  - {segment: hot, when: {count: pricing, at_least: 3, within: 7d}}
  - {segment: cold, otherwise: true}
"""
TWICE = question("{count: visit, at_least: 2, within: 7d}")
TWO_PEOPLE = "{people: visit, at_least: 2, within: 7d}"
PRICING = {"path": "/pricing"}


def seen(where: str, name: str = "visit", at: int | Iterable[int] = MON, **more: Any) -> list[Record]:
    """Activities at an account, at those instants; `arriving` if later."""
    arriving, props = more.pop("arriving", 0), more.pop("props", {})
    instants = [at] if isinstance(at, int) else at
    return [
        Activity(account=where, name=name, at=each, received=arriving or each, props=props, **more)
        for each in instants
    ]


def learnt(where: str, at: int, source: str = "crm", **facts: Any) -> Facts:
    return Facts(account=where, at=at, received=at, set=facts, source=source)


def merge(gone: str, at: int, into: str = ACME, **more: Any) -> Merge:
    return Merge(account=gone, into=into, at=at, received=at, **more)


def met(where: str, person: str, at: int, gone: bool = False, source: str = "crm", **facts: Any) -> Contact:
    return Contact(account=where, person=person, at=at, received=at, set=facts, gone=gone, source=source)


def fed(account: Account, *records: Record | Sequence[Record]) -> Account:
    for each in records:
        for record in each if isinstance(each, Sequence) else [each]:
            account.feed(record)
    return account


def told_of(account: Account, name: str) -> list[Any]:
    """Everything that was published of one account: kind, cause, where it is merged into, its memberships."""
    changes = [out.change for out in account.outgoing if out.change.account == name]
    return [(str(each.kind), str(each.cause), each.merged_into, dict(each.memberships)) for each in changes]


def kept(state: AccountState) -> Any:
    return state.facts, state.contacts, state.measures, state.standings, state.also, state.seen, state.wake


def is_redirect(state: AccountState | None) -> bool:
    """Whether nothing is left but where it went."""
    assert state is not None
    return state.merged_into == ACME and kept(state) == kept(AccountState(born=0))


# -- who came before anybody knew her -----------------------------------------------------------------------


def test_what_an_anonymous_visitor_read_counts_once_it_is_known_who_she_is() -> None:
    account = given(HOT).sees("page", at=MON, props=PRICING)
    fed(account, seen(VISITOR, "page", [MON + HOUR, MON + 2 * HOUR], props=PRICING))
    assert account.segment("engagement") == "cold"
    fed(account, merge(VISITOR, TUE))
    assert account.changes == [moved("engagement", "cold", "hot", TUE, cause="identity")]
    assert account.told[-1].stays_until == MON + WEEK
    (ring,) = account.state.measures.values()
    brought = account.replay.partition.offset - 1  # the place in this log of the record that brought it
    pairs = measures.ring_pairs(ring, lambda at: NEVER, 0)[0]
    assert [(pair.at - MON, pair.offset) for pair in pairs] == [(2 * HOUR, brought), (HOUR, brought), (0, 0)]
    assert account.until(SUN + 2 * DAY).segment("engagement") == "cold"


def test_nobody_is_told_of_a_visitor() -> None:
    account = fed(given(HOT), seen(VISITOR, "page", [MON, TUE, WED], props=PRICING), merge(VISITOR, THU))
    assert {out.change.account for out in account.outgoing} == {ACME}
    (first,) = account.told
    assert (first.kind, first.cause, first.effective) == (Kind.STATE, Cause.IDENTITY, THU)
    assert account.segment("engagement") == "hot"


def test_the_visitor_was_counted_as_somebody_else_until_she_was_known() -> None:
    account = fed(given_when(TWO_PEOPLE), seen(VISITOR, person="cookie", at=MON), seen(ACME, person="ann", at=TUE))
    fed(account, merge(VISITOR, WED, person=("cookie", "ann")))
    assert account.segment() == NO
    other = fed(given_when(TWO_PEOPLE), seen(VISITOR, person="cookie", at=MON), seen(ACME, person="ann", at=TUE))
    assert fed(other, merge(VISITOR, WED)).segment() == YES


def test_a_visitor_nobody_knows_is_forgotten_after_thirty_days() -> None:
    account = fed(given(HOT), seen(VISITOR, "page", MON + HOUR, props=PRICING))
    forgotten = MON + (VISITORS_KEPT_DAYS + 1) * DAY
    assert account.replay.states[VISITOR].wake == forgotten
    assert VISITOR in account.until(forgotten - MS).replay.states
    assert VISITOR not in account.until(forgotten).replay.states
    assert account.outgoing == []
    assert fed(account, merge(VISITOR, forgotten + DAY), seen(ACME, at=forgotten + DAY)).state.measures == {}


def test_a_visitor_who_comes_again_is_kept_for_longer() -> None:
    account = fed(given(HOT), seen(VISITOR, "page", [MON, MON + 29 * DAY], props=PRICING))
    account.until(MON + 40 * DAY)
    assert account.replay.states[VISITOR].wake == MON + (29 + VISITORS_KEPT_DAYS + 1) * DAY


def test_a_visitor_who_comes_again_before_anybody_noticed_that_she_is_forgotten_is_new() -> None:
    """No tick came between: the record itself finds her overdue."""
    rules = InForce().switch(ruleset(TWICE), -1, 0)
    (first,), (again,) = seen(VISITOR, at=MON), seen(VISITOR, at=MON + 31 * DAY)
    state = step(None, first, MON, rules).state
    again.offset = 9
    assert step(state, again, MON + 31 * DAY - MS, rules).state.born == 0
    assert step(state, again, MON + 31 * DAY, rules).state.born == 9


def test_the_trace_of_a_visitor_who_is_known_goes_too() -> None:
    account = fed(given(HOT), seen(VISITOR), merge(VISITOR, TUE, person=("cookie", "ann")))
    assert account.replay.states[VISITOR].merged_into == ACME
    assert VISITOR not in account.until(TUE + 31 * DAY).replay.states


def test_a_sequence_whose_first_step_was_anonymous() -> None:
    account = fed(given_when("{sequence: [page, demo], span: 1d}"), seen(VISITOR, "page", MON))
    fed(account, seen(ACME, "demo", MON + HOUR))
    assert account.segment() == NO
    assert fed(account, merge(VISITOR, TUE)).segment() == YES
    assert account.changes == [moved("answer", NO, YES, TUE, cause="identity")]


def test_a_sequence_the_wrong_way_round_is_none() -> None:
    account = fed(given_when("{sequence: [page, demo], span: 1d}"), seen(VISITOR, "page", MON + 2 * HOUR))
    assert fed(account, seen(ACME, "demo", MON + HOUR), merge(VISITOR, TUE)).segment() == NO


def test_scores_add_up_as_they_decay() -> None:
    """40 for a demo, halved in a week: 20; 10 for a visit today. The threshold is met exactly, and left soon."""
    account = fed(given_when("{score: interest, at_least: 30}"), seen(VISITOR, "demo", MON))
    fed(account, seen(ACME, at=MON + WEEK))
    assert account.segment() == NO
    fed(account, merge(VISITOR, MON + WEEK))
    assert account.segment() == YES
    assert account.wakes_at == MON + WEEK + MS


def test_records_from_an_import_change_memberships_as_an_import() -> None:
    account = fed(given(HOT, TWICE), seen(VISITOR, at=[MON, TUE]), seen(ACME, "demo", MON))
    fed(account, merge(VISITOR, WED, origin="import"))
    assert [(each.dimension, each.origin) for each in account.told[1:]] == [("answer", "import")]


# -- what is left behind ------------------------------------------------------------------------------------


def test_a_provisional_account_leaves_every_segment_with_a_last_word() -> None:
    account = fed(given(TWICE, HOT), seen(DOMAIN, at=[MON, TUE]))
    assert account.replay.states[DOMAIN].standings["answer"].answer == (YES,)
    fed(account, merge(DOMAIN, WED))
    last = account.outgoing[-2]
    assert told_of(account, DOMAIN)[-1] == ("account.state", "identity", ACME, {})
    assert (last.change.provisional, last.change.effective, last.change.origin) == (True, WED, "live")
    assert memberships(0, last.ruleset, last) is None
    assert b'"merged_into":"acme","memberships":{}' in cloud_event(0, last.ruleset, last)
    assert is_redirect(account.replay.states[DOMAIN])
    assert account.told[-1].cause == Cause.IDENTITY
    assert account.segment() == YES
    assert account.state.also == (DOMAIN,)
    account.until(SUN + 9 * DAY)
    assert told_of(account, DOMAIN)[-1][2] == ACME


def test_two_accounts_of_the_crm_are_told_to_be_merged() -> None:
    account = fed(given(TWICE), seen(OLD, at=MON), seen(ACME, at=TUE), merge(OLD, WED, by_crm=True))
    assert told_of(account, OLD)[-1] == ("account.state", "merge", ACME, {})
    assert account.changes == [moved("answer", NO, YES, WED, cause="merge")]


def test_what_still_comes_for_it_reaches_the_other_once_and_in_order() -> None:
    account = fed(given(TWICE), seen(DOMAIN, at=MON), merge(DOMAIN, TUE))
    late = [learnt(DOMAIN, WED, employees=1), learnt(DOMAIN, THU, employees=2)]
    fed(account, seen(DOMAIN, at=WED, id="e1"), late, met(DOMAIN, "ann", THU), seen(DOMAIN, at=THU, id="e1"))
    assert account.changes == [moved("answer", NO, YES, WED)]
    assert account.state.facts["employees"].value == 2
    assert [*account.state.contacts] == ["ann"]
    (ring,) = account.state.measures.values()
    assert len(measures.ring_pairs(ring, lambda at: NEVER, 0)[0]) == 2
    assert is_redirect(account.replay.states[DOMAIN])


def test_what_is_passed_on_says_who_passes_it_and_when() -> None:
    rules = InForce().switch(ruleset(TWICE), -1, 0)
    left = AccountState(born=0, merged_into=ACME)
    (visit,) = seen(DOMAIN, at=MON, id="e1", via=("web/0", 3, 0), person="ann", props={"a": 1})
    done = step(left, visit, TUE, rules)
    assert (done.outcome, done.changes) == (Outcome.PASSED_ON, ())
    assert is_redirect(done.state)
    (expected,) = seen(ACME, at=MON, arriving=TUE, id="e1", hops=1, person="ann", props={"a": 1}, under=DOMAIN)
    assert done.sent == (expected,)


@pytest.mark.parametrize("kind", [Delete, Restore])
def test_that_its_source_has_it_no_more_says_nothing_of_the_other(kind: type[Any]) -> None:
    account = fed(given(TWICE), seen(DOMAIN, at=MON), merge(DOMAIN, TUE))
    before = pack(account.state)
    fed(account, kind(account=DOMAIN, at=WED, received=WED), merge(DOMAIN, WED, into="elsewhere"))
    assert pack(account.state) == before
    assert set(account.replay.states) == {ACME, DOMAIN}


def test_an_account_nobody_has_heard_of_leaves_a_redirect_and_tells_nothing() -> None:
    account = fed(given(TWICE), merge(OLD, MON, by_crm=True))
    assert (set(account.replay.states), account.outgoing) == ({OLD}, [])
    assert fed(account, seen(OLD, at=TUE)).segment() == NO
    assert fed(account, seen(OLD, at=WED)).changes == [moved("answer", NO, YES, WED)]


def test_an_account_is_not_merged_into_itself() -> None:
    account = fed(given(TWICE), seen(ACME, at=[MON, TUE]))
    before = kept(account.state)
    assert kept(fed(account, merge(ACME, WED)).state) == before
    assert account.changes == [moved("answer", NO, YES, TUE)]


def test_an_account_nobody_has_heard_of_is_not_made_by_merging_it_into_itself() -> None:
    assert fed(given(TWICE), merge(ACME, MON)).replay.states == {}


def test_what_was_deleted_goes_into_the_other_silently() -> None:
    """A CRM deletes the account that loses before it says that the two were merged."""
    account = fed(given(TWICE), seen(OLD, at=[MON, TUE]), Delete(account=OLD, at=WED, received=WED))
    fed(account, merge(OLD, WED, by_crm=True))
    assert [each[2] for each in told_of(account, OLD)].count(ACME) == 0
    assert account.segment() == YES
    assert not account.state.deleted


def test_a_deleted_account_takes_in_the_other_and_stays_deleted() -> None:
    account = fed(given(TWICE), seen(ACME, at=MON)).is_deleted(at=TUE)
    fed(account, seen(DOMAIN, at=TUE), merge(DOMAIN, WED))
    assert (account.state.deleted, account.state.standings, account.changes) == (True, {}, [])
    assert account.is_restored(at=THU).segment() == YES


# -- facts --------------------------------------------------------------------------------------------------


def test_where_the_crm_merges_the_facts_of_the_one_that_stays_win_and_missing_ones_are_filled() -> None:
    account = given(TWICE).learns(at=MON, employees=10, country="DE").learns(at=MON, clear=["country"])
    fed(account, learnt(OLD, TUE, employees=20, country="AT", industry="Shops"), merge(OLD, WED, by_crm=True))
    found = {name: fact.value for name, fact in account.state.facts.items()}
    assert found == {"employees": 10, "country": "AT", "industry": "Shops"}


def test_what_a_provisional_account_learnt_counts_by_when_it_was_so() -> None:
    account = given(TWICE).learns(at=TUE, employees=10, country="DE")
    fed(account, learnt(DOMAIN, MON, employees=20), learnt(DOMAIN, WED, country="AT"), merge(DOMAIN, THU))
    assert {name: fact.value for name, fact in account.state.facts.items()} == {"employees": 10, "country": "AT"}


RANKED = NAMES.replace("employees: {type: number}", "employees: {type: number, sources: [crm, web], refresh: 2d}")


@pytest.mark.parametrize("crm_at_home", [True, False])
@pytest.mark.parametrize(("crm_at", "expected"), [(WED, 10), (MON, 30)])
def test_what_a_provisional_account_learnt_counts_by_rank(crm_at_home: bool, crm_at: int, expected: int) -> None:
    """The web was heard twice: its word counts where the CRM's is more than two days older than its last."""
    here, there = (ACME, DOMAIN) if crm_at_home else (DOMAIN, ACME)
    account = given(TWICE, names=RANKED)
    fed(account, *sorted([learnt(here, crm_at, employees=10), learnt(there, TUE, "web", employees=20)], key=_time))
    fed(account, learnt(there, THU, "web", employees=30), merge(DOMAIN, FRI))
    fact = account.state.facts["employees"]
    assert fact.value == expected
    assert {report.value for report in (fact, *fact.others)} == {10, 30}


def _time(record: Any) -> int:
    return int(record.received)


def test_all_that_was_reported_of_a_fact_goes_along() -> None:
    """What the web said stands behind what the CRM said; it counts when the CRM takes its word back."""
    account = given(TWICE, names=RANKED)
    fed(account, learnt(DOMAIN, MON, "web", employees=20), learnt(DOMAIN, TUE, employees=10), merge(DOMAIN, WED))
    assert account.learns(at=THU, clear=["employees"]).state.facts["employees"].value == 20


def test_more_facts_and_people_than_are_kept_are_refused_and_counted() -> None:
    rules = InForce().switch(ruleset(TWICE), -1, 0)
    facts = {f"f{i}": Fact(i, MON) for i in range(FACTS_KEPT)}
    contacts = {f"p{i}": {HERE: Fact(True, MON)} for i in range(CONTACTS_KEPT)}
    mine = AccountState(born=1, facts=facts, contacts=contacts)
    more = {f"g{i}": Fact(i, MON) for i in range(2)} | {"f0": Fact("new", TUE)}
    theirs = AccountState(born=0, facts=more, contacts={"q": {}, "p1": {"status": Fact("ok", TUE)}})
    done = step(mine, _transfer(theirs, rules), TUE, rules)
    assert done.state.facts.keys() == facts.keys()
    assert done.state.facts["f0"].value == "new"
    assert done.state.contacts.keys() == contacts.keys()
    assert done.state.contacts["p1"]["status"].value == "ok"
    assert done.refused == ("g0", "g1", "contacts")
    assert (len(mine.facts), len(mine.contacts)) == (FACTS_KEPT, CONTACTS_KEPT)


def _transfer(theirs: AccountState, rules: InForce, merged: str = OLD, **more: Any) -> Transfer:
    theirs.ruleset = theirs.ruleset or rules.ruleset.hash
    head: dict[str, Any] = {"at": TUE, "received": TUE, "offset": 77} | more
    return Transfer(account=ACME, merged=merged, ruleset=theirs.ruleset, state=pack(theirs), **head)


STATUS_RANKED = NAMES.replace("status: {type: text}", "status: {type: text, sources: [crm, web]}")


# -- people -------------------------------------------------------------------------------------------------


def test_a_person_known_under_two_ids_counts_as_one() -> None:
    account = given_when(TWO_PEOPLE).sees(at=MON, person="cookie").sees(at=TUE, person="ann")
    assert account.segment() == YES
    fed(account, Same(account=ACME, person="cookie", same_as="ann", at=WED, received=WED))
    assert account.changes[-1] == moved("answer", YES, NO, WED, cause="identity")
    assert account.sees(at=WED, person="bob").segment() == YES


def test_who_is_the_same_is_one_contact_with_the_later_facts() -> None:
    account = given_when("{contacts: all, where: {status: ok}}").contact("ann", at=TUE, status="ok")
    account.contact("cookie", at=MON, status="bounced", level="CEO").contact("cookie", at=MON, title="x")
    assert account.segment() == NO
    fed(account, Same(account=ACME, person="cookie", same_as="ann", at=WED, received=WED))
    assert account.segment() == YES
    (ann,) = account.state.contacts.values()
    assert {name: fact.value for name, fact in ann.items()} == {"status": "ok", "level": "CEO", "title": "x"}


def test_of_who_is_the_same_the_higher_sources_word_counts() -> None:
    account = given(TWICE, names=STATUS_RANKED)
    fed(account, met(ACME, "ann", MON, status="ok"), met(ACME, "cookie", TUE, source="web", status="left"))
    fed(account, Same(account=ACME, person="cookie", same_as="ann", at=WED, received=WED))
    assert account.state.contacts["ann"]["status"].value == "ok"


def test_who_was_no_contact_by_that_name_is_one_by_the_other() -> None:
    account = given(TWICE).contact("cookie", at=MON, status="ok")
    fed(account, Same(account=ACME, person="cookie", same_as="ann", at=WED, received=WED))
    assert [*account.state.contacts] == ["ann"]


def test_that_two_nobody_has_heard_of_are_the_same_changes_nothing() -> None:
    account = given_when(TWO_PEOPLE)
    fed(account, Same(account=ACME, person="cookie", same_as="ann", at=MON, received=MON))
    assert account.replay.states == {}
    account.sees(at=MON, person="bob")
    before = kept(account.state)
    fed(account, Same(account=ACME, person="cookie", same_as="ann", at=TUE, received=TUE))
    assert kept(account.state) == before


def test_that_two_of_a_visitors_people_are_the_same_is_told_to_nobody() -> None:
    account = fed(given_when(TWO_PEOPLE), seen(VISITOR, at=MON, person="cookie"))
    fed(account, Same(account=VISITOR, person="cookie", same_as="ann", at=TUE, received=TUE))
    assert account.outgoing == []
    (ring,) = account.replay.states[VISITOR].measures.values()
    assert person_tag("ann") in ring


@pytest.mark.parametrize("gone_at_home", [True, False])
@pytest.mark.parametrize(("gone_at", "is_gone"), [(MON, False), (WED, False), (FRI, True)])
def test_a_contact_is_gone_unless_it_was_reported_since(gone_at_home: bool, gone_at: int, is_gone: bool) -> None:
    here, there = (ACME, DOMAIN) if gone_at_home else (DOMAIN, ACME)
    records = [met(here, "ann", gone_at, gone=True), met(there, "ann", WED, status="ok")]
    account = fed(given(TWICE), *sorted(records, key=_time), merge(DOMAIN, SAT))
    assert (GONE in account.state.contacts["ann"]) is is_gone


def test_who_left_an_account_at_the_instant_at_which_they_were_reported_there_is_gone() -> None:
    """At one account that is how it is; at two it is somebody who moved from one to the other."""
    account = given(TWICE).contact("ann", at=MON, status="left")
    fed(account, met(DOMAIN, "ann", WED, status="ok"), met(DOMAIN, "ann", WED, gone=True), merge(DOMAIN, SAT))
    assert GONE in account.state.contacts["ann"]


def test_a_contact_that_a_lower_source_reported_since_has_come_back() -> None:
    """Its word counts for less than the CRM's, and stands behind it; but it says that there is somebody."""
    account = given(TWICE, names=STATUS_RANKED).contact("ann", at=TUE, gone=True)
    fed(account, met(DOMAIN, "ann", MON, status="ok"), met(DOMAIN, "ann", WED, source="web", status="left"))
    facts = fed(account, merge(DOMAIN, THU)).state.contacts["ann"]
    assert facts["status"] == Fact("ok", MON, "crm", None, (Report("left", WED, "web"),))
    assert GONE not in facts


def test_to_be_known_by_another_name_takes_nobody_out_of_a_large_crowd() -> None:
    many = TAGGED_KEPT + 40
    account = given_when(f"{{people: visit, at_least: {many}, within: 7d}}")
    for i in range(many):
        account.sees(at=MON + i, person=f"p{i}")
    fed(account, Same(account=ACME, person="p7", same_as="ann", at=TUE, received=TUE))
    assert account.segment() == YES
    fed(account, Same(account=ACME, person="p9", same_as="p8", at=TUE, received=TUE))
    assert account.segment() == NO


# -- the same event twice -----------------------------------------------------------------------------------


def test_the_same_event_at_both_accounts_counts_once() -> None:
    account = fed(given(TWICE), seen(ACME, at=MON, id="e1"), seen(DOMAIN, at=MON, id="e1"), merge(DOMAIN, TUE))
    assert account.segment() == NO
    other = fed(given(TWICE), seen(ACME, at=MON, id="e1"), seen(DOMAIN, at=MON, id="e2"), merge(DOMAIN, TUE))
    assert other.segment() == YES


def test_an_event_that_the_other_had_is_known_afterwards() -> None:
    account = fed(given(TWICE), seen(DOMAIN, at=MON, id="e1"), merge(DOMAIN, TUE), seen(ACME, at=MON, id="e1"))
    assert account.segment() == NO


def test_the_same_event_at_both_accounts_is_one_amount_beside_another_of_that_instant() -> None:
    account = given_when("{sum: demo, of: seats, at_least: 10, within: 7d}")
    fed(account, seen(ACME, "demo", MON, id="e1", props={"seats": 5}))
    fed(account, seen(DOMAIN, "demo", MON, id="e1", props={"seats": 5}))
    assert fed(account, merge(DOMAIN, MON + HOUR)).segment() == NO
    fed(account, seen(OLD, "demo", MON, id="e1", arriving=TUE, props={"seats": 5}))
    fed(account, seen(OLD, "demo", MON, id="e2", arriving=TUE, props={"seats": 7}))
    assert fed(account, merge(OLD, WED)).segment() == YES


def test_one_event_at_both_accounts_is_not_two_steps() -> None:
    account = given_when("{sequence: [visit, visit], span: 1d}")
    fed(account, seen(ACME, at=MON, id="e1"), seen(DOMAIN, at=MON, id="e1"), merge(DOMAIN, TUE))
    assert account.segment() == NO
    assert account.sees(at=MON + HOUR, arriving=TUE).segment() == YES


def test_the_newest_marks_of_both_are_kept_those_of_the_one_that_stays_longest() -> None:
    rules = InForce().switch(ruleset(TWICE), -1, 0)
    marks = [i.to_bytes(SEEN_BYTES) for i in range(SEEN_KEPT + 2)]
    mine, theirs = AccountState(born=1, seen=b"".join(marks[2:])), AccountState(born=0, seen=b"".join(marks[:3]))
    assert step(mine, _transfer(theirs, rules), TUE, rules).state.seen == b"".join(marks[2:])
    few = AccountState(born=1, seen=b"".join(marks[2:4]))
    assert step(few, _transfer(theirs, rules), TUE, rules).state.seen == b"".join(marks[:4])


# -- circles and chains -------------------------------------------------------------------------------------


def test_two_accounts_merged_into_each_other_are_one_and_nothing_is_lost() -> None:
    account = fed(given(TWICE), seen(ACME, at=MON), seen(OLD, at=TUE), merge(OLD, WED), merge(ACME, WED, into=OLD))
    assert account.segment() == YES
    assert account.replay.states[OLD].merged_into == ACME
    assert account.state.also == (OLD,)
    assert fed(account, seen(OLD, at=THU)).told[-1].account == ACME
    assert sum(len(state.measures) for state in account.replay.states.values()) == 1


def test_two_accounts_that_are_merged_into_each_other_at_once_meet_at_the_same() -> None:
    """Each fold has given its account away before it hears of the other: both states go round."""
    rules = InForce().switch(ruleset(TWICE), -1, 0)
    states: dict[str, AccountState | None] = {}
    waiting: list[AccountRecord] = [*seen(ACME, at=MON), *seen(OLD, at=TUE)]
    waiting += [merge(ACME, WED, into=OLD), merge(OLD, WED)]
    for _ in range(4 * HOPS):
        if waiting:
            record = waiting.pop(0)
            done = step(states.get(record.account), record, WED, rules)
            states[record.account] = done.state
            waiting += done.sent
    assert waiting == []
    assert states[OLD].merged_into == ACME
    assert states[ACME].merged_into == ""
    assert states[ACME].standings["answer"].answer == (YES,)


def test_three_accounts_in_a_circle_are_one() -> None:
    account = fed(given(TWICE), seen("a", at=MON), seen("b", at=TUE), seen("c", at=TUE))
    fed(account, merge("a", WED, into="b"), merge("b", WED, into="c"), merge("c", WED, into="a"))
    (left,) = [name for name, state in account.replay.states.items() if not state.merged_into]
    assert account.replay.states[left].standings["answer"].answer == (YES,)
    (ring,) = account.replay.states[left].measures.values()
    assert len(measures.ring_pairs(ring, lambda at: NEVER, 0)[0]) == 3


def test_a_long_chain_is_no_circle() -> None:
    names = [f"a{i:02}" for i in range(20)]
    account = fed(given(TWICE), seen("a00", at=MON))
    for name, following in zip(names, [*names[1:], ACME], strict=True):
        fed(account, merge(name, TUE, into=following))
    fed(account, seen("a00", at=WED))
    assert account.segment() == YES
    assert [name for name, state in account.replay.states.items() if not state.merged_into] == [ACME]
    assert account.state.also == tuple(names)


def test_of_the_accounts_that_were_merged_the_last_are_noted_and_no_visitor() -> None:
    account = given(TWICE).sees(at=MON)
    for i in range(ALSO_KEPT + 2):
        fed(account, seen(f"a{i}", at=MON), merge(f"a{i}", MON))
    fed(account, seen(VISITOR, at=MON), merge(VISITOR, MON))
    assert account.state.also == tuple(f"a{i}" for i in range(2, ALSO_KEPT + 2))


# -- to be forgotten ----------------------------------------------------------------------------------------

WHO = "{people: visit, at_least: 2, within: 7d, who: {status: ok}}"


def test_who_asks_to_be_forgotten_is_no_contact_and_counted_no_more() -> None:
    account = given(question(WHO), HOT).contact("ann", at=MON, status="ok").contact("bob", at=MON, status="ok")
    account.sees(at=MON, person="ann").sees(at=TUE, person="bob")
    assert account.segment() == YES
    fed(account, Erase(persons=["ann", "nobody"], received=WED))
    assert account.changes[-1] == moved("answer", YES, NO, WED)
    assert [*account.state.contacts] == ["bob"]
    assert not any(person_tag("ann") in measure for measure in account.state.measures.values())


def test_who_was_only_counted_or_only_a_contact_is_forgotten_as_well() -> None:
    account = given_when(TWO_PEOPLE).sees(at=MON, person="ann").sees(at=MON, person="bob")
    assert fed(account, Erase(persons=["ann"], received=TUE)).segment() == NO
    account = given_when("{contacts: any, where: {status: ok}}").contact("ann", at=MON, status="ok")
    account.contact("bob", at=MON, status="left")
    assert fed(account, Erase(persons=["ann"], received=TUE)).segment() == NO


def test_that_somebody_unknown_asks_to_be_forgotten_changes_nothing() -> None:
    account = given(question(WHO)).contact("bob", at=MON, status="ok").sees(at=TUE, person="bob")
    before, told = kept(account.state), len(account.outgoing)
    fed(account, Erase(persons=["ann"], received=WED))
    assert (kept(account.state), len(account.outgoing)) == (before, told)


def test_visitors_who_were_her_vanish() -> None:
    account = fed(given(HOT), seen(VISITOR), seen("visitor:ann", at=MON), seen("visitor:8", at=MON))
    fed(account, met("visitor:8", "ann", MON), merge(VISITOR, TUE, person=("cookie", "ann")))
    fed(account, seen("visitor:9", at=TUE), Erase(persons=["ann"], received=WED))
    assert {name for name in account.replay.states if name.startswith("visitor:")} == {"visitor:9"}


def test_what_was_no_visitor_keeps_no_trace_of_who_it_turned_out_to_be() -> None:
    account = fed(given(HOT), seen(DOMAIN, person="cookie"), merge(DOMAIN, TUE, person=("cookie", "ann")))
    assert account.replay.states[DOMAIN].contacts == {}


def test_a_transfer_after_the_erasure_brings_nothing_back() -> None:
    """And nothing is told of her meanwhile: no account turns hot by somebody who is forgotten."""
    rules = InForce().switch(ruleset(question(WHO)), -1, 0)
    theirs: AccountState | None = None
    for record in [met(DOMAIN, "ann", TUE, status="ok"), *seen(DOMAIN, at=TUE, person="ann")]:
        theirs = step(theirs, record, TUE, rules).state
    assert theirs is not None
    account = given(question(WHO)).contact("bob", at=TUE, status="ok").sees(at=TUE, person="bob")
    fed(account, Erase(persons=["ann"], received=TUE))
    fed(account, _transfer(theirs, rules, merged=DOMAIN, at=WED, received=TUE + ERASED_KEPT - DAY))
    assert account.changes == []
    assert [*account.state.contacts] == ["bob"]
    assert not any(person_tag("ann") in measure for measure in account.state.measures.values())
    assert account.state.also == (DOMAIN,)


def test_an_erasure_is_remembered_for_seven_days() -> None:
    account = fed(
        given(TWICE), Erase(persons=["ann"], received=MON), Erase(persons=["bob"], received=MON + WEEK - MS)
    )
    assert account.replay.partition.erased == {"ann": MON, "bob": MON + WEEK - MS}
    fed(account, Erase(persons=["cid"], received=MON + WEEK))
    assert [*account.replay.partition.erased] == ["bob", "cid"]


def test_a_visitor_who_is_overdue_when_somebody_asks_to_be_forgotten_is_gone() -> None:
    """The erasure let time pass for a visitor, whose wake nothing could fire: it never came to an end."""
    rules = InForce().switch(ruleset(TWICE), -1, 0)
    (visit,) = seen(VISITOR, at=MON)
    state = step(None, visit, MON, rules).state
    assert erase(VISITOR, state, ["ann"], MON + 31 * DAY, rules).state is None
    assert erase(VISITOR, state, ["ann"], MON + 31 * DAY - MS, rules).state == state


# -- what a source could not say ----------------------------------------------------------------------------


def test_an_account_is_stale_until_its_source_is_read_again() -> None:
    account = given(TWICE).learns(at=MON, employees=1)
    fed(account, Stale(account=ACME, at=TUE, received=TUE, source="crm"))
    fed(account, Stale(account=ACME, at=THU, received=WED, source="web"))
    assert account.state.stale == {"crm": TUE, "web": WED}
    fed(account, learnt(ACME, THU, employees=2))
    fed(account, Facts(account=ACME, at=FRI, received=FRI, source="erp", set={"employees": 3}, origin="import"))
    assert account.state.stale == {"crm": TUE, "web": WED}
    fed(account, Facts(account=ACME, at=FRI, received=FRI, source="crm", set={"employees": 3}, origin="import"))
    assert account.state.stale == {"web": WED}


def test_what_is_stale_of_either_is_stale_of_both() -> None:
    account = given(TWICE).learns(at=MON, employees=1)
    fed(account, learnt(OLD, MON, country="DE"), Stale(account=OLD, at=TUE, received=TUE, source="crm"))
    fed(account, Stale(account=OLD, at=TUE, received=TUE, source="web"))
    fed(account, Stale(account=ACME, at=WED, received=WED, source="crm"), merge(OLD, THU, by_crm=True))
    assert account.state.stale == {"crm": WED, "web": TUE}


def test_of_an_account_nobody_has_heard_of_nothing_is_stale() -> None:
    account = fed(given(TWICE), Stale(account=ACME, at=MON, received=MON, source="crm"))
    assert account.replay.states == {}


# -- other rules --------------------------------------------------------------------------------------------

QUIET = question("{never: click}").replace("answer", "quiet")


def test_what_the_other_fold_did_not_keep_is_unknown_up_to_when_it_gave_the_account_away() -> None:
    theirs, ours = (InForce().switch(ruleset(*texts), -1, 0) for texts in ([HOT], [TWICE, QUIET]))
    (visit, *_) = seen(DOMAIN, at=MON)
    given_away = step(step(None, visit, MON, theirs).state, merge(DOMAIN, TUE), TUE, theirs).sent[0]
    assert isinstance(given_away, Transfer)
    assert (unpack(given_away.state).standings, unpack(given_away.state).wake) == ({}, NEVER)
    done = step(None, given_away, TUE, ours)
    answers = {name: standing.answer for name, standing in done.state.standings.items()}
    assert answers == {"answer": (UNKNOWN,), "quiet": (UNKNOWN,)}
    assert done.state.wake == TUE + WEEK
    assert let_time_pass(ACME, done.state, SUN + WEEK, SUN + WEEK, ours).state.standings["answer"].answer == (NO,)


def test_what_both_folds_keep_goes_along_under_other_rules_too() -> None:
    theirs, ours = (InForce().switch(ruleset(*texts), -1, 0) for texts in ([HOT, TWICE], [TWICE]))
    state: AccountState | None = None
    for visit in seen(DOMAIN, at=[MON, TUE]):
        state = step(state, visit, TUE, theirs).state
    done = step(None, step(state, merge(DOMAIN, TUE), TUE, theirs).sent[0], TUE, ours)
    assert done.state.standings["answer"].answer == (YES,)
    assert done.state.measures.keys() == ours.ruleset.measures.keys()


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ("{count: visit, at_least: 2, within: 7d}", measures.PAIR),
        ("{people: visit, at_least: 2, within: 7d}", measures.TAGGED),
        ("{sum: visit, of: seats, at_least: 2, within: 7d}", measures.TAGGED),
    ],
)
def test_what_has_left_every_window_is_not_kept_any_longer(asked: str, size: int) -> None:
    account = given_when(asked)
    for where, at, person in [(DOMAIN, MON, "ann"), (DOMAIN, TUE, "bob"), (ACME, MON + WEEK, "cid")]:
        fed(account, seen(where, at=at, person=person, props={"seats": 1}))
    fed(account, merge(DOMAIN, MON + WEEK))
    (ring,) = account.state.measures.values()
    assert (len(ring), measures.floor_of(ring)) == (measures.INSTANT + 2 * size, MON)
    assert account.segment() == YES
    assert account.until(TUE + WEEK).segment() == NO


def test_where_the_rules_are_the_same_what_is_not_there_never_happened() -> None:
    account = fed(given(TWICE, QUIET), seen(DOMAIN, at=MON), merge(DOMAIN, TUE))
    assert account.segment("quiet") == YES
    assert fed(account, seen(DOMAIN, "click", WED)).segment("quiet") == NO


def test_new_rules_reach_what_was_merged_under_the_old() -> None:
    account = fed(given(TWICE), seen(DOMAIN, at=[MON, TUE]), merge(DOMAIN, WED))
    account.gets_rules(HOT, TWICE.replace("at_least: 2", "at_least: 3"), at=THU)
    assert account.segment() == NO
    assert is_redirect(account.replay.states[DOMAIN])
    assert account.changes[-1].cause == "rules"


# -- a partition --------------------------------------------------------------------------------------------


def test_what_a_fold_sends_does_not_depend_on_the_cut() -> None:
    """Its place was counted over the batch: cut otherwise, the same record was another one to its receiver."""
    rules = InForce().switch(ruleset(TWICE), -1, 0)
    log = [*seen(DOMAIN, at=MON), *seen(OLD, at=MON), merge(DOMAIN, TUE), merge(OLD, TUE), *seen(OLD, at=WED)]
    for offset, record in enumerate(log):
        record.offset = offset
    at_once = fold(Partition(3), rules, log, {}, _no_rules).sent
    partition, states, one_by_one = Partition(3), {}, []
    for record in log:
        folded = fold(partition, rules, [record], states, _no_rules)
        partition, states = folded.partition, states | folded.states
        one_by_one += folded.sent
    assert [each.via for each in at_once] == [("account.log/3", offset, 0) for offset in (2, 3, 4)]
    assert at_once == one_by_one


def test_a_visitor_that_a_tick_forgets_is_not_swept_by_it() -> None:
    """The sweep looked for its state, found none and called that a bug: the partition stood still."""
    rules = InForce().switch(ruleset(TWICE), -1, 0)
    (visit,) = seen(VISITOR, at=MON)
    folded = fold(Partition(0), rules, [visit], {}, _no_rules)
    states, wake = folded.states, folded.states[VISITOR].wake
    partition = fold(folded.partition, rules, [_rules_record(TUE)], states, lambda files: ruleset(HOT)).partition
    now_in_force = rules.switch(ruleset(HOT), 1, TUE)
    swept = fold(partition, now_in_force, [Tick(received=wake)], states, _no_rules, [(wake, VISITOR)], [VISITOR])
    assert swept.states == {VISITOR: None}
    assert swept.partition.sweep is None


def _rules_record(at: int) -> RulesetRecord:
    return RulesetRecord(received=at, hash="", files={})


def _no_rules(files: Any) -> Any:
    raise AssertionError("no ruleset is in this log")


# -- measures -----------------------------------------------------------------------------------------------


def sequence(*steps: tuple[int, int], keep: int = 2, span: int = 20, floor: int = 0) -> bytes:
    """Steps of a sequence of two, each with its instant."""
    known = measures.empty_sequence(2, floor)
    for offset, (step_, at) in enumerate(steps):
        known = measures.sequence_add(known, step_, at, offset, span, keep, 1_000, 300)
    return known


def ended(known: bytes, now: int = 300) -> measures.Decision:
    return measures.ring_decide_leaving(measures.completions(known), 1, lambda at: at + 1_000, now)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        # The last step at 100 was dropped at one account; the first at 90 is the other's.
        ([(1, 100), (1, 200), (1, 250)], [(0, 90)], (None, 1_100)),
        # It would have been too late, or it came before.
        ([(1, 100), (1, 200), (1, 250)], [(0, 70)], (None, 1_090)),
        ([(1, 100), (1, 200), (1, 250)], [(0, 110)], (False, NEVER)),
        # The first step was dropped at one, the last is the other's.
        ([(0, 90), (0, 200), (0, 250)], [(1, 100)], (None, 1_100)),
        ([(0, 90), (0, 200), (0, 250)], [(1, 110)], (None, 1_110)),
        ([(0, 90), (0, 200), (0, 250)], [(1, 111)], (False, NEVER)),
        # Both were dropped.
        ([(0, 90), (0, 200), (0, 250)], [(1, 100), (1, 150), (1, 170)], (None, 1_100)),
        ([(0, 90), (0, 200), (0, 250)], [(1, 140), (1, 150), (1, 170)], (None, 1_110)),
        # Nothing was dropped.
        ([(0, 90)], [(1, 110)], (True, 1_110)),
        ([(0, 90)], [(1, 111)], (False, NEVER)),
        ([(0, 90), (1, 100)], [(0, 150), (1, 160)], (True, 1_160)),
        # What had been there stays, however much comes after.
        ([(0, 90), (1, 100)], [(1, 200), (1, 210), (1, 220)], (True, 1_100)),
        # It was so all along: what was dropped at one account alone took nothing away.
        ([(0, 40), (1, 60), (0, 90), (0, 91), (1, 150)], [], (True, 1_060)),
        ([(1, 10), (1, 20), (1, 30), (0, 40)], [], (False, NEVER)),
        # What is dropped only now is looked at first.
        ([(1, 100)], [(0, 90), (1, 200), (1, 210)], (True, 1_100)),
        # The other account has nothing that a chain could lack.
        ([(1, 75), (0, 80), (0, 81), (0, 82)], [], (False, NEVER)),
        ([(1, 75), (0, 80), (0, 81), (0, 82)], [(0, 10)], (False, NEVER)),
    ],
)
def test_a_chain_over_two_accounts(swap: bool, one: Any, other: Any, expected: measures.Decision) -> None:
    mine, theirs = (sequence(*each) for each in ((other, one) if swap else (one, other)))
    assert ended(measures.sequence_join(mine, theirs, 9, 20, 2, False)) == expected


def test_a_joined_sequence_keeps_as_much_as_any() -> None:
    steps = [(each, at) for at in range(10, 60, 10) for each in (0, 1)]
    joined = measures.sequence_join(sequence(*steps, keep=9), sequence(*steps, keep=9), 9, 20, 3, False)
    assert len(joined) == 3 * (2 + measures.INSTANT + 3 * measures.PAIR)
    assert len(measures.sequence_join(joined, joined, 9, 20, 3, True)) == len(joined)

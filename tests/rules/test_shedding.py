"""Of facts that no rule reads an account keeps so much, and says when some had to go; what rules read stays."""

from __future__ import annotations

from typing import Any

from story import ACME, HOUR, MON, NAMES, TUE, question, ruleset

from rules.engine import step
from rules.explain import explanation
from rules.facts import LIST_KEPT, TEXT_KEPT
from rules.records import AccountRecord, Contact, Facts, Transfer
from rules.ruleset import InForce
from rules.shedding import UNREAD_BYTES
from rules.state import GONE, HERE, AccountState, pack

LARGE = question("{fact: employees, at_least: 200}")
RULES = InForce().switch(ruleset(LARGE, names=NAMES), -1, 0)
LONG = "x" * TEXT_KEPT
ROOM = UNREAD_BYTES // (TEXT_KEPT + 16 + len("note00"))  # so many of these fit
MOST = 3 * UNREAD_BYTES


def after(*records: AccountRecord, state: AccountState | None = None) -> AccountState:
    for offset, record in enumerate(records):
        record.offset = offset
        state = step(state, record, record.received, RULES).state
        assert state is not None
        assert len(pack(state)) < MOST
    assert state is not None
    return state


def learns(at: int, **facts: Any) -> Facts:
    return Facts(account=ACME, at=at, received=at, source="crm", set=facts)


def met(person: str, at: int, **facts: Any) -> Contact:
    return Contact(account=ACME, person=person, at=at, received=at, source="crm", set=facts)


def test_the_oldest_of_what_no_rule_reads_goes_first() -> None:
    notes = [learns(MON + n, **{f"note{n:02}": LONG}) for n in range(ROOM + 3)]
    state = after(learns(MON - HOUR, employees=900), *notes)
    assert sorted(state.facts) == ["employees", *(f"note{n:02}" for n in range(3, ROOM + 3))]
    assert state.degraded == notes[-1].received
    assert state.standings["answer"].answer == ("yes",)
    told = explanation(ACME, state, RULES.ruleset, TUE)
    assert (told["degraded"], told["facts"]["employees"]["value"]) == ("2026-03-02T00:00:00.063Z", 900)


def test_what_fits_is_left_alone() -> None:
    state = after(*(learns(MON + n, **{f"note{n:02}": LONG}) for n in range(ROOM)))
    assert (len(state.facts), state.degraded) == (ROOM, 0)
    assert explanation(ACME, state, RULES.ruleset, TUE)["degraded"] is None


def test_what_counts_is_bytes_and_not_characters() -> None:
    state = after(*(learns(MON + n, **{f"note{n:02}": "\N{SNOWMAN}" * TEXT_KEPT}) for n in range(ROOM)))
    assert len(state.facts) == UNREAD_BYTES // (3 * TEXT_KEPT + 16 + len("note00"))


def test_one_value_is_never_larger_than_what_is_kept_of_it() -> None:
    state = after(learns(MON, story="x" * 1_000_000, list=["y" * 1_000] * 10 * LIST_KEPT))
    assert len(state.facts["story"].value) == TEXT_KEPT
    assert "list" not in state.facts, "a thousand texts of 512 characters are too much at once"


def test_people_share_the_room_and_are_still_there_without_their_notes() -> None:
    people = [met(f"p{n:03}", MON + n, status="active", note00=LONG) for n in range(ROOM + 2)]
    state = after(*people)
    assert [*state.contacts] == [each.person for each in people]
    assert all("status" in facts for facts in state.contacts.values())
    assert [p for p, facts in state.contacts.items() if "note00" not in facts] == ["p000", "p001"]
    assert state.contacts["p000"][HERE].at == MON


def test_that_somebody_had_gone_earlier_is_no_news_though_the_facts_that_say_so_were_dropped() -> None:
    people = [met(f"p{n:03}", MON + n, note00=LONG) for n in range(ROOM + 2)]
    gone = Contact(account=ACME, person="p000", at=MON - HOUR, received=TUE, source="crm", gone=True)
    assert GONE not in after(*people, gone).contacts["p000"]


def test_two_accounts_that_become_one_keep_as_much_as_one() -> None:
    mine, theirs = (
        after(*(learns(MON + n, **{f"{name}{n:02}": LONG}) for n in range(ROOM))) for name in ("mine", "they")
    )
    record = Transfer(
        account=ACME, merged="salesforce:other", ruleset=RULES.ruleset.hash, state=pack(theirs), at=TUE,
        received=TUE, source="crm",
    )  # fmt: skip
    joined = after(record, state=mine)
    assert len(joined.facts) == ROOM
    assert joined.degraded == TUE

"""The log is not what it was, or not all of it: a partition stops, or a record goes where it belongs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import rules.fold
from rules.records import Activity, Facts, Record, Release, RulesetRecord, decode_record, encode_record
from rules.state import SEEN_BYTES
from streams.pipeline import GapError, OtherLogError, Owned, fold_batch
from streams.producer import partition_of
from streams.store.memory import MemoryStore

PARTITIONS = 4
HERE = next(name for name in map(str, range(99)) if partition_of(name, PARTITIONS) == 0)
ELSEWHERE = next(name for name in map(str, range(99)) if partition_of(name, PARTITIONS) == 3)
RULES = {
    "rules.yaml": """
activities:
  visit: {}
---
dimension: engagement
segments:
  - {segment: warm, when: {seen: visit, within: 7d}}
  - {segment: cold, otherwise: true}
"""
}


@dataclass(frozen=True, slots=True)
class Message:
    offset: int
    value: bytes | None


def log(*records: Record, first: int = 0) -> list[Message]:
    return [Message(first + n, encode_record(record)) for n, record in enumerate(records)]


def visit(account: str, at: int) -> Activity:
    return Activity(account=account, name="visit", at=at, received=at, source="web", via=("web/0", at, 0))


RULESET = RulesetRecord(received=1, hash="", files=RULES)


async def owned(store: MemoryStore) -> Owned:
    return Owned.from_store(await store.acquire(0), PARTITIONS)


async def test_a_record_in_a_partition_that_is_not_its_accounts_goes_on_to_the_right_one() -> None:
    store = MemoryStore()
    done = await fold_batch(log(RULESET, visit(HERE, 5), visit(ELSEWHERE, 6)), await owned(store), store)
    assert await store.accounts_after(0, "", 9) == [HERE]
    (entry,) = (await store.outbox(0, 9))[-1:]
    (sent,) = [each for each in entry.messages if each.topic == "account.log"]
    record = decode_record(sent.value or b"")
    assert isinstance(record, Activity)
    assert (sent.key, record.account, record.at, record.via) == (ELSEWHERE, ELSEWHERE, 6, ("account.log/0", 2, 0))
    assert done.counts["diverted", "web"] == 1
    assert done.partition.offset == 3


async def test_the_last_message_folded_is_looked_at_once_more() -> None:
    store = MemoryStore()
    messages = log(RULESET, visit(HERE, 5), visit(HERE, 6))
    await fold_batch(messages[:2], await owned(store), store)
    done = await fold_batch(messages[1:], await owned(store), store)
    assert done.partition.offset == 3


async def test_another_log_under_the_same_name_is_not_folded() -> None:
    store = MemoryStore()
    await fold_batch(log(RULESET, visit(HERE, 5)), await owned(store), store)
    other = log(RULESET, Facts(account=HERE, at=5, received=5), visit(HERE, 6))
    with pytest.raises(OtherLogError, match="offset 1 is not what was folded"):
        await fold_batch(other[1:], await owned(store), store)
    assert (await store.acquire(0)).partition.offset == 2


async def test_what_is_missing_is_named() -> None:
    store = MemoryStore()
    await fold_batch(log(RULESET), await owned(store), store)
    with pytest.raises(GapError, match="offsets 1 to 6 are not in the log") as error:
        await fold_batch(log(visit(HERE, 9), first=7), await owned(store), store)
    assert error.value.lost == (1, 7)


async def test_what_is_parked_can_be_sent_in_again_and_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    store, step = MemoryStore(), rules.fold.step

    def raises(state: object, record: Record, *given: object) -> None:
        raise OverflowError("math range error")

    monkeypatch.setattr(rules.fold, "step", raises)
    await fold_batch(log(RULESET, visit(HERE, 5), visit(HERE, 6)), await owned(store), store)
    letters = [
        each for entry in await store.outbox(0, 9) for each in entry.messages if each.topic == "dead.letters"
    ]
    assert [each.key for each in letters] == ["account.log/0/1", "account.log/0/2"]
    told = dict(letters[0].headers)
    assert (told["stage"], told["reason"]) == (b"fold", b"quarantined")
    assert told["detail"].decode() == f"{HERE} is in quarantine: OverflowError: math range error"

    monkeypatch.setattr(rules.fold, "step", step)
    again = [each.value or b"" for each in letters]
    more = [encode_record(Release(account=HERE, received=7)), *again, *again]
    await fold_batch([Message(3 + n, value) for n, value in enumerate(more)], await owned(store), store)
    state = (await store.load(0, [HERE]))[HERE]
    assert state.standings["engagement"].answer == ("warm",)
    assert len(state.seen) == 2 * SEEN_BYTES

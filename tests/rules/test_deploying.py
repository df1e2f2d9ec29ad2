"""What a deployment leaves on its changes and in its partition."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from story import ACME, MON, THU, TUE, WED, Account, given, ruleset

from rules.changes import cloud_event
from rules.compiler import compile_files
from rules.fold import DEPLOYED_KEPT, Partition, fold
from rules.records import (
    ACCOUNTS_PER_TICK,
    Activity,
    Facts,
    Record,
    RulesetRecord,
    Tick,
    decode_record,
    encode_record,
)
from rules.ruleset import NO_RULES, InForce
from rules.state import AccountState

HOT = """
dimension: engagement
segments:
  - {segment: hot, when: {count: visit, at_least: 2, within: 7d}}
  - {segment: cold, otherwise: true}
"""
LOOSER = HOT.replace("at_least: 2", "at_least: 1")
SIZE = """
dimension: size
segments:
  - {segment: big, when: {fact: employees, at_least: 500}}
  - {segment: small, otherwise: true}
"""


def deployed(text: str, at: int, quiet: bool = False, id: str = "d1") -> RulesetRecord:
    return RulesetRecord(received=at, hash="", files=dict(ruleset(text).files), deployment=id, quiet=quiet)


def told(account: Account) -> list[dict[str, Any]]:
    """The data of everything that was published of it."""
    return [
        msgspec.json.decode(cloud_event(0, out.ruleset, out))["data"]
        for out in account.outgoing
        if out.change.account == ACME
    ]


@pytest.mark.parametrize(("quiet", "origin"), [(False, "live"), (True, "backfill")])
def test_what_a_deployment_changes_says_so_and_whether_it_is_news(quiet: bool, origin: str) -> None:
    account = given(HOT, SIZE).sees("visit", at=MON).learns(at=MON, employees=900)
    account.feed(deployed(LOOSER, TUE, quiet))
    cold, hot = [each for each in told(account) if each["cause"] == "rules"]
    assert (cold["dimension"], cold["to"], hot["dimension"], hot["to"]) == ("size", None, "engagement", "hot")
    assert {(each["origin"], each["deployment"]) for each in (cold, hot)} == {(origin, "d1")}


def test_what_happens_afterwards_is_news_and_no_deployments_doing() -> None:
    account = given(HOT).sees("visit", at=MON).feed(deployed(HOT.replace("2,", "3,"), TUE, quiet=True))
    account.sees("visit", at=[WED, WED]).until(MON + 8 * (TUE - MON))
    last = told(account)[1:]
    assert [(each["cause"], each["origin"]) for each in last] == [("data", "live"), ("time", "live")]
    assert not [each for each in last if "deployment" in each]


@pytest.mark.parametrize(("quiet", "origin"), [(False, "live"), (True, "backfill")])
def test_the_first_rules_introduce_accounts_as_a_deployment_wishes(quiet: bool, origin: str) -> None:
    account = Account(NO_RULES).learns(at=MON, employees=900).feed(deployed(SIZE, TUE, quiet))
    (state,) = told(account)
    assert (state["memberships"]["size"]["answer"], state["origin"]) == ("big", origin)
    assert (state["cause"], state["deployment"]) == ("rules", "d1")


def test_whoever_takes_a_partition_over_tells_the_same_of_those_that_the_sweep_has_not_come_to() -> None:
    partition, states = folded(Partition(0), {}, deployed(HOT, MON), visit("a", MON), visit("b", MON))
    partition, states = folded(partition, states, deployed(LOOSER, TUE, quiet=True, id="d2"))
    partition = msgspec.msgpack.decode(msgspec.msgpack.encode(partition), type=Partition)
    assert (partition.deployment, partition.quiet) == ("d2", True)
    done = fold(
        *(partition, partition.in_force(compile_files(deployed(LOOSER, 1).files))),
        *([Tick(received=WED, offset=partition.offset)], states, compile_files, [], ["a", "b"]),
    )
    assert [(out.change.deployment, out.change.origin) for out in done.outgoing] == [("d2", "backfill")] * 2


def visit(account: str, at: int) -> Activity:
    return Activity(account=account, name="visit", at=at, received=at)


def folded(
    partition: Partition, states: dict[str, AccountState], *records: Record, unswept: list[str] | None = None
) -> tuple[Partition, dict[str, AccountState]]:
    """Each record by itself, under the rules that the log says."""
    for record in records:
        record.offset = partition.offset
        rules = partition.in_force(_known.get(partition.ruleset, NO_RULES))
        done = fold(partition, rules, [record], states, compile_files, [], unswept or [])
        _known[done.rules.ruleset.hash] = done.rules.ruleset
        partition = done.partition
        states = states | {name: state for name, state in done.states.items() if state is not None}
    return partition, states


_known: dict[str, Any] = {}


def test_a_partition_knows_where_its_rulesets_stand() -> None:
    texts = [HOT, LOOSER]
    partition = Partition(0)
    for n in range(DEPLOYED_KEPT + 3):
        partition, _ = folded(partition, {}, deployed(texts[n % 2], MON + n))
    assert partition.deployed == tuple(range(3, DEPLOYED_KEPT + 3))
    assert partition.deployed[-1] == partition.ruleset_offset


def test_it_knows_how_many_accounts_its_sweep_has_come_to() -> None:
    names = [f"a{n:04}" for n in range(ACCOUNTS_PER_TICK + 5)]
    partition, states = folded(Partition(0), {}, deployed(HOT, MON), *(visit(name, MON) for name in names))
    partition, states = folded(partition, states, deployed(LOOSER, TUE))
    assert (partition.sweep, partition.swept) == ("", 0)
    partition, states = folded(partition, states, Tick(received=TUE), unswept=names[:ACCOUNTS_PER_TICK])
    assert (partition.sweep, partition.swept) == (names[ACCOUNTS_PER_TICK - 1], ACCOUNTS_PER_TICK)
    partition, states = folded(partition, states, Tick(received=WED), unswept=names[ACCOUNTS_PER_TICK:])
    assert (partition.sweep, partition.swept) == (None, ACCOUNTS_PER_TICK + 5)
    assert folded(partition, states, deployed(HOT, THU))[0].swept == 0


def test_a_sweep_goes_on_by_as_many_accounts_as_its_tick_says() -> None:
    names = [f"a{n}" for n in range(5)]
    partition, states = folded(Partition(0), {}, deployed(HOT, MON), *(visit(name, MON) for name in names))
    partition, states = folded(partition, states, deployed(LOOSER, TUE))
    for sweeps, left, cursor in [
        (0, [], ""),
        (2, names[:2], "a1"),
        (0, [], "a1"),
        (3, names[2:], "a4"),
        (3, [], None),
    ]:
        partition, states = folded(partition, states, Tick(received=WED, sweeps=sweeps), unswept=left)
        assert partition.sweep == cursor
    assert partition.swept == 5


def test_a_deployment_is_written_and_read_and_one_of_an_earlier_build_has_no_name() -> None:
    record = deployed(HOT, MON, quiet=True)
    assert decode_record(encode_record(record)) == record
    earlier = decode_record(b'{"kind":"ruleset","received":5,"hash":"h","files":{}}')
    assert isinstance(earlier, RulesetRecord)
    assert (earlier.deployment, earlier.quiet) == ("", False)


def test_a_partition_of_an_earlier_build_is_read() -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(Partition(3, offset=7, ruleset="h", last=9)))
    earlier = msgspec.msgpack.encode(fields[:-4])
    read = msgspec.msgpack.decode(earlier, type=Partition)
    assert read == Partition(3, offset=7, ruleset="h", last=9)
    assert read.in_force(NO_RULES) == InForce(NO_RULES, -1, 0)


def test_facts_of_an_account_are_not_deployed() -> None:
    """Only what has the cause `rules` names a deployment, though one is in force."""
    account = given(SIZE).feed(deployed(SIZE, MON))
    account.feed(Facts(account=ACME, at=TUE, received=TUE, set={"employees": 900}, source="crm"))
    assert [each.get("deployment") for each in told(account)] == [None]

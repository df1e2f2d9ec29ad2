"""A story about one account: what it sees and learns, and what becomes of it.

Everything goes through `rules.replay.Replay`, so time passes by itself between the lines: what falls due before
a line is told at its own instant.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rules.compiler import compile_files, load
from rules.fold import Outgoing
from rules.records import (
    Activity,
    Contact,
    Delete,
    EndOverride,
    Facts,
    Override,
    Record,
    Restore,
    RulesetRecord,
)
from rules.replay import Replay
from rules.ruleset import Ruleset
from rules.state import AccountState, standing_in
from rules.work import Change, Kind

MS, SECOND, MINUTE, HOUR, DAY = 1, 1_000, 60_000, 3_600_000, 86_400_000
MON = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) * SECOND
TUE, WED, THU, FRI, SAT, SUN = (MON + n * DAY for n in range(1, 7))
ACME = "acme"
SHIPPED = Path(__file__).parents[2] / "rules" / "segments"

NAMES = """
facts:
  name: {type: text}
  industry: {type: text, vocabulary: industry}
  country: {type: text}
  employees: {type: number}
  customer: {type: boolean}
  products: {type: list}
  renewal: {type: date}
contact_facts:
  status: {type: text}
  level: {type: text, vocabulary: level}
activities:
  visit: {}
  page: {}
  pricing: {label: pricing views, of: page, where: {path: {starts: /pricing}}}
  demo: {}
  click: {}
scores:
  interest: {half_life: 7d, signals: [{activity: demo, weight: 40}, {activity: visit, weight: 10}]}
  pages: {half_life: 1d, signals: [{activity: pricing, weight: 8}, {activity: page, weight: 1}]}
---
vocabulary: industry
terms:
  financial_services: [FinTech, Banking, Finance]
  retail: [Shops]
---
vocabulary: level
terms: {chief: [CEO, CTO], none: [], clerk: []}
"""


@dataclass(frozen=True)
class Told:
    """A change, as far as most stories care. `cause` is `data`, `time` or `rules`."""

    kind: str
    dimension: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    at: int
    segment: str = ""
    cause: str = "data"


def moved(dimension: str, before: str, after: str, at: int, cause: str = "data") -> Told:
    """A ladder's change; "" stands for no segment."""
    return Told("segment.moved", dimension, _answer(before), _answer(after), at, after, cause)


def entered(dimension: str, segment: str, members: Iterable[str], at: int, cause: str = "data") -> Told:
    """A set's change; `members` is the whole set afterwards. What it was before is checked elsewhere."""
    return Told("segment.entered", dimension, (), tuple(members), at, segment, cause)


def left(dimension: str, segment: str, members: Iterable[str], at: int, cause: str = "data") -> Told:
    return Told("segment.left", dimension, (), tuple(members), at, segment, cause)


def ruleset(*texts: str, names: str = NAMES) -> Ruleset:
    return compile_files(_files(texts, names))


def given(*texts: str, names: str = NAMES) -> Account:
    """An account under the rules in `texts`, about which nothing is known yet."""
    return Account(ruleset(*texts, names=names))


def given_when(condition: str, on_unknown: str = "stop", names: str = NAMES) -> Account:
    """An account and one question, `answer`: `yes` when `condition` is true, `no` when it is false."""
    return given(question(condition, on_unknown), names=names)


def question(condition: str, on_unknown: str = "stop") -> str:
    return f"""
    dimension: answer
    on_unknown: {on_unknown}
    segments:
      - {{segment: "yes", when: {condition}}}
      - {{segment: "no", otherwise: true}}
    """


def given_shipped() -> Account:
    return Account(load(SHIPPED))


class Account:
    def __init__(self, rules: Ruleset) -> None:
        self.replay = Replay(rules)
        self.outgoing: list[Outgoing] = []
        self.now = MON

    # -- what happens to it ---------------------------------------------------------------------------------

    def sees(self, name: str = "visit", at: int | Iterable[int] = 0, arriving: int = 0, **more: Any) -> Account:
        """Activities at those instants; `arriving` when it is later (or, for one stamped ahead, earlier)."""
        props = more.pop("props", {})
        for each in [at] if isinstance(at, int) else at:
            when = each or self.now
            self.feed(Activity(account=ACME, name=name, at=when, received=arriving or when, props=props, **more))
        return self

    def learns(self, at: int = 0, arriving: int = 0, clear: Iterable[str] = (), **facts: Any) -> Account:
        when = at or self.now
        return self.feed(
            Facts(account=ACME, at=when, received=arriving or when, set=facts, clear=list(clear), source="crm")
        )

    def learns_from(self, source: str, at: int, arriving: int, **facts: Any) -> Account:
        return self.feed(Facts(account=ACME, at=at, received=arriving, set=facts, source=source))

    def contact(self, person: str, at: int = 0, arriving: int = 0, gone: bool = False, **facts: Any) -> Account:
        when = at or self.now
        clear = facts.pop("clear", [])
        return self.feed(
            Contact(
                account=ACME, person=person, at=when, received=arriving or when, set=facts, clear=clear, gone=gone
            )
        )

    def is_deleted(self, at: int = 0) -> Account:
        return self.feed(Delete(account=ACME, at=at or self.now, received=at or self.now))

    def is_restored(self, at: int = 0) -> Account:
        return self.feed(Restore(account=ACME, at=at or self.now, received=at or self.now))

    def gets_rules(self, *texts: str, at: int = 0, names: str = NAMES) -> Account:
        return self.feed(RulesetRecord(received=at or self.now, hash="", files=_files(texts, names)))

    def is_said_to_be(
        self, place: str, until: int, why: str = "we know them", by: str = "ann", at: int = 0, out: bool = False
    ) -> Account:
        """Somebody says so of `dimension/segment`; of a set, that it is not if `out`."""
        when, (dimension, segment) = at or self.now, place.split("/")
        said = Override(account=ACME, at=when, received=when, dimension=dimension, segment=segment, until=until)
        said.why, said.by, said.out = why, by, out
        return self.feed(said)

    def is_left_to_the_rules(self, place: str, at: int = 0) -> Account:
        """What was said of a dimension, or of one segment of it, counts no more."""
        when, (dimension, _, segment) = at or self.now, place.partition("/")
        return self.feed(EndOverride(account=ACME, at=when, received=when, dimension=dimension, segment=segment))

    def until(self, instant: int) -> Account:
        self.outgoing += self.replay.advance(instant)
        self.now = max(self.now, instant)
        return self

    def feed(self, record: Record) -> Account:
        self.outgoing += self.replay.feed(record)
        self.now = max(self.now, record.received)
        return self

    # -- what became of it ----------------------------------------------------------------------------------

    @property
    def told(self) -> list[Change]:
        """Everything that was published, the first `account.state` included."""
        return [each.change for each in self.outgoing if each.change.account == ACME]

    @property
    def changes(self) -> list[Told]:
        """The moves after the first `account.state`."""
        return [
            Told(
                str(change.kind),
                change.dimension,
                change.before if change.kind is Kind.MOVED else (),
                change.after,
                change.effective,
                change.segment,
                str(change.cause),
            )
            for change in self.told
            if change.kind is not Kind.STATE
        ]

    def moves(self, dimension: str) -> list[Told]:
        """The changes of one dimension."""
        return [each for each in self.changes if each.dimension == dimension]

    @property
    def state(self) -> AccountState:
        return self.replay.states[ACME]

    @property
    def wakes_at(self) -> int:
        return self.state.wake

    def stays_until(self, dimension: str = "answer") -> int:
        """When its answer will change if nothing happens; a wake may come before."""
        ruleset = self.replay.rules.ruleset
        asked = ruleset.dimension(dimension)
        assert asked is not None
        return ruleset.stays_until(asked, self.state)

    def segment(self, dimension: str = "answer") -> str:
        """Where it is in a ladder, "" for nowhere."""
        answer = standing_in(self.state, dimension).answer
        assert len(answer) < 2
        return answer[0] if answer else ""

    def segments(self, dimension: str) -> tuple[str, ...]:
        return standing_in(self.state, dimension).answer


def _answer(segment: str) -> tuple[str, ...]:
    return (segment,) if segment else ()


def _files(texts: Iterable[str], names: str) -> dict[str, str]:
    files = {f"rules{i}.yaml": textwrap.dedent(text) for i, text in enumerate(texts)}
    return {"names.yaml": names, **files} if names else files

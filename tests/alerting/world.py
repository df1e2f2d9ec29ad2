"""Accounts that heat up and cool down on virtual time, and what sales hears of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from rules.changes import iso
from rules.contract import read
from rules.durations import DAY, HOUR, MINUTE, SECOND
from streams.alerting.rehearsal import Rehearsal, Telling
from streams.alerting.rulebook import Rulebook, parse
from streams.alerting.seen import Seen, milliseconds, seen
from streams.alerting.state import Alert
from streams.alerting.stepping import About, Acknowledged, Snoozed

__all__ = ["DAY", "HOUR", "MINUTE", "SECOND", "World", "moved", "restated", "rules"]

MONDAY = milliseconds("2026-03-02T10:00:00Z")
BOT = """
channels:
  bot: {slack: {token: "env:SLACK_TOKEN"}}
tell:
  otherwise: {channel: bot, to: CQUEUE}
"""
HOT = "rules: [{rule: hot, when: engagement/hot}]"


def rules(text: str = "", base: str = BOT) -> Rulebook:
    return parse("alerts.yaml", base + (text if "rules:" in text else f"{HOT}\n{text}"))


def moved(
    account: str, before: str | None, after: str | None, at: int, n: int, *, epoch: int = 0, **more: Any
) -> Seen:
    """A move of engagement as it stands in `segment.changes`."""
    return seen(read(json.dumps(event_of(account, before, after, at, n, epoch=epoch, **more)).encode()))


def event_of(
    account: str, before: str | None, after: str | None, at: int, n: int, *, epoch: int = 0, **more: Any
) -> dict[str, Any]:
    data = {
        "account": account, "name": more.pop("name", account.title()),
        "dimension": "engagement", "from": before, "to": after,
        "effective": iso(at), "decided": iso(at), "cause": "data", "origin": "live",
        "stays_until": iso(at + 5 * DAY), "owner": "sales", "action": {"do": "reach out today"},
        "reason": {"because": {"says": "3 pricing page views in 7 days (needs 3)", "verdict": "true"}},
        "ruleset": "abc", "position": {"partition": 0, "epoch": epoch, "offset": n, "n": 0},
    }  # fmt: skip
    return _event("segment.moved", account, at, n, epoch, data | more)


def restated(account: str, segment: str | None, at: int, n: int, *, epoch: int = 0, **more: Any) -> Seen:
    """Where the account stands in all, as a first evaluation or a rebuild tells it."""
    held = {} if segment is None else {"engagement": {"answer": segment, "since": iso(at), "stays_until": None}}
    data = {
        "account": account, "name": account.title(), "memberships": held,
        "effective": iso(at), "decided": iso(at), "cause": "data", "origin": "live", "stays_until": None,
        "reason": {"engagement": {"text": "1 demo request"}}, "owner": "", "action": {},
        "ruleset": "abc", "position": {"partition": 0, "epoch": epoch, "offset": n, "n": 0},
    }  # fmt: skip
    return seen(read(json.dumps(_event("account.state", account, at, n, epoch, data | more)).encode()))


def _event(kind: str, account: str, at: int, n: int, epoch: int, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": f"0.{epoch}.{n}.0", "source": "/isotherm/account.log/0", "type": kind,
        "subject": account, "time": iso(at), "datacontenttype": "application/json", "partitionkey": account,
        "data": data,
    }  # fmt: skip


@dataclass
class World:
    """Says what happens, in order; `told` is what sales has heard by then."""

    rules: Rulebook
    now: int = MONDAY
    offset: int = 0
    about: About = field(default_factory=About)
    told: list[Telling] = field(default_factory=list)
    rehearsal: Rehearsal = field(init=False)

    def __post_init__(self) -> None:
        self.rehearsal = Rehearsal(self.rules, lambda change: self.about)

    def at(self, instant: str) -> None:
        self.wait(milliseconds(instant) - self.now)

    def wait(self, length: int) -> None:
        self.now += length
        self.told += self.rehearsal.until(self.now)

    def see(self, change: Seen) -> None:
        self.told += self.rehearsal.change(change, self.now)
        self.wait(SECOND)

    def heats(self, account: str = "acme", **more: Any) -> Seen:
        self.offset += 1
        change = moved(account, "warm", "hot", self.now, self.offset, **more)
        self.see(change)
        return change

    def cools(self, account: str = "acme", **more: Any) -> Seen:
        self.offset += 1
        change = moved(account, "hot", "warm", self.now, self.offset, **more)
        self.see(change)
        return change

    def acknowledged(self, by: str = "ann", account: str = "acme") -> None:
        self.rehearsal.happen(account, Acknowledged(by, self.now))
        self.wait(SECOND)

    def snoozed(self, length: int, account: str = "acme") -> None:
        self.rehearsal.happen(account, Snoozed("ann", self.now + length, self.now))
        self.wait(SECOND)

    def alert(self, account: str = "acme", rule: str = "hot") -> Alert:
        return self.rehearsal.states[account].alerts[rule]

    @property
    def phase(self) -> str:
        return str(self.alert().phase)

    @property
    def said(self) -> list[str]:
        """Each message as `kind to: accounts`."""
        return [line(each) for each in self.told]


def line(told: Telling) -> str:
    parcel = told.parcel
    kind = "digest" if parcel.is_digest else {"first": "alert", "late": "escalation"}.get(parcel.part, parcel.face)
    return f"{kind} {parcel.to.to or parcel.to.channel}: {', '.join(each.account for each in parcel.items)}"

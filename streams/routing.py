"""Messages in, records for the log out: decode, then find the account. No I/O.

    message ─► adapter ─► observations ─► resolver ─► records, dead letters, learned links, counts

What a message becomes is decided here once; the router stores the outcome before it is produced.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, assert_never

import msgspec

from rules.records import (
    AccountRecord,
    Activity,
    Contact,
    Delete,
    Erase,
    Facts,
    Merge,
    Restore,
    Same,
    Stale,
    encode_record,
)
from rules.sources import Sources
from streams.adapters import Adapters
from streams.adapters.base import Claims, DecodeAny, Observation, Rejected
from streams.identity import Conflict, Nobody, Resolved, Resolver, Unattributed
from streams.sources import shipped
from streams.store.base import Outbound
from streams.store.sources import link_id
from streams.topics import ACCOUNT_LOG, DEAD_LETTERS, LINKS
from streams.traces import SENT, UNTRACED, Traced


@dataclass(frozen=True, slots=True)
class Formats:
    """How messages are read: the format of each topic, by its role, and what decodes them."""

    of_topic: Mapping[str, str]
    decode_any: DecodeAny

    @classmethod
    def of(cls, sources: Sources) -> Formats:
        return cls(sources.topics, Adapters.of(sources).decode_any)


SHIPPED = Formats.of(shipped())


class SourceMessage(Protocol):
    partition: int
    offset: int
    value: bytes | None
    headers: Iterable[tuple[str, bytes | None]]


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A message taken apart: the format it was read as, and what it says."""

    message: SourceMessage
    format: str
    parts: list[Observation | Rejected]


@dataclass(slots=True)
class Routed:
    """What a batch of one source partition becomes."""

    outbound: list[Outbound] = field(default_factory=list)
    learned: dict[str, str] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    erased: list[Erased] = field(default_factory=list)
    # (what, reason). A Counter takes six times as long to add one.
    counts: defaultdict[tuple[str, str], int] = field(default_factory=partial(defaultdict, int))
    rejected: list[bool] = field(default_factory=list)  # for each message, whether nothing in it could be used


@dataclass(frozen=True, slots=True)
class Erased:
    """Somebody who asks to be forgotten, as the record that says so to every partition of the log.

    `said` is what the message claims: what dead letters may have of them in clear.
    """

    record: Erase
    said: Claims


def take_apart(
    source: str, messages: Iterable[SourceMessage], received: int, formats: Formats = SHIPPED
) -> list[Seen]:
    """Decodes each message in its topic's format, or in the one that its `format` header names."""
    seen, usual, decode_any = [], formats.of_topic[source], formats.decode_any
    for message in messages:
        format = (_header(message, "format") or usual) if message.headers else usual
        seen.append(Seen(message, format, decode_any(format, message.value, received)))
    return seen


def _header(message: SourceMessage, name: str) -> str:
    if not message.headers:
        return ""
    said = next((value for key, value in message.headers if key == name), None)
    return said.decode(errors="replace") if said else ""


def link_keys(seen: Iterable[Seen], resolver: Resolver) -> set[str]:
    """The links that must be loaded before `route`, `further_keys` of what they lead to aside."""
    keys: set[str] = set()
    for each in seen:
        for part in each.parts:
            if not isinstance(part, Rejected):
                keys.update(resolver.link_keys(part))
    return keys


def route(
    topic: str,
    seen: Iterable[Seen],
    links: Mapping[str, str],
    resolver: Resolver,
    received: int,
    traced: Traced = UNTRACED,
) -> Routed:
    """Finds the account of everything in `seen`, in order; what is learned on the way counts at once.

    `topic` is that of the messages, with a number behind it if it has been made anew (`crm.updates@1`). What comes
    of a message that is `traced` gets its headers.
    """
    work = _Routing(dict(links), resolver, received, traced)
    for each in seen:
        work.message(f"{topic}/{each.message.partition}", each)
    routed = work.routed
    routed.outbound += [Outbound(LINKS, link_id(key), link.encode()) for key, link in routed.learned.items()]
    return routed


@dataclass(slots=True)
class _Routing:
    links: dict[str, str]
    resolver: Resolver
    received: int
    traced: Traced = field(default_factory=lambda: UNTRACED)
    routed: Routed = field(default_factory=Routed)

    def message(self, place: str, seen: Seen) -> None:
        message, routed = seen.message, self.routed
        index = refused = 0
        headers = self.traced.get((message.offset, SENT), ()) if self.traced else ()
        parts = seen.parts
        if message.headers or len(parts) > 1:
            parts = told_by_headers(message, parts, f"{place}/{message.offset}")
        for part in parts:
            if isinstance(part, Rejected):
                routed.outbound.append(letter(place, message, part, refused))
                routed.counts["rejected", part.reason] += 1
                refused += 1
                continue
            for record in self.observation(part, part.source or seen.format):
                # The fold knows a redelivered record by where it came from: each has a place of its own.
                record.via = (place, message.offset, index)
                index += 1
                if isinstance(record, Erase):
                    routed.erased.append(Erased(record, part.claims))
                else:
                    routed.outbound.append(Outbound(ACCOUNT_LOG, record.account, encode_record(record), headers))
        routed.rejected.append(refused > 0 and refused == len(seen.parts))

    def observation(self, part: Observation, source: str) -> Sequence[AccountRecord | Erase]:
        counts = self.routed.counts
        if part.kind == "erase":
            return self._erase(part, source)
        found = self.resolver.resolve(part, self.links)
        if isinstance(found, Unattributed):
            counts["unattributed", found.reason] += 1
            return []
        if found.learned:
            self.links.update(found.learned)
            self.routed.learned.update(found.learned)
        if found.conflict is not None:
            self.routed.conflicts.append(found.conflict)
            counts["conflict", "domain"] += 1
        counts[("unattributed", found.parked) if found.parked else ("routed", "")] += 1
        told = records(part, found, source, self.received)
        return [*joined(part, found, source, self.received), *told] if found.merged or found.same else told

    def _erase(self, part: Observation, source: str) -> list[AccountRecord | Erase]:
        persons = self.resolver.persons(part.claims, self.links)
        if not persons:
            self.routed.counts["unattributed", Nobody.NO_IDENTITY] += 1
            return []
        self.routed.counts["erased", ""] += 1
        return [Erase(received=self.received, persons=persons, id=part.id, source=source)]


def told_by_headers(
    message: SourceMessage, parts: list[Observation | Rejected], position: str
) -> list[Observation | Rejected]:
    """What a message's headers say of all that is in it: that it is an import, or a dead letter once more.

    Letters are replayed at least once, and with what had been usable the first time. So where a part of a message
    is rejected, the others that have no id get one made of the message's position, the same when it comes again.
    """
    imported, letter = _header(message, "origin") == "import", _header(message, "replay-of").partition("#")[0]
    if not letter and len(parts) > 1 and any(isinstance(part, Rejected) for part in parts):
        letter = position
    if not imported and not letter:
        return parts
    told: list[Observation | Rejected] = []
    for i, part in enumerate(parts):
        if isinstance(part, Rejected):
            told.append(part)
        else:
            origin = "import" if imported else part.origin
            id = part.id or (f"{letter}#{i}" if letter else "")
            told.append(msgspec.structs.replace(part, origin=origin, id=id))
    return told


def joined(part: Observation, found: Resolved, source: str, received: int) -> list[AccountRecord]:
    """What the message taught about who is who: accounts that are one, and people."""
    told: list[AccountRecord] = []
    for each in found.merged:
        merge = Merge(account=each.account, into=each.into, at=part.at, received=received)
        merge.by_crm, merge.person, merge.source, merge.origin = each.by_crm, each.person, source, part.origin
        told.append(merge)
    for one in found.same:
        same = Same(account=one.account, person=one.person, same_as=one.same_as, at=part.at, received=received)
        same.source, same.origin = source, part.origin
        same.under = under(part.claims, found.account) if one.account == found.account else ""
        told.append(same)
    return told


def under(claims: Claims, account: str) -> str:
    """The CRM record or group by which the message claimed an account, where that is another one by now."""
    if claims.crm:
        claimed = claims.crm
    elif claims.group and not (claims.contact or claims.opportunity):
        claimed = f"group:{claims.group}"
    else:
        return ""
    return claimed if claimed != account and not claims.account else ""


def records(part: Observation, found: Resolved, source: str, received: int) -> list[AccountRecord]:
    """The log records of one observation. A contact that moved also leaves the account it was at.

    That a record of a CRM is deleted says nothing of the account that it has become part of: the account by its
    own name is told, which leaves the other alone.
    """
    account, id, at, origin = found.account, part.id, part.at, part.origin
    claimed = under(part.claims, account)
    match part.kind:
        case "activity":
            activity = Activity(account=account, name=part.name, at=at, received=received, person=found.person)
            activity.id, activity.source, activity.origin, activity.props = id, source, origin, part.props
            activity.under = claimed
            return [activity]
        case "facts":
            facts = Facts(account=account, at=at, received=received, set=part.set, clear=list(part.clear))
            facts.id, facts.source, facts.origin, facts.under = id, source, origin, claimed
            return [facts]
        case "contact":
            return _contact(part, found, source, received)
        case "delete":
            account = claimed or account
            return [Delete(account=account, at=at, received=received, id=id, source=source, origin=origin)]
        case "restore":
            account = claimed or account
            return [Restore(account=account, at=at, received=received, id=id, source=source, origin=origin)]
        case "stale":
            stale = Stale(account=account, at=at, received=received, id=id, source=source, origin=origin)
            stale.under = claimed
            return [stale]
        case "link" | "merge" | "erase":
            return []
        case _:
            assert_never(part.kind)


def _contact(part: Observation, found: Resolved, source: str, received: int) -> list[AccountRecord]:
    if found.person is None:
        return []
    here = Contact(account=found.account, person=found.person, at=part.at, received=received)
    here.id, here.source, here.origin, here.gone = part.id, source, part.origin, part.gone
    here.set, here.clear = part.set, list(part.clear)
    here.under = under(part.claims, found.account)
    if found.left is None:
        return [here]
    left = Contact(account=found.left, person=found.person, at=part.at, received=received, gone=True)
    left.id, left.source, left.origin = part.id, source, part.origin
    return [left, here]


def letter(place: str, message: SourceMessage, rejected: Rejected, index: int = 0) -> Outbound:
    """The message's own bytes and headers, with where it stood and what is wrong with it.

    Its key is that position, and a number for each further part of the message: a letter with the same key and no
    value says that it is settled.
    """
    value = message.value or b""
    position = f"{place}/{message.offset}"
    headers = [
        ("stage", b"router"),
        ("reason", str(rejected.reason).encode()),
        ("detail", rejected.detail.encode()[:500]),
        ("source", position.encode()),
    ]
    headers += [(key, each or b"") for key, each in message.headers]
    return Outbound(DEAD_LETTERS, f"{position}#{index}" if index else position, value, tuple(headers))

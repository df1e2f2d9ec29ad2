"""A router and a log in memory: observations in, accounts with their memberships out.

A batch goes the way it goes in production: its links are loaded (and only those), `route` decides, what it
taught is kept, and the records go to the partition of their account. What a fold sends to other accounts is on
its way until `deliver` brings it, in order for each pair of partitions.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rules.compiler import compile_files
from rules.fold import Folded, Outgoing
from rules.measures import person_tag
from rules.records import AccountRecord, Erase, Record, Tick, decode_record, digest_of, is_visitor
from rules.replay import Replay
from rules.ruleset import Ruleset
from rules.state import GONE, HERE, AccountState, pack, standing_in
from streams import routing
from streams.adapters.base import Claims, Observation, Rejected
from streams.identity import Resolver, account_of, further_keys, key_of, users_of
from streams.producer import partition_of
from streams.routing import Routed, Seen, link_keys
from streams.topics import ACCOUNT_LOG, WEB_ACTIVITY

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
MON = 1_772_409_600_000  # 2 March 2026
SECRET = b"a secret"

PRICING = {"where": {"path": {"starts": "/pricing"}}}
FILES = {
    "names.yaml": {
        "facts": {
            "industry": {"type": "text"},
            "employees": {"type": "number", "sources": ["salesforce", "hubspot", "segment"], "refresh": "5h"},
            "country": {"type": "text"},
        },
        "contact_facts": {"role": {"type": "text"}, "level": {"type": "number", "sources": ["salesforce"]}},
        "activities": {"page": {}, "demo": {}, "pricing": {"of": "page", **PRICING}},
        "scores": {
            "interest": {
                "half_life": "7d",
                "signals": [{"activity": "demo", "weight": 8}, {"activity": "page", "weight": 1}],
            }
        },
    },
    "engagement.yaml": {
        "dimension": "engagement",
        "on_unknown": "skip",
        "segments": [
            {"segment": "hot", "when": {"count": "pricing", "at_least": 3, "within": "7d"}},
            {"segment": "warm", "when": {"seen": "page", "within": "14d"}},
            {"segment": "cold", "otherwise": True},
        ],
    },
    "size.yaml": {
        "dimension": "size",
        "segments": [
            {"segment": "large", "when": {"fact": "employees", "at_least": 200}},
            {"segment": "small", "otherwise": True},
        ],
    },
}


def _each(name: str, bounds: Sequence[float], condition: dict[str, Any]) -> dict[str, Any]:
    """A set of one segment for each bound: where an account stands in it tells how much it has."""
    segments = [
        {"segment": f"from_{i}", "when": condition | {"at_least": bound}} for i, bound in enumerate(bounds)
    ]
    return {"dimension": name, "kind": "set", "segments": segments}


MANY = (1, 2, 3, 4, 5, 6, 8, 12)
MEASURED = {
    "pages.yaml": _each("pages", MANY, {"count": "page", "within": "7d"}),
    "demos.yaml": _each("demos", MANY, {"count": "demo", "within": "2d"}),
    "people.yaml": _each("people", MANY, {"people": "any", "within": "7d"}),
    "buyers.yaml": _each("buyers", (1, 2, 3), {"people": "page", "within": "7d", "who": {"role": "buyer"}}),
    "amount.yaml": _each("amount", (1, 10, 20, 40, 80), {"sum": "page", "of": "seconds", "within": "7d"}),
    "mean.yaml": _each("mean", (3, 7, 11), {"avg": "page", "of": "seconds", "within": "30d"}),
    "score.yaml": _each("score", (0.5, 1.5, 3.3, 7.1, 12.7, 21.9), {"score": "interest"}),
    "known.yaml": _each("known", (1, 2, 3, 4), {"contacts": "any", "where": {"role": {"exists": True}}}),
    "all.yaml": _each("all", (20,), {"count": "any", "within": "90d"}),
    "more.yaml": {
        "dimension": "more",
        "kind": "set",
        "segments": [
            {"segment": "new", "when": {"first": "any", "within": "3d"}},
            {"segment": "quiet", "when": {"quiet": "any", "for": "1d"}},
            {"segment": "last", "when": {"last": "page", "older_than": "1d"}},
            {"segment": "path", "when": {"sequence": ["page", "demo"], "span": "1d", "within": "7d"}},
            {"segment": "buyers", "when": {"contacts": "all", "where": {"role": "buyer"}}},
            {"segment": "seniors", "when": {"contacts": "any", "where": {"level": {"at_least": 3}}}},
            {"segment": "retail", "when": {"fact": "industry", "is": "retail"}},
            {"segment": "abroad", "when": {"fact": "country", "is_not": "DE"}},
        ],
    },
}


@lru_cache
def ruleset(measured: bool) -> Ruleset:
    files = FILES | (MEASURED if measured else {})
    return compile_files({name: json.dumps(content) for name, content in files.items()})


class OnlyLoaded(dict[str, str]):
    """Links of which only those may be looked at that were loaded."""

    def __init__(self, links: dict[str, str], loaded: Iterable[str]) -> None:
        super().__init__(links)
        self.loaded = set(loaded)

    def get(self, key: str, default: Any = None) -> Any:
        assert key in self.loaded or key in self, f"{key} was looked at, and not loaded"
        return super().get(key, default)


@dataclass(frozen=True)
class Message:
    """What stands in a topic: with it `decode` is skipped."""

    partition: int
    offset: int
    value: bytes = b""
    headers: tuple[tuple[str, bytes]] = ()  # type: ignore[assignment]


class LooksClosely:
    """A resolver of which it is seen that its short cut says what it would say without."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._resolver, name)

    def resolve(self, part: Observation, links: dict[str, str]) -> Any:
        found = self._resolver.resolve(part, links)
        if part.kind != "merge":
            assert found == self._resolver._resolve(part, self._resolver._known(part.claims), links)
        return found


class Part(Replay):
    """One partition of the log, which keeps what it sends to others instead of folding it at once."""

    def __init__(self, number: int, rules: Ruleset) -> None:
        super().__init__(rules, number)
        self.sent: list[AccountRecord] = []

    def _keep(self, folded: Folded) -> None:
        super()._keep(folded)
        self.sent += folded.sent
        folded.sent.clear()


class World:
    """What is known, and what became of it. `hears` takes one message, `hears_all` batches of them."""

    def __init__(
        self,
        lead: Sequence[str] = (),
        partitions: int = 1,
        measured: bool = False,
        choose: Callable[[int], int] = lambda n: 0,
    ) -> None:
        """`choose` picks one of n records that are on their way: which one is next; n - 1 may say none."""
        self.resolver = Resolver(SECRET, lead)
        self.links: dict[str, str] = {}
        self.rules = ruleset(measured)
        self.parts = [Part(n, self.rules) for n in range(partitions)]
        self.under_way: dict[tuple[int, int], deque[AccountRecord]] = {}
        self.choose = choose
        self.now = MON
        self.told: list[Outgoing] = []
        self.conflicts: list[Any] = []
        self.counts: dict[tuple[str, str], int] = {}
        self.records: list[Record] = []
        self._offset = 0

    # -- hearing ------------------------------------------------------------------------------------------

    def hears(self, kind: Any, at: int | None = None, source: str = "", **said: Any) -> Routed:
        fields = {
            key: said.pop(key) for key in ("id", "name", "props", "set", "clear", "gone", "merged") if key in said
        }
        fields["name"] = fields.get("name", "page" if kind == "activity" else "")
        observation = Observation(
            kind=kind, claims=Claims(**said), at=self.now if at is None else at, source=source, **fields
        )
        return self.hears_all([observation])

    def hears_all(self, batch: Iterable[Observation], received: int | None = None) -> Routed:
        """A batch of messages, decided together."""
        self.now = self.now if received is None else max(self.now, received)
        seen: list[Seen] = []
        for each in batch:
            crm = each.claims.crm or each.claims.contact or each.claims.opportunity
            parts: list[Observation | Rejected] = [each]
            seen.append(Seen(Message(0, self._offset), "salesforce" if crm else "segment", parts))
            self._offset += 1
        wanted = link_keys(seen, self.resolver)
        links = self._load(wanted)
        asked = set(wanted)
        while further := [key for key in further_keys(links) if key not in asked]:
            asked.update(further)
            links |= self._load(further)
        routed = _route_only(seen, links, asked, self.resolver, self.now)
        self.links |= routed.learned
        for erased in routed.erased:
            self._forget_links(erased)
        for out in routed.outbound:
            if out.topic == ACCOUNT_LOG:
                record = decode_record(out.value)
                self.records.append(record)
                self._append(partition_of(out.key, len(self.parts)), record)
        for erased in routed.erased:
            for number in range(len(self.parts)):
                self._append(number, erased.record)
        self.conflicts += routed.conflicts
        for what, count in routed.counts.items():
            self.counts[what] = self.counts.get(what, 0) + count
        self.deliver()
        return routed

    def _load(self, keys: Iterable[str]) -> dict[str, str]:
        return {key: self.links[key] for key in keys if key in self.links}

    def _forget_links(self, erased: Any) -> None:
        """Links that lead to one of these people or to a user of theirs, and those of which the key is theirs."""
        persons = erased.record.persons
        held = {key: link for key, link in self.links.items() if any(each in link for each in persons)}
        held |= {key: link for key, link in self.links.items() if key_of(account_of(link)) in held}
        persons += sorted(users_of(held.values()) - set(persons))
        named = {f"{kind}:{person}" for kind in ("user", "anon", "email") for person in persons}
        forgotten = {*held, *named, f"contact:{erased.said.contact}"}
        for key in forgotten:
            self.links.pop(key, None)
        persons += sorted(map(digest_of, forgotten))

    # -- the log ------------------------------------------------------------------------------------------

    def _append(self, number: int, record: Any) -> None:
        if isinstance(record, Erase):
            record = Erase(received=record.received, persons=record.persons)
        self.told += self.parts[number].feed(record)
        self._collect(number)

    def _collect(self, number: int) -> None:
        part = self.parts[number]
        for record in part.sent:
            to = partition_of(record.account, len(self.parts))
            self.under_way.setdefault((number, to), deque()).append(record)
        part.sent.clear()

    def deliver(self, everything: bool = False) -> None:
        """Some of what is on its way arrives, as `choose` says; or all of it."""
        while waiting := [pair for pair, queue in self.under_way.items() if queue]:
            choice = 0
            if len(self.parts) > 1 and not everything:
                choice = self.choose(len(waiting) + 1)
                if choice == len(waiting):
                    return
            pair = waiting[choice]
            record = self.under_way[pair].popleft()
            self._append(pair[1], record)

    def waits(self, ms: int) -> World:
        """Time passes; what was on its way arrives."""
        self.now += ms
        self.deliver(everything=True)
        for part in self.parts:
            self.told += part.advance(self.now)
            self.told += part.feed(Tick(received=self.now))
        return self

    # -- looking ------------------------------------------------------------------------------------------

    @property
    def states(self) -> dict[str, AccountState]:
        return {account: state for part in self.parts for account, state in part.states.items()}

    def live(self) -> dict[str, AccountState]:
        """The accounts that are still what they were."""
        return {account: state for account, state in self.states.items() if not state.merged_into}

    def stands(self, account: str) -> dict[str, tuple[str, ...]]:
        state = self.states.get(account)
        if state is None or not state.ruleset:
            return {}
        found = {each.name: standing_in(state, each.name).answer for each in self.rules.dimensions}
        return {name: answer for name, answer in found.items() if answer}

    def engagement(self, account: str) -> str:
        return "".join(self.stands(account).get("engagement", ()))

    def contacts(self, account: str) -> dict[str, dict[str, Any]]:
        """Who is a contact there, with their facts."""
        state = self.states.get(account)
        if state is None:
            return {}
        return {
            person: {name: fact.value for name, fact in facts.items() if name not in (GONE, HERE)}
            for person, facts in state.contacts.items()
            if GONE not in facts and not state.merged_into
        }

    def facts(self, account: str) -> dict[str, Any]:
        state = self.states.get(account)
        return {} if state is None else {name: fact.value for name, fact in state.facts.items()}

    def accounts(self) -> set[str]:
        """Those that are somewhere: neither merged into another nor a visitor."""
        return {account for account in self.live() if not is_visitor(account)}

    def published(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """What somebody knows who heard every change."""
        known: dict[str, dict[str, tuple[str, ...]]] = {}
        for change in (out.change for out in self.told):
            assert not is_visitor(change.account)
            if change.kind == "account.state":
                known[change.account] = {name: each.answer for name, each in change.memberships.items()}
            else:
                known.setdefault(change.account, {})[change.dimension] = change.after
        return {
            account: {name: answer for name, answer in answers.items() if answer}
            for account, answers in known.items()
        }

    def person(self, **claims: Any) -> str:
        """The hash under which somebody is counted who is known by these."""
        known = self.resolver._known(Claims(**claims))
        return str(next(key for key in (known.email, known.user, known.anonymous) if key)).partition(":")[2]

    def traces(self, *persons: str) -> list[str]:
        """Where anything of these people is to be found."""
        found = [f"link {key} {link}" for key, link in self.links.items() if any(p in key + link for p in persons)]
        for account, state in self.states.items():
            packed = pack(state)
            found += [f"state {account}" for p in persons if p in account or p.encode() in packed]
            found += [f"measure {account}" for p in persons if _is_counted(state, p)]
        return found


def _is_counted(state: AccountState, person: str) -> bool:
    return any(person_tag(person) in measure for measure in state.measures.values())


def _route_only(
    seen: list[Seen], links: dict[str, str], asked: set[str], resolver: Resolver, received: int
) -> Routed:
    """`route` with links of which only those may be looked at that were loaded, or learned on the way."""
    work = routing._Routing(OnlyLoaded(links, asked), LooksClosely(resolver), received)  # type: ignore[arg-type]
    for each in seen:
        work.message(f"{WEB_ACTIVITY}/{each.message.partition}", each)
    return work.routed

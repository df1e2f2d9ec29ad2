"""How systems are connected: who is believed, which field says which fact, what their events are called here.

One document of a ruleset says it, `sources.yaml` in the shipped one. It is checked like rules, so that a fact
that is not declared, or a field that may not enter the log, is named before anything runs. What adapters and the
router go by is `Sources`: the same, frozen and ready to look up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from rules.model import Duration, Model, Name, Term
from rules.personal import is_personal, snake

if TYPE_CHECKING:
    from rules.names import Place

FORMATS = (
    "canonical", "segment", "salesforce", "hubspot", "debezium", "cloudevents", "snowplow", "ga4", "posthog",
)  # fmt: skip
HUMAN = "human"
ALL = "all"
DAY = 24 * 3600 * 1000
# What Isotherm writes itself: nobody may name it as a source.
OURS = frozenset({
    "account.log", "account.snapshots", "alerts.state", "dead.letters", "delivery.events", "identity.links",
    "segment.changes", "segment.memberships",
})  # fmt: skip
TOPICS = {"crm.updates": "salesforce", "web.activity": "segment"}
# Of these objects a table's `fields` say no facts but what the row is about.
ROW_WORDS = {
    "activity": ("name", "at", "props", "user", "contact"),
    "opportunity": ("stage", "amount", "is_closed", "is_won"),
}
PEOPLE = frozenset({"contact", "lead", "identify", "person"})


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


_Fields = Annotated[list[Term], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]
FieldMap: TypeAlias = dict[Name, _Fields]  # our fact -> the fields that say it, the first with a value


class SalesforceFields(Model):
    """Fields of Salesforce, custom ones included; a part of a compound one as `BillingAddress.City`."""

    account: FieldMap = Field(default_factory=dict)
    contact: FieldMap = Field(default_factory=dict)
    lead: FieldMap = Field(default_factory=dict)


class HubspotFields(Model):
    """Properties of HubSpot by their internal names."""

    company: FieldMap = Field(default_factory=dict)
    contact: FieldMap = Field(default_factory=dict)


class SegmentFields(Model):
    """Traits of `group` and `identify` calls."""

    group: FieldMap = Field(default_factory=dict)
    identify: FieldMap = Field(default_factory=dict)


class PosthogFields(Model):
    """Properties of PostHog's groups and persons."""

    group: FieldMap = Field(default_factory=dict)
    person: FieldMap = Field(default_factory=dict)


class SystemFields(Model):
    """Which field says which fact, by system and object. What is not named here is read as built in."""

    salesforce: SalesforceFields = Field(default_factory=SalesforceFields)
    hubspot: HubspotFields = Field(default_factory=HubspotFields)
    segment: SegmentFields = Field(default_factory=SegmentFields)
    posthog: PosthogFields = Field(default_factory=PosthogFields)

    def each(self) -> Iterator[tuple[str, str, FieldMap]]:
        for system, objects in self:
            for object, fields in objects:
                yield system, object, fields


class Table(Model):
    """A table of the product's own database: what its rows are, and the columns that say so."""

    object: Literal["account", "contact", "opportunity", "activity"]
    id: Term | None = None
    account: Term | None = None
    email: Term | None = None
    fields: FieldMap = Field(default_factory=dict)
    ids: dict[Term, Term] = Field(default_factory=dict)
    deleted: Term | None = None


class SalesforceHands(Model):
    """By what an edit in Salesforce is known to be a person's."""

    clients: list[Term] = Field(default_factory=list)
    except_users: list[Term] = Field(default_factory=list)


class HubspotHands(Model):
    """By what an edit in HubSpot is known to be a person's."""

    change_sources: list[Term] = Field(default_factory=list)


class Human(Model):
    """What people edit by hand in a CRM: its source is `human`, and it wins for a stated time."""

    wins_for: Duration = 90 * DAY
    salesforce: SalesforceHands = Field(default_factory=SalesforceHands)
    hubspot: HubspotHands = Field(default_factory=HubspotHands)


class Accounts(Model):
    """When two systems know the same company: whose record is the account, and what tells that it is the same."""

    lead: list[Term] = Field(default_factory=list)
    link_by_domain: bool = True
    ids: dict[Term, dict[Term, Term]] = Field(default_factory=dict)


class SourcesFile(Model):
    """How systems are connected."""

    ranks: list[Term] = Field(default_factory=list)
    human: Human = Field(default_factory=Human)
    fields: SystemFields = Field(default_factory=SystemFields)
    tables: dict[Term, Table] = Field(default_factory=dict)
    names: dict[Term, dict[Term, Name]] = Field(default_factory=dict)
    ignore: dict[Term, list[Term]] = Field(default_factory=dict)
    accounts: Accounts = Field(default_factory=Accounts)
    topics: dict[Term, Term] = Field(default_factory=dict)


KEYS = frozenset(SourcesFile.model_fields)


# -- what is in force -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sources:
    """What a sources file says, ready to look up. Without one: nothing is mapped, ranked or renamed."""

    ranks: tuple[str, ...] = ()  # the highest first
    wins_for: int = 90 * DAY  # ms that the word of a person's hand counts against lower ones
    salesforce_clients: frozenset[str] = frozenset()  # of changeOrigin, casefolded: a person's hand
    salesforce_except: frozenset[str] = frozenset()  # ids of users that are programs, 15 characters each
    hubspot_change_sources: frozenset[str] = frozenset()
    fields: Mapping[tuple[str, str], Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)  # by name or schema.name, casefolded
    names: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    lead: tuple[str, ...] = ()  # of two systems' records of one company, whose is the account
    linked_by_domain: bool = True
    ids: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # system -> other system -> field
    topics: Mapping[str, str] = field(default_factory=lambda: dict(TOPICS))  # topic -> format

    def fields_of(self, system: str, object: str) -> Mapping[str, tuple[str, ...]]:
        """Fact -> the fields that say it; none of them: the system is not asked for it."""
        return self.fields.get((system, object), {})

    def names_of(self, system: str) -> Mapping[str, str | None]:
        """A source's name for an activity, in snake_case -> ours, or None where it is ignored."""
        return self.names.get(system, {})

    def is_human_in_hubspot(self, change_source: object) -> bool:
        """Whether a notification's `changeSource` says that a person edited by hand."""
        return type(change_source) is str and change_source in self.hubspot_change_sources

    def is_human_in_salesforce(self, client: str, user: object) -> bool:
        """Whether a change's client (of `changeOrigin`, casefolded) is one by which people edit, its
        `commitUser` being no program."""
        named = type(user) is str and user[:15] in self.salesforce_except
        return client in self.salesforce_clients and not named


def compiled(written: SourcesFile) -> Sources:
    hands = written.human
    return Sources(
        ranks=tuple(written.ranks),
        wins_for=hands.wins_for,
        salesforce_clients=frozenset(each.casefold() for each in hands.salesforce.clients),
        salesforce_except=frozenset(each[:15] for each in hands.salesforce.except_users),
        hubspot_change_sources=frozenset(hands.hubspot.change_sources),
        fields={
            (system, object): {fact: tuple(said) for fact, said in fields.items()}
            for system, object, fields in written.fields.each()
            if fields
        },
        tables={name.casefold(): table for name, table in written.tables.items()},
        names={each: _names_of(each, written) for each in FORMATS if each != "canonical"},
        lead=tuple(written.accounts.lead),
        linked_by_domain=written.accounts.link_by_domain,
        ids=written.accounts.ids,
        topics=TOPICS | written.topics,
    )


def _names_of(system: str, written: SourcesFile) -> dict[str, str | None]:
    """What is said of the system itself goes before what is said of all."""
    found: dict[str, str | None] = {}
    for scope in (ALL, system):
        found |= dict.fromkeys(map(snake, written.ignore.get(scope, [])))
        found |= {snake(said): name for said, name in written.names.get(scope, {}).items()}
    return found


# -- checking -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """What a sources file may name."""

    facts: Collection[str]
    contact_facts: Collection[str]
    activities: Collection[str]


def check(place: Place, written: SourcesFile, known: Known | None) -> None:
    """Says what is wrong beyond the shape. Without `known`, names of facts and activities are not looked at."""
    _check_ranks(place, written)
    for system, object, fields in written.fields.each():
        _check_fields(place.at("fields", system, object), object, fields, known)
    for name, table in written.tables.items():
        _check_table(place.at("tables", name), table, known)
    for section, said in (("names", written.names), ("ignore", written.ignore)):
        for system in said:
            _check_system(place.at(section, system), system, (ALL, *FORMATS[1:]))
    for system, renamed in written.names.items():
        for spelling, name in renamed.items():
            _check_activity(place.at("names", system, spelling), spelling, name, known)
    _check_contradictions(place, written)
    for system in written.accounts.ids:
        _check_system(place.at("accounts", "ids", system), system, ("salesforce", "hubspot"))
    _check_topics(place, written)


def _check_ranks(place: Place, written: SourcesFile) -> None:
    for path, said in ((("ranks",), written.ranks), (("accounts", "lead"), written.accounts.lead)):
        for i, name in enumerate(said):
            if name in said[:i]:
                place.at(*path, i).problem(f"'{name}' is named twice")


def _check_fields(place: Place, object: str, fields: FieldMap, known: Known | None) -> None:
    of_people = object in PEOPLE
    facts = None if known is None else known.contact_facts if of_people else known.facts
    for fact, said in fields.items():
        if facts is not None and fact not in facts:
            place.at(fact).unknown("contact fact" if of_people else "fact", fact, facts)
        if is_personal(fact):
            place.at(fact).problem(f"'{fact}' is named like something about a private person", _STAYS_OUT)
        for i, each in enumerate(said):
            if _is_private(each, of_people):
                # A list's items have lines of their own; one text stands where its fact does.
                place.at(fact, i).problem(f"'{each}' is about a private person", _STAYS_OUT)


_STAYS_OUT = "no e-mail address, phone number or name of a person enters the log"


def _is_private(path: str, of_people: bool) -> bool:
    last = path.rpartition(".")[2]
    for suffix in ("__c", "__pc"):
        last = last.removesuffix(suffix)
    name = snake(last)
    return is_personal(name) or (of_people and name == "name")


def _check_table(place: Place, table: Table, known: Known | None) -> None:
    if table.object in ROW_WORDS:
        for word, said in table.fields.items():
            if word not in ROW_WORDS[table.object]:
                place.at("fields", word).unknown(f"word of {_AN[table.object]}", word, ROW_WORDS[table.object])
            for i, each in enumerate(said):
                if _is_private(each, of_people=False):
                    place.at("fields", word, i).problem(f"'{each}' is about a private person", _STAYS_OUT)
    else:
        _check_fields(place.at("fields"), table.object, table.fields, known)
    for key, objects in (("email", ("contact", "activity")), ("ids", ("account",)), ("deleted", _DELETED)):
        if getattr(table, key) and table.object not in objects:
            place.at(key).problem(f"a table of {_MANY[table.object]} has no `{key}:`")
    if table.account and table.object == "account":
        place.at("account").problem("a table of accounts has no `account:`", "a row's own id is `id:`")


_AN = {"activity": "an activity", "opportunity": "an opportunity"}
_MANY = {
    "account": "accounts", "contact": "contacts", "activity": "activities", "opportunity": "opportunities",
}  # fmt: skip
_DELETED = ("account", "contact")


def _check_system(place: Place, name: str, known: Collection[str]) -> None:
    if name not in known:
        place.unknown("system", name, known)


def _check_activity(place: Place, spelling: str, name: str, known: Known | None) -> None:
    if not snake(spelling):
        place.problem(f"'{spelling}' has no letter or digit")
    if known is not None and name not in known.activities:
        place.unknown("activity", name, known.activities)


def _check_contradictions(place: Place, written: SourcesFile) -> None:
    for system, renamed in written.names.items():
        ignored = set(map(snake, written.ignore.get(system, [])))
        seen: dict[str, str] = {}
        for spelling, name in renamed.items():
            plain = snake(spelling)
            if plain in ignored:
                place.at("names", system, spelling).problem(f"'{spelling}' is ignored too", "say one of the two")
            if seen.setdefault(plain, name) != name:
                place.at("names", system, spelling).problem(f"'{spelling}' is '{seen[plain]}' already")


def _check_topics(place: Place, written: SourcesFile) -> None:
    for topic, format in written.topics.items():
        here = place.at("topics", topic)
        if topic in OURS:
            here.problem(f"'{topic}' is written by Isotherm itself", "name a topic that only sources write to")
        elif not _is_topic(topic):
            here.problem(f"'{topic}' is no name of a topic", "letters, digits, '.', '_' and '-', at most 249")
        if format not in FORMATS:
            here.unknown("format", format, FORMATS)


def _is_topic(name: str) -> bool:
    allowed = name.replace(".", "").replace("_", "").replace("-", "")
    return allowed.isascii() and allowed.isalnum() and len(name) <= 249


def order(said: Collection[str], ranks: Collection[str]) -> list[str]:
    """The sources of a fact, the highest first: `ranked` stands for `ranks`, and a person's hand goes before
    all unless it has a place of its own."""
    named: dict[str, Any] = {}
    for each in said:
        named |= dict.fromkeys(ranks if each == RANKED else [each])
    return list(named) if not named or HUMAN in named else [HUMAN, *named]


RANKED = "ranked"

"""The alert rules that are in force: `alerts.yaml`, checked as a whole and ready to look up."""

from __future__ import annotations

import string
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast
from urllib.parse import quote, urlsplit

import msgspec
from pydantic import BaseModel, ValidationError

from rules import mistakes, yamlfile
from rules.errors import MOST, Problem, RulesetError, did_you_mean, enough
from rules.names import Place
from streams.alerting import model
from streams.alerting.quiet import Quiet

SHIPPED = Path(__file__).with_name("alerts.yaml")
Afterwards: TypeAlias = Literal["edit", "reply", "nothing"]


class Recipient(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who is told: through which channel, there as whom, and what time it is with them."""

    channel: str
    to: str = ""
    timezone: str = "UTC"

    @property
    def queue(self) -> str:
        """What waits for the same place waits in one queue."""
        return f"{self.channel}/{self.to}"


@dataclass(frozen=True, slots=True)
class Channel:
    """A way to tell. `afterwards` is what becomes of a message whose account is not hot any more."""

    name: str
    spec: model.Slack | model.Email | model.Webhook
    afterwards: Afterwards
    pace: int  # ms between two messages to one recipient

    @property
    def needs_to(self) -> str:
        """What `to` names here; empty: the channel knows by itself."""
        if isinstance(self.spec, model.Slack):
            return "a Slack user or channel, such as U024BE7LH" if self.spec.token else ""
        return "an address" if isinstance(self.spec, model.Email) else ""


@dataclass(frozen=True, slots=True)
class Escalation:
    after: int
    to: Recipient


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    when: frozenset[tuple[str, str]]  # (dimension, segment)
    only_if: Mapping[str, frozenset[str]]
    cool_down: int
    to: Recipient | None
    at_night: bool
    escalate: Escalation | None

    @property
    def dimensions(self) -> set[str]:
        return {dimension for dimension, _ in self.when}


@dataclass(frozen=True, slots=True)
class Rulebook:
    channels: Mapping[str, Channel]
    rules: tuple[Rule, ...]
    owner_fact: str
    owners: Mapping[str, Recipient]
    territory_fact: str
    territories: Mapping[str, Recipient]
    otherwise: Recipient
    quiet: Quiet | None
    digest_from: int
    digest_most: int
    messages: int
    per: int
    news: int
    links: Mapping[str, str]

    def rule(self, name: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.name == name), None)

    @property
    def dimensions(self) -> frozenset[str]:
        """Those of which a change may alert somebody."""
        return frozenset(dimension for rule in self.rules for dimension in rule.dimensions)

    @property
    def facts(self) -> tuple[str, ...]:
        """What of an account decides who is told."""
        return tuple(each for each in (self.owner_fact, self.territory_fact) if each)

    def recipient(self, rule: Rule, facts: Mapping[str, str]) -> Recipient:
        """Who is told of an account with these facts: the rule's own, the owner, the territory's, or the queue."""
        if rule.to is not None:
            return rule.to
        owner = self.owners.get(facts.get(self.owner_fact, ""))
        return owner or self.territories.get(facts.get(self.territory_fact, "").casefold()) or self.otherwise

    def awake(self, to: Recipient, now: int, at_night: bool = False) -> int:
        """From when on `to` may be told: `now`, or the end of quiet hours there."""
        return now if self.quiet is None or at_night else self.quiet.over(now, to.timezone)

    def afterwards(self, to: Recipient) -> Afterwards:
        channel = self.channels.get(to.channel)
        return "nothing" if channel is None else channel.afterwards

    def links_of(self, accounts: Collection[str]) -> Iterator[tuple[str, str]]:
        """Label and URL for an account known under these ids, where the template can be filled in."""
        ids = {"account": quote(next(iter(accounts), ""), safe="")}
        for each in accounts:
            system, _, id = each.partition(":")
            ids.setdefault(system, quote(id, safe=""))
            ids.setdefault("id", quote(id or each, safe=""))
        for label, template in self.links.items():
            if {field for _, field, _, _ in string.Formatter().parse(template) if field} <= ids.keys():
                yield label, template.format_map(ids)


# -- reading -------------------------------------------------------------------------------------------------


def read(path: Path | str, segments: Mapping[str, Collection[str]] | None = None) -> Rulebook:
    """The rules in `path`; of "" the shipped ones. Raises RulesetError with every problem.

    `segments` (dimension -> its segments) is what rules may name; without it, names are not looked at.
    """
    path = Path(path) if path else SHIPPED
    file = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RulesetError([Problem(file, 0, "the file is not UTF-8 text")]) from None
    except OSError as error:
        raise RulesetError([Problem(file, 0, f"it cannot be read: {error.strerror}")]) from None
    return parse(file, text, segments)


def parse(file: str, text: str, segments: Mapping[str, Collection[str]] | None = None) -> Rulebook:
    documents = yamlfile.read(file, text)
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise RulesetError([Problem(file, 0, "alert rules are one mapping", "begin it with `channels:`")])
    place = Place(documents[0], [])
    try:
        written = model.AlertsFile.model_validate(documents[0].data)
    except ValidationError as error:
        raise _refused(place, error) from None
    _check(place, written, segments)
    if place.problems:
        raise RulesetError(place.problems)
    return _compiled(written)


_KEYS = {
    field.alias or name
    for kind in vars(model).values()
    if isinstance(kind, type) and issubclass(kind, BaseModel)
    for name, field in kind.model_fields.items()
}


def _refused(place: Place, error: ValidationError) -> RulesetError:
    problems: list[Problem] = []
    for each in error.errors(include_url=False, include_input=False)[:MOST]:
        loc = each["loc"]
        if each["type"] == "extra_forbidden":
            name = str(loc[-1])
            here = place.at(*(step for step in loc if isinstance(step, str | int)))
            known = name in _KEYS
            told = f"'{name}' does not belong here" if known else f"unknown key '{name}'"
            problems.append(here.document.problem(here.path, told, "" if known else did_you_mean(name, _KEYS)))
        else:
            problems.append(mistakes.explain(place.document, each))
    return enough(problems, problems[-1]) if len(problems) >= MOST else RulesetError(problems)


# -- what the shape does not say -------------------------------------------------------------------------------


def _check(place: Place, written: model.AlertsFile, segments: Mapping[str, Collection[str]] | None) -> None:
    channels = {name: _channel(name, each) for name, each in written.channels.items()}
    for where, to in _recipients(place, written):
        _check_to(where, to, channels)
    for i, rule in enumerate(written.rules):
        here = place.at("rules", i)
        if rule.rule in [each.rule for each in written.rules[:i]]:
            here.at("rule").problem(f"rule '{rule.rule}' is defined twice")
        if segments is not None:
            _check_segments(here, rule, segments)
    for label, template in written.links.items():
        _check_link(place.at("links", label), template)


def _recipients(place: Place, written: model.AlertsFile) -> Iterator[tuple[Place, model.To]]:
    tell = place.at("tell")
    yield tell.at("otherwise"), written.tell.otherwise
    for owner, to in written.tell.owners.items():
        yield tell.at("owners", owner), to
    if written.tell.territories is not None:
        for name, to in written.tell.territories.are.items():
            yield tell.at("territories", "are", name), to
    for i, rule in enumerate(written.rules):
        if rule.to is not None:
            yield place.at("rules", i, "to"), rule.to
        if rule.escalate is not None:
            yield place.at("rules", i, "escalate", "to"), rule.escalate.to


def _check_to(place: Place, to: model.To, channels: Mapping[str, Channel]) -> None:
    channel = channels.get(to.channel)
    if channel is None:
        place.at("channel").unknown("channel", to.channel, channels)
    elif channel.needs_to and not to.to:
        place.problem("'to' is missing", f"channel '{to.channel}' wants {channel.needs_to}")
    elif to.to and not channel.needs_to:
        place.at("to").problem(f"channel '{to.channel}' has no `to`: it goes where its URL says")
    elif to.to and isinstance(channel.spec, model.Email):
        try:
            model.address(to.to)
        except ValueError as error:
            place.at("to").problem(str(error))


def _check_segments(place: Place, rule: model.Rule, segments: Mapping[str, Collection[str]]) -> None:
    for i, each in enumerate(rule.when):
        dimension, _, segment = each.partition("/")
        if dimension not in segments:
            place.at("when", i).unknown("dimension", dimension, segments)
        elif segment not in segments[dimension]:
            place.at("when", i).unknown("segment", segment, segments[dimension])
    for dimension, allowed in rule.only_if.items():
        if dimension not in segments:
            place.at("only_if", dimension).unknown("dimension", dimension, segments)
            continue
        for i, segment in enumerate(allowed):
            if segment not in segments[dimension]:
                place.at("only_if", dimension, i).unknown("segment", segment, segments[dimension])


def _check_link(place: Place, template: str) -> None:
    try:
        fields = [name for _, name, spec, how in string.Formatter().parse(template) if name is not None]
    except ValueError:
        fields = ["{"]
    if any(not each.isidentifier() for each in fields):
        place.problem(f"'{template}' is no template", "write {id}, {account} or a system such as {salesforce}")
    if urlsplit(template.replace("{", "").replace("}", "")).scheme not in ("https", "http"):
        place.problem(f"'{template}' is no URL", "begin it with https://")


# -- compiling -------------------------------------------------------------------------------------------------


def _channel(name: str, written: model.Channel) -> Channel:
    if written.slack is not None:
        return Channel(name, written.slack, "edit" if written.slack.token else "nothing", 1_000)
    if written.email is not None:
        return Channel(name, written.email, "reply", 1_000)
    return Channel(name, cast(model.Webhook, written.webhook), "reply", 100)  # the model allows no other


def _compiled(written: model.AlertsFile) -> Rulebook:
    tell, hours = written.tell, written.quiet_hours

    def recipient(to: model.To) -> Recipient:
        return Recipient(to.channel, to.to or "", to.timezone or written.timezone)

    territories = tell.territories
    return Rulebook(
        channels={name: _channel(name, each) for name, each in written.channels.items()},
        rules=tuple(_rule(each, recipient) for each in written.rules),
        owner_fact=tell.owner_fact,
        owners={name: recipient(to) for name, to in tell.owners.items()},
        territory_fact=territories.fact if territories else "",
        territories={n.casefold(): recipient(to) for n, to in (territories.are if territories else {}).items()},
        otherwise=recipient(tell.otherwise),
        quiet=Quiet(hours.from_, hours.until, frozenset(map(model.DAYS.index, hours.days_off))) if hours else None,
        digest_from=written.digest.from_,
        digest_most=written.digest.most,
        messages=written.limits.messages,
        per=written.limits.per,
        news=written.news,
        links=written.links,
    )


def _rule(written: model.Rule, recipient: Callable[[model.To], Recipient]) -> Rule:
    late = written.escalate
    return Rule(
        written.rule,
        frozenset((dimension, segment) for dimension, _, segment in (e.partition("/") for e in written.when)),
        {dimension: frozenset(allowed) for dimension, allowed in written.only_if.items()},
        written.cool_down,
        recipient(written.to) if written.to else None,
        written.at_night,
        Escalation(late.after, recipient(late.to)) if late else None,
    )

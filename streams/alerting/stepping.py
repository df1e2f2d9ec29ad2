"""What becomes of an account's alerts: one pure function.

    NONE ──entered──► NEW ──told──► SENT ──acknowledged──► ACKNOWLEDGED
     ▲                 │ left        │ left                  │ left
     └─────────────────┘             ▼                       │
                                    OVER ◄───────────────────┘
                            returned │ ▲ left
                                     ▼ │
                                  REOPENED        SNOOZED: from any of them, until it ends

`NEXT` is the whole of it; what has no line there changes nothing. An account that comes back within the cool-down
has *returned*: the alert of before goes on and nobody is told once more. After it, the account has *entered*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias, assert_never

from msgspec.structs import replace

from rules.durations import DAY
from streams.alerting.rulebook import Recipient, Rule, Rulebook
from streams.alerting.seen import Seen, Standing
from streams.alerting.state import Alert, Alerts, Phase, Story, Telling

KEPT = 30 * DAY  # an alert that is over is forgotten after this, or after its cool-down if that is longer
GIVEN_UP = DAY  # what could not be sent for so long is not sent any more


class Happening(StrEnum):
    ENTERED = "entered"
    RETURNED = "returned"
    LEFT = "left"
    TOLD = "told"
    TOLD_LATE = "told_late"  # when the account had left meanwhile
    REFUSED = "refused"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    WOKE_HOT = "woke_hot"  # the snooze is over and the account is still, or again, in the segment
    WOKE_COLD = "woke_cold"


_P, _H = Phase, Happening
NEXT: Mapping[tuple[Phase, Happening], Phase] = {
    (_P.NONE, _H.ENTERED): _P.NEW,
    (_P.NEW, _H.LEFT): _P.NONE,
    (_P.NEW, _H.TOLD): _P.SENT,
    (_P.NEW, _H.TOLD_LATE): _P.OVER,
    (_P.NEW, _H.REFUSED): _P.FAILED,
    (_P.NEW, _H.ACKNOWLEDGED): _P.ACKNOWLEDGED,
    (_P.NEW, _H.SNOOZED): _P.SNOOZED,
    (_P.SENT, _H.LEFT): _P.OVER,
    (_P.SENT, _H.ACKNOWLEDGED): _P.ACKNOWLEDGED,
    (_P.SENT, _H.SNOOZED): _P.SNOOZED,
    (_P.ACKNOWLEDGED, _H.LEFT): _P.OVER,
    (_P.ACKNOWLEDGED, _H.SNOOZED): _P.SNOOZED,
    (_P.SNOOZED, _H.ACKNOWLEDGED): _P.ACKNOWLEDGED,
    (_P.SNOOZED, _H.SNOOZED): _P.SNOOZED,
    (_P.SNOOZED, _H.WOKE_HOT): _P.NEW,
    (_P.SNOOZED, _H.WOKE_COLD): _P.OVER,
    (_P.OVER, _H.RETURNED): _P.REOPENED,
    (_P.OVER, _H.ENTERED): _P.NEW,
    (_P.OVER, _H.SNOOZED): _P.SNOOZED,
    (_P.REOPENED, _H.LEFT): _P.OVER,
    (_P.REOPENED, _H.ACKNOWLEDGED): _P.ACKNOWLEDGED,
    (_P.REOPENED, _H.SNOOZED): _P.SNOOZED,
    (_P.FAILED, _H.LEFT): _P.NONE,
    (_P.FAILED, _H.ACKNOWLEDGED): _P.ACKNOWLEDGED,
    (_P.FAILED, _H.SNOOZED): _P.SNOOZED,
}
# What a message that was sent ought to show by now. One that shows something else is mended, if its channel can.
FACES: Mapping[Phase, str] = {
    Phase.SENT: "hot",
    Phase.REOPENED: "hot",
    Phase.ACKNOWLEDGED: "acknowledged",
    Phase.SNOOZED: "snoozed",
    Phase.OVER: "over",
}
REPLIED = ("over",)  # a channel that cannot edit says only this, once more each time that it comes to be
UNTOLD = (Phase.SENT, Phase.REOPENED)  # nobody has said that they care: it may escalate


# -- what happens ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class About:
    """What is known of an account besides the change. Unknown facts are left out, unknown dimensions too."""

    facts: Mapping[str, str] = field(default_factory=dict)
    memberships: Mapping[str, frozenset[str]] = field(default_factory=dict)
    roles: tuple[tuple[str, int], ...] = ()
    week: tuple[int, int] | None = None
    ids: tuple[str, ...] = ()
    do: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)  # by dimension and segment


@dataclass(frozen=True, slots=True)
class Changed:
    """The account's segments, and what is known of it besides."""

    seen: Seen
    about: About
    now: int


@dataclass(frozen=True, slots=True)
class Instant:
    """It is `now`: snoozes end, alerts escalate, what is long over is forgotten."""

    now: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    by: str
    now: int


@dataclass(frozen=True, slots=True)
class Snoozed:
    by: str
    until: int
    now: int


Part: TypeAlias = Literal["first", "late", "face"]


@dataclass(frozen=True, slots=True)
class Claimed:
    """It is about to be sent under that key. `face` is what the message is to show."""

    rule: str
    part: Part
    key: str
    now: int


@dataclass(frozen=True, slots=True)
class Told:
    """It was sent. `ref` is what the channel calls it."""

    rule: str
    part: Part
    ref: str
    now: int
    digest: bool = False
    face: str = "hot"


@dataclass(frozen=True, slots=True)
class Refused:
    """It will never be taken there."""

    rule: str
    part: Part
    now: int


Happened: TypeAlias = Changed | Instant | Acknowledged | Snoozed | Claimed | Told | Refused


class Why(StrEnum):
    """Why an account that entered a segment was not announced."""

    NOT_NEWS = "not_news"  # imported, restated or rebuilt
    OLD = "old"
    GATE = "gate"
    COOL_DOWN = "cool_down"
    SNOOZED = "snoozed"


@dataclass(frozen=True, slots=True)
class Message:
    """Something to send: what, about which alert, to whom, and from when on."""

    rule: str
    part: Part
    to: Recipient
    due: int
    held: bool = False
    key: str = ""  # it is on its way, or was when somebody died


@dataclass(frozen=True, slots=True)
class Step:
    """The state afterwards (None: nothing is kept), what is to be sent, and whom nobody is told of, by rule."""

    state: Alerts | None
    send: tuple[Message, ...] = ()
    untold: Mapping[str, Why] = field(default_factory=dict)


# -- the step --------------------------------------------------------------------------------------------------


def step(state: Alerts | None, what: Happened, rules: Rulebook) -> Step:
    """The same for the same: no clock, no chance, no I/O."""
    untold: dict[str, Why] = {}
    match what:
        case Changed():
            after = _changed(state, what, rules, untold)
        case Instant():
            after = state and _instant(state, what.now, rules)
        case Acknowledged():
            after = state and _each(state, lambda a: _acknowledged(a, what))
        case Snoozed():
            after = state and _each(state, lambda a: _snoozed(a, what))
        case Claimed():
            after = state and _one(state, what.rule, lambda a: _claimed(a, what))
        case Told():
            after = state and _one(state, what.rule, lambda a: _told(a, what, rules.rule(what.rule)))
        case Refused():
            after = state and _one(state, what.rule, lambda a: _refused(a, what, rules))
        case _:
            assert_never(what)
    return Step(after, tuple(messages(after, rules)) if after else (), untold)


def messages(state: Alerts, rules: Rulebook) -> Iterator[Message]:
    """What is to be sent, now or later."""
    for name, alert in state.alerts.items():
        if alert.phase is Phase.NEW:
            first = alert.first
            yield Message(name, "first", first.to, first.due, first.held, first.key)
        if alert.late is not None and not alert.late.is_told:
            yield Message(name, "late", alert.late.to, alert.late.due, key=alert.late.key)
        if _is_to_be_mended(alert, rules):
            yield Message(name, "face", alert.first.to, max(alert.since, alert.first.at))


def wakes(state: Alerts, rules: Rulebook) -> int:
    """When the account is to be asked again by time alone; 0: not at all."""
    if not state.alerts:
        return state.at + rules.news  # by then no change can come again that was seen already, and be news
    if _is_done_with(state, rules):
        return state.at
    return min((each for name, a in state.alerts.items() for each in _wakes(a, rules.rule(name))), default=0)


def _is_done_with(state: Alerts, rules: Rulebook) -> bool:
    """There is no such account any more, and whoever was told of it knows."""
    return state.gone and not any(True for _ in messages(state, rules))


def face_of(alert: Alert) -> str:
    return FACES.get(alert.phase, alert.shown)


def _is_to_be_mended(alert: Alert, rules: Rulebook) -> bool:
    face = face_of(alert)
    if not alert.first.ref or alert.first.digest or face == alert.shown:
        return False
    how = rules.afterwards(alert.first.to)
    return how == "edit" or (how == "reply" and face in REPLIED)


def _wakes(alert: Alert, rule: Rule | None) -> Iterator[int]:
    if alert.phase is Phase.SNOOZED:
        yield alert.until
    if rule is None or alert.phase in (Phase.OVER, Phase.FAILED):
        yield alert.since + max(KEPT, rule.cool_down if rule else 0)
    elif rule.escalate and alert.phase in UNTOLD and alert.late is None:
        yield alert.since + rule.escalate.after


# -- changes ---------------------------------------------------------------------------------------------------


def _changed(state: Alerts | None, what: Changed, rules: Rulebook, untold: dict[str, Why]) -> Alerts | None:
    seen = what.seen
    before = state or Alerts(seen.account)
    if seen.gone:
        return _gone(state, seen, rules) if state else None
    news = {
        dimension: standing
        for dimension, standing in seen.standings.items()
        if dimension in rules.dimensions and seen.order > before.seen.get(dimension, (-1, -1, -1))
    }
    if not news:
        return state
    after = replace(
        before,
        name=seen.name or before.name,
        at=what.now,
        seen=before.seen | dict.fromkeys(news, seen.order),
        within=before.within | {dimension: standing.segments for dimension, standing in news.items()},
        gone=False,
    )
    for rule in rules.rules:
        entered, was = _inside(rule, after), _inside(rule, before)
        if entered and not was:
            dimension, segment = entered
            after = _entered(after, rule, what, rules, (dimension, segment, seen.standings[dimension]), untold)
        elif was and not entered:
            after = _one(after, rule.name, lambda a: _left(a, what.now))
    return after if state or after.alerts else None


def _inside(rule: Rule, state: Alerts) -> tuple[str, str] | None:
    """A segment of the rule that the account is in."""
    return next((each for each in sorted(rule.when) if each[1] in state.within.get(each[0], ())), None)


def _gone(state: Alerts, seen: Seen, rules: Rulebook) -> Alerts:
    if seen.order <= max(state.seen.values(), default=(-1, -1, -1)):
        return state
    after = replace(state, within={}, seen=dict.fromkeys(state.seen, seen.order), gone=True)
    for rule in rules.rules:
        after = _one(after, rule.name, lambda a: _left(a, seen.decided) if a.hot else a)
    return after


def _entered(
    state: Alerts,
    rule: Rule,
    what: Changed,
    rules: Rulebook,
    where: tuple[str, str, Standing],
    untold: dict[str, Why],
) -> Alerts:
    alert = state.alerts.get(rule.name)
    if alert is not None and alert.phase is not Phase.OVER:
        # Snoozed, or on its way while the account had left for a moment: it goes on.
        if alert.phase is Phase.SNOOZED:
            untold[rule.name] = Why.SNOOZED
        return _with(state, rule.name, replace(alert, hot=True))
    if alert is not None and what.now < alert.first.at + rule.cool_down:
        untold[rule.name] = Why.COOL_DOWN
        return _with(state, rule.name, replace(_moved(alert, Happening.RETURNED, what.now), hot=True))
    if (why := _not_told(rule, what, rules)) is not None:
        untold[rule.name] = why
        return state
    to = rules.recipient(rule, what.about.facts)
    due = rules.awake(to, what.now, rule.at_night)
    fresh = Alert(
        NEXT[Phase.NONE, Happening.ENTERED],
        True,
        _story(what, where),
        Telling(to, due, held=due > what.now),
        since=what.now,
        times=alert.times if alert else 0,
    )
    return _with(state, rule.name, fresh)


def _not_told(rule: Rule, what: Changed, rules: Rulebook) -> Why | None:
    if not what.seen.is_news:
        return Why.NOT_NEWS
    if what.now - what.seen.decided > rules.news:
        return Why.OLD
    held = {name: frozenset(standing.segments) for name, standing in what.seen.standings.items()}
    held = {**what.about.memberships, **held}
    if not all(held.get(dimension, frozenset()) & allowed for dimension, allowed in rule.only_if.items()):
        return Why.GATE
    return None


def _story(what: Changed, where: tuple[str, str, Standing]) -> Story:
    seen, about = what.seen, what.about
    dimension, segment, standing = where
    return Story(
        seen.id,
        seen.account,
        seen.name,
        f"{dimension}/{segment}",
        standing.before,
        seen.at,
        standing.until,
        standing.reasons,
        standing.do or about.do.get((dimension, segment), ()),
        about.roles,
        about.week,
        about.ids,
    )


def _left(alert: Alert, now: int) -> Alert | None:
    if alert.phase is Phase.NEW and alert.first.key:
        return replace(alert, hot=False)  # it may have arrived: what becomes of it is seen when that is known
    moved = _moved(alert, Happening.LEFT, now)
    return None if moved.phase is Phase.NONE else replace(moved, hot=False)


# -- people and time -------------------------------------------------------------------------------------------


def _acknowledged(alert: Alert, what: Acknowledged) -> Alert:
    moved = _moved(alert, Happening.ACKNOWLEDGED, what.now)
    return alert if moved is alert else replace(moved, by=what.by, late=_if_told(alert.late))


def _snoozed(alert: Alert, what: Snoozed) -> Alert:
    moved = _moved(alert, Happening.SNOOZED, what.now)
    return alert if moved is alert else replace(moved, by=what.by, until=what.until, late=_if_told(alert.late))


def _if_told(late: Telling | None) -> Telling | None:
    return late if late and (late.is_told or late.key) else None


def _instant(state: Alerts, now: int, rules: Rulebook) -> Alerts | None:
    for name, alert in list(state.alerts.items()):
        rule = rules.rule(name)
        if all(each > now for each in _wakes(alert, rule)):
            continue
        if alert.phase is Phase.SNOOZED:
            state = _with(state, name, _woken(alert, rule, rules, now))
        elif rule is not None and rule.escalate and alert.phase in UNTOLD:
            to = rule.escalate.to
            state = _with(state, name, replace(alert, late=Telling(to, rules.awake(to, now, rule.at_night))))
        else:
            state = _with(state, name, None)
    is_old = not state.alerts and state.at + rules.news <= now
    return None if is_old or _is_done_with(state, rules) else state


def _woken(alert: Alert, rule: Rule | None, rules: Rulebook, now: int) -> Alert:
    if not alert.hot or rule is None:
        return _moved(alert, Happening.WOKE_COLD, now)
    due = rules.awake(alert.first.to, now, rule.at_night)
    moved = _moved(alert, Happening.WOKE_HOT, now)
    return replace(moved, first=Telling(alert.first.to, due, held=due > now), late=None, until=0, by="", shown="")


# -- sending ---------------------------------------------------------------------------------------------------


def _claimed(alert: Alert, what: Claimed) -> Alert:
    if what.part == "first" and alert.phase is Phase.NEW:
        return replace(alert, first=replace(alert.first, key=what.key))
    if what.part == "late" and alert.late is not None:
        return replace(alert, late=replace(alert.late, key=what.key))
    return alert


def _told(alert: Alert, what: Told, rule: Rule | None) -> Alert:
    if what.part == "late":
        return replace(alert, late=alert.late and replace(alert.late, ref=what.ref, at=what.now))
    if what.part == "face":
        return replace(alert, shown=what.face)
    happening = Happening.TOLD if alert.hot else Happening.TOLD_LATE
    first = replace(alert.first, ref=what.ref, at=what.now, digest=what.digest)
    return replace(_moved(alert, happening, what.now), first=first, shown="hot", times=alert.times + 1)


def _refused(alert: Alert, what: Refused, rules: Rulebook) -> Alert:
    """Another try with everybody's queue, unless that is who refused."""
    if what.part == "face":
        return replace(alert, shown=face_of(alert))
    if what.part == "late":
        return replace(alert, late=alert.late and replace(alert.late, at=what.now))
    if alert.first.to.queue != rules.otherwise.queue:
        return replace(alert, first=Telling(rules.otherwise, what.now))
    return _moved(alert, Happening.REFUSED, what.now)


# -- small things ----------------------------------------------------------------------------------------------


def _moved(alert: Alert, happening: Happening, now: int) -> Alert:
    """The alert in its next phase; itself where nothing follows."""
    phase = NEXT.get((alert.phase, happening))
    return alert if phase is None else replace(alert, phase=phase, since=now)


def _one(state: Alerts, rule: str, change: Callable[[Alert], Alert | None]) -> Alerts:
    alert = state.alerts.get(rule)
    return state if alert is None else _with(state, rule, change(alert))


def _each(state: Alerts, change: Callable[[Alert], Alert]) -> Alerts:
    return replace(state, alerts={rule: change(alert) for rule, alert in state.alerts.items()})


def _with(state: Alerts, rule: str, alert: Alert | None) -> Alerts:
    others = {name: each for name, each in state.alerts.items() if name != rule}
    return replace(state, alerts=others if alert is None else others | {rule: alert})

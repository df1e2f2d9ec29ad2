"""Numbers, instants and names as the page says them. What counts with the seconds is counted on in the browser."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

MINUTE, HOUR, DAY = 60, 3_600, 86_400
FOREVER = Markup('<span class="quiet">no end in sight</span>')
NOT_KNOWN = Markup('<span class="quiet">not known</span>')


def milliseconds(instant: str) -> int:
    return round(datetime.fromisoformat(instant).timestamp() * 1000)


def span(seconds: float) -> str:
    """`0:12` below an hour, `5 h 12 min` below a day, `6 d 3 h` beyond; static/clock.js says it likewise."""
    whole = max(0, int(seconds))
    if whole < HOUR:
        return f"{whole // MINUTE}:{whole % MINUTE:02}"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def roughly(seconds: float) -> str:
    """`just now`, `12 s`, `5 min`, `3 h`, `12 d`."""
    whole = max(0, int(seconds))
    for unit, size in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def left(instant: str | None, now: int) -> Markup:
    """How long until then."""
    if instant is None:
        return FOREVER
    return _time(instant, "left", span((milliseconds(instant) - now) / 1000))


def ago(instant: str | None, now: int) -> Markup:
    if instant is None:
        return NOT_KNOWN
    return _time(instant, "ago", f"{roughly((now - milliseconds(instant)) / 1000)} ago")


def moment(instant: str | None) -> Markup:
    """Day and time, UTC."""
    if instant is None:
        return NOT_KNOWN
    at = datetime.fromisoformat(instant).astimezone(UTC)
    return _time(instant, "", f"{at.day} {at:%b %Y, %H:%M}")


def clock(instant: str) -> Markup:
    return _time(instant, "", datetime.fromisoformat(instant).astimezone(UTC).strftime("%H:%M:%S"))


def _time(instant: str, kind: str, text: str) -> Markup:
    marked = Markup(' data-clock="{}"').format(kind) if kind else ""
    return Markup('<time datetime="{}" title="{} UTC"{}>{}</time>').format(
        instant, instant[:19].replace("T", " "), marked, text
    )


def number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def plain(name: str | None) -> str:
    """A name of the rules as people say it."""
    return (name or "no segment").replace("_", " ")


def value(given: Any) -> str:
    if given is None:
        return "cleared"
    if isinstance(given, bool):
        return "yes" if given else "no"
    if isinstance(given, int | float):
        return number(given)
    return ", ".join(map(str, given)) if isinstance(given, list | tuple) else str(given)


def sentence(text: str) -> str:
    """As it stands, with a capital to begin with."""
    return text[:1].upper() + text[1:]


def some(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def heat(segment: str | None) -> str:
    """The class that colours a segment: by its name where that says how warm it is."""
    return str(escape(segment)) if segment in HEAT else "plain"


HEAT = ("hot", "warm", "cold", "dead", "unclassified")
FILTERS: dict[str, Any] = {
    "number": number, "percent": percent, "plain": plain, "value": value, "heat": heat, "moment": moment,
    "clock": clock, "left": left, "ago": ago, "some": some, "span": span, "roughly": roughly, "sentence": sentence,
}  # fmt: skip

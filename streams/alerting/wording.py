"""What a message says, the same in Slack, in an e-mail and in plain text.

A `Sheet` is a headline, parts of one heading each, and links; `slack`, `text` and `html` write it out. Names and
reasons come from outside: each writer makes them harmless in its own way and keeps to the limits of its medium.
"""

from __future__ import annotations

import html as _html
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from rules.calendars import zone
from rules.durations import in_words
from streams.alerting.rulebook import Rulebook
from streams.alerting.state import Alert, Story

SECTION = 3_000  # characters in a Slack section
BLOCKS = 50  # in a Slack message
TEXT = 3_500  # of Slack's fallback and of a notification
LINE = 400  # of an account in a digest
LINE_IN_SLACK = 900  # the same with markup escaped: three in a section, so that a hundred fit into a message


@dataclass(frozen=True, slots=True)
class Part:
    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    title: str  # a line that says all, for notifications and subjects
    headline: str
    parts: tuple[Part, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    foot: tuple[str, ...] = ()


# -- what is said ----------------------------------------------------------------------------------------------


def alert(told: Alert, face: str, rules: Rulebook, timezone: str) -> Sheet:
    """One account. `face` is what the message shows by now: hot, acknowledged, snoozed or over."""
    story = told.story
    title = _title(story, timezone)
    state = _face(told, face, timezone)
    parts = [
        Part("Why", story.reasons),
        Part("Who", (_people(story.roles),) if story.roles else ()),
        Part("To do", story.do),
        Part("Stays", (until(story, timezone),)),
    ]
    if state:
        return Sheet(
            f"{who(story)}: {state}", f"{who(story)}: {state}", (Part("It was", (title,)),), _links(told, rules)
        )
    return Sheet(
        title,
        f"{who(story)} is {segment(story)} (was {story.before})"
        if story.before != "first seen"
        else f"{who(story)} is {segment(story)} (first seen)",
        tuple(part for part in (Part("This week", _week(story)), *parts) if part.lines),
        _links(told, rules),
        (f"{story.account} · {story.change}", f"isotherm alerts ack {shlex.quote(story.account)}"),
    )


def late(told: Alert, after: int, rules: Rulebook, timezone: str) -> Sheet:
    """Nobody has acknowledged it."""
    plain = alert(told, "hot", rules, timezone)
    words = f"Nobody has acknowledged it for {in_words(after)}"
    return Sheet(f"{words}: {plain.title}", f"{words}: {plain.headline}", plain.parts, plain.links, plain.foot)


def digest(stories: Sequence[Story], timezone: str) -> Sheet:
    """Many accounts, a line each."""
    many = f"{len(stories)} account{'' if len(stories) == 1 else 's'}"
    segments = sorted({segment(each) for each in stories})
    named = ", ".join(segments)
    title = f"{many} turned {named}: {', '.join(who(each) for each in stories[:3])}"
    title += f" and {len(stories) - 3} more" if len(stories) > 3 else ""
    return Sheet(title, f"{many} turned {named}", (Part("", tuple(_line(each, timezone) for each in stories)),))


def who(story: Story) -> str:
    return story.name or story.account


def segment(story: Story) -> str:
    return story.segment.partition("/")[2].replace("_", " ")


def until(story: Story, timezone: str) -> str:
    name = segment(story)
    return f"{name} until {at(story.until, timezone)}" if story.until else f"{name} until something changes"


def at(instant: int, timezone: str) -> str:
    """`Mon 9 Mar 2026, 11:00 CET`, as the clocks there say it."""
    there = datetime.fromtimestamp(instant / 1000, UTC).astimezone(zone(timezone))
    return f"{there:%a} {there.day} {there:%b %Y, %H:%M %Z}"


def _title(story: Story, timezone: str) -> str:
    why = f": {story.reasons[0]}" if story.reasons else ""
    return f"{who(story)} is {segment(story)} ({story.before} → {segment(story)}){why}; {until(story, timezone)}"


def _line(story: Story, timezone: str) -> str:
    return _cut(_title(story, timezone), LINE)


def _face(told: Alert, face: str, timezone: str) -> str:
    since = at(told.since, timezone)
    match face:
        case "over":
            return f"no longer {segment(told.story)} since {since}"
        case "acknowledged":
            return f"acknowledged by {told.by or 'somebody'}, {since}"
        case "snoozed":
            return f"snoozed until {at(told.until, timezone)}"
    return ""


def _week(story: Story) -> tuple[str, ...]:
    if story.week is None:
        return ()
    now, before = story.week
    many = "1 activity" if now == 1 else f"{now} activities"
    return (f"{many} in 7 days, {before} in the 7 days before",)


def _people(roles: Iterable[tuple[str, int]]) -> str:
    """`3 people in 7 days: executive, 2 technical`."""
    roles = tuple(roles)
    count = sum(n for _, n in roles)
    words = ", ".join((f"{n} " if n > 1 else "") + (role or "not in the CRM") for role, n in roles)
    return f"{count} {'person' if count == 1 else 'people'} in 7 days: {words}"


def _links(told: Alert, rules: Rulebook) -> tuple[tuple[str, str], ...]:
    return tuple(rules.links_of((told.story.account, *told.story.ids)))


# -- how it is written -----------------------------------------------------------------------------------------


def slack(sheet: Sheet) -> dict[str, Any]:
    """A message of Block Kit, and its text for notifications and for clients that know no blocks."""
    texts = [f"*{_mrkdwn(sheet.headline)}*"]
    for part in sheet.parts:
        heading = f"*{_mrkdwn(part.heading)}*\n" if part.heading else ""
        many = len(part.lines) > 1
        lines = [("• " if many else "") + _mrkdwn(line) for line in part.lines]
        texts += _sections(heading, lines)
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in texts[: BLOCKS - 1]
    ]
    links = [f"<{url}|{_mrkdwn(label)}>" for label, url in sheet.links]
    if context := [*links, *(f"`{_mrkdwn(line)}`" for line in sheet.foot)]:
        blocks.append(
            {
                "type": "context",
                "elements": [{"type": "mrkdwn", "text": _cut(each, SECTION)} for each in context[:10]],
            }
        )
    return {"text": _mrkdwn(sheet.title, TEXT), "blocks": blocks}


def _sections(heading: str, lines: list[str]) -> Iterable[str]:
    """The lines in as few sections as hold them."""
    text = heading
    for line in lines:
        if len(text) + len(line) + 1 > SECTION:
            yield text.rstrip("\n")
            text = ""
        text += f"{line}\n"
    if text.strip():
        yield text.rstrip("\n")


def _mrkdwn(text: str, longest: int = LINE_IN_SLACK) -> str:
    """Slack reads &, < and > as markup, and would call a whole channel by it. Nothing is cut within an escape."""
    told, length = list[str](), 0
    for each in text:
        written = _ESCAPED.get(each, each)
        length += len(written)
        if length > longest:
            return "".join(told) + "…"
        told.append(written)
    return "".join(told)


_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "'"}


def text(sheet: Sheet) -> str:
    lines = [sheet.headline, ""]
    for part in sheet.parts:
        lines += ([f"{part.heading}:"] if part.heading else []) + [f"  {line}" for line in part.lines] + [""]
    lines += [f"{label}: {url}" for label, url in sheet.links]
    return "\n".join([*lines, *sheet.foot]).rstrip() + "\n"


def html(sheet: Sheet) -> str:
    """No picture, no script, nothing that is fetched: it says what the text says."""
    told = [f"<h2>{_html.escape(sheet.headline)}</h2>"]
    for part in sheet.parts:
        if part.heading:
            told.append(f"<h3>{_html.escape(part.heading)}</h3>")
        told.append("<ul>" + "".join(f"<li>{_html.escape(line)}</li>" for line in part.lines) + "</ul>")
    links = [
        f'<a href="{_html.escape(url)}">{_html.escape(label)}</a>'
        for label, url in sheet.links
        if urlsplit(url).scheme in ("http", "https")
    ]
    if links:
        told.append(f"<p>{' · '.join(links)}</p>")
    if sheet.foot:
        told.append("<p><small>" + "<br>".join(_html.escape(line) for line in sheet.foot) + "</small></p>")
    return "<!doctype html><html><body>\n" + "\n".join(told) + "\n</body></html>\n"


def _cut(words: str, longest: int) -> str:
    return words if len(words) <= longest else f"{words[: longest - 1]}…"

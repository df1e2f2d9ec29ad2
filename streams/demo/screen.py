"""The demo's screen: one frame from what the ledger holds, made to fit the terminal.

Every line is a Text cut to its width beforehand, so that drawing moves nothing and a frame never scrolls.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from rich import box
from rich.console import Group
from rich.layout import Layout
from rich.panel import Panel
from rich.text import Text

from rules.state import UNCLASSIFIED
from streams.demo.ledger import ENGAGEMENT, HOT, Alert, Change, Hot, Ledger, percentile
from streams.show import COLOURS, segment_text, short

NAME, COUNT, BAR = 20, 4, 4  # columns of a segment's row, the bar's at least
HOT_NAME = 27
WIDE = 60  # from here on a line of a change has room for everything
SOON_MS = 15_000
HOUR = 3_600_000
SHORT_NAMES = {"professional_services": "professional", "construction_real_estate": "construction"}


def frame(ledger: Ledger, title: Text, hint: str, page: str, now: int, width: int, height: int) -> Layout:
    """The whole screen at `now`, UTC ms."""
    below = max(7, min(12, height // 4 + 1))
    left, hot = max(30, width // 3), width * 9 // 20
    above = height - below - 5
    segments = segment_lines(ledger.counts, left - 4, above - 2)
    changes = chain.from_iterable(change_lines(change, width - left - 4) for change in list(ledger.news))
    alerts = chain.from_iterable(alert_lines(alert, width - hot - 4) for alert in list(ledger.alerted))
    layout = Layout()
    layout.split_column(
        Layout(title, size=1),
        _side_by_side(
            _panel("accounts per segment", segments, left, above, "blue"),
            _panel("changes, newest first", changes, width - left, above, "magenta"),
            left,
        ),
        _side_by_side(
            _panel("hot, and cooling in", (hot_line(each, now) for each in ledger.hottest), hot, below, "red"),
            _panel("alerts, as delivered", alerts, width - hot, below, "yellow"),
            hot,
            below,
        ),
        Layout(Group(*_cut(health_lines(ledger, hint, page), width, 4)), size=4),
    )
    return layout


def title_line(about: str, elapsed: float, left: float | None, width: int) -> Text:
    times = f"{countdown(elapsed)} · " + ("Ctrl-C ends" if left is None else f"{countdown(max(0, left))} left")
    line = Text(" Isotherm ", style="bold white on red") + Text(f" {about}", style="bold")
    line.truncate(max(0, width - len(times) - 1), overflow="ellipsis")
    line.pad_right(width - line.cell_len - len(times))
    return line + Text(times, style="dim")


def segment_lines(counts: dict[str, dict[str, int]], width: int, height: int) -> Iterator[Text]:
    """Engagement with bars, then as many of each other dimension's segments as there is room for."""
    engagement = counts.get(ENGAGEMENT, {})
    shown = [name for name in COLOURS if name != UNCLASSIFIED or engagement.get(name)]
    yield from _rows([(name, engagement.get(name, 0)) for name in shown], width)
    left = height - len(shown)
    others = [name for name in counts if name != ENGAGEMENT and any(counts[name].values())]
    as_rows = left >= 3 * len(others)
    others = others[: max(1, left)]
    for n, dimension in enumerate(others):
        told = _as_rows if as_rows else _as_words
        lines = told(dimension, counts[dimension], left // (len(others) - n), width)
        left -= len(lines)
        yield from lines


def _as_rows(dimension: str, counts: dict[str, int], room: int, width: int) -> list[Text]:
    return [Text(dimension, style="bold"), *_rows(_biggest(counts, room - 1), width)]


def _as_words(dimension: str, counts: dict[str, int], room: int, width: int) -> list[Text]:
    words = ", ".join(f"{_name(name)} {n}" for name, n in _biggest(counts, 8))
    lines = textwrap.wrap(f"{dimension} {words}", width, max_lines=max(1, room), placeholder=" …")
    texts = [Text(line, style="dim") for line in lines]
    texts[0].stylize("not dim bold", 0, len(dimension))
    return texts


def change_lines(change: Change, width: int) -> Iterator[Text]:
    """Two lines for a move of engagement, one dim line for anything else."""
    when = Text(change.data["effective"][11:19] + " ", style="dim")
    if not change.is_engagement:
        yield when + Text(f"{change.who}  {_elsewhere(change)}", style="dim")
        return
    wide = width >= WIDE
    yield when + _move(change) + Text(f"  {change.who}", style="bold") + (_timing(change) if wide else Text())
    why = Text(change.why, style="none" if change.data["to"] == HOT else "dim")
    yield Text(" " * (9 if wide else 2)) + why + _until(change)


def _move(change: Change) -> Text:
    return segment_text(change.data["from"]) + Text(" → ") + segment_text(change.data["to"])


def _timing(change: Change) -> Text:
    by_time = change.data["cause"] == "time"
    return Text(f"  by time alone, read {change.after_effective} ms later" if by_time else "", style="green")


def _until(change: Change) -> Text:
    until = change.data["stays_until"]
    return Text(f"  until {short(until)[:16]}" if until else "", style="italic dim")


def _elsewhere(change: Change) -> str:
    data = change.data
    if change.is_state:
        return "is now known" if data["memberships"] else "is gone"
    if "from" in data:
        return f"{data['dimension']} {_name(data['from'] or 'none')} → {_name(data['to'] or 'none')}"
    return f"{data['dimension']} {change.event['type'].rpartition('.')[2]} {_name(data['segment'])}"


def hot_line(hot: Hot, now: int) -> Text:
    left = hot.until - now
    style = "bold red" if left < SOON_MS else "yellow" if left < HOUR else "dim"
    line = Text(f"{countdown(max(0, left) / 1000):>5}  ", style=style)
    return line + Text(f"{hot.name:<{HOT_NAME}} ", style="bold") + Text(hot.about, style="dim")


def alert_lines(alert: Alert, width: int) -> Iterator[Text]:
    who, is_hot, rest = alert.text.partition(" is hot ")
    lines = textwrap.wrap(alert.text, max(10, width), max_lines=2, placeholder=" …", subsequent_indent="  ")
    for n, line in enumerate(lines):
        text = Text(line, style="" if n == 0 else "dim")
        if n == 0 and is_hot and rest:
            text.stylize("bold", 0, len(who))
        yield text


def health_lines(ledger: Ledger, hint: str, page: str) -> Iterator[Text]:
    letters = sum(ledger.letters.values())
    yield _figures(
        ("messages", f"{ledger.messages:,}"),
        ("folded", f"{ledger.folded:,}"),
        ("changes", f"{ledger.changes:,}"),
        ("alerts", f"{ledger.alerts:,}"),
        ("dead letters", f"{letters:,}"),
    )
    yield _figures(
        ("event→change p50", ms(percentile(ledger.latency.samples, 0.5))),
        ("p99", ms(percentile(ledger.latency.samples, 0.99))),
        ("cooled by time", f"{len(ledger.cooled)}"),
        ("read after", ms(percentile(ledger.cooled, 0.5))),
        ("ticks", f"{ledger.ticks:,}"),
    )
    yield Text(f" {page}", style="bold")
    yield Text(f" {ledger.warning}", style="bold red") if ledger.warning else Text(f" {hint}", style="dim")


def ms(figure: int | None) -> str:
    return "–" if figure is None else f"{figure:,} ms"


def countdown(seconds: float) -> str:
    """`0:12` below an hour, `5 h 12 min` below a day, `6 d 3 h` beyond."""
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def _side_by_side(left: Panel, right: Panel, width: int, height: int | None = None) -> Layout:
    row = Layout(size=height)
    row.split_row(Layout(left, size=width), Layout(right))
    return row


def _panel(title: str, lines: Iterable[Text], width: int, height: int, style: str) -> Panel:
    inside = Group(*_cut(lines, width - 4, height - 2))
    return Panel(inside, title=Text(title, style=style), title_align="left", box=box.ROUNDED, border_style="dim")


def _cut(lines: Iterable[Text], width: int, height: int) -> Iterator[Text]:
    for line in islice(lines, max(0, height)):
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
        yield line


def _biggest(counts: dict[str, int], room: int) -> list[tuple[str, int]]:
    """The biggest segments; the last place is kept for accounts of which nothing is known."""
    unknown = counts.get(UNCLASSIFIED, 0)
    known = sorted(((n, name) for name, n in counts.items() if n and name != UNCLASSIFIED), reverse=True)
    rows = [(name, n) for n, name in known[: room - bool(unknown)]]
    return [*rows, (UNCLASSIFIED, unknown)] if unknown else rows


def _rows(rows: list[tuple[str, int]], width: int) -> Iterator[Text]:
    most = max((n for _, n in rows), default=0) or 1
    column = min(NAME, width - COUNT - 2 - BAR)
    room = width - column - COUNT - 2
    for name, n in rows:
        halves = n * room * 2 // most
        bar = "█" * (halves // 2) + "▌" * (halves % 2)
        line = Text(f"{_name(name)[:column]:<{column}} {n:>{COUNT}} ", style=COLOURS.get(name, ""))
        yield line + Text(bar, style=COLOURS.get(name, "blue"))


def _name(segment: str) -> str:
    return SHORT_NAMES.get(segment, segment).replace("_", " ")


def _figures(*figures: tuple[str, str]) -> Text:
    line = Text(" ")
    for n, (name, value) in enumerate(figures):
        line += Text("  " if n else "") + Text(f"{name} ", style="dim") + Text(value, style="bold")
    return line

"""Changes and explanations for people, in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

COLOURS = {"hot": "bold red", "warm": "yellow", "cold": "cyan", "dead": "bright_black", "unclassified": "dim"}
MARKS = {"true": ("✓", "green"), "false": ("✗", "red"), "unknown": ("?", "yellow")}


def segment_text(segment: str | None) -> Text:
    return Text(segment or "none", style=COLOURS.get(segment or "", "bold"))


def change_line(event: dict[str, Any]) -> Iterator[Text]:
    """One line for a change; for an account's first state, one line with all its segments."""
    data = event["data"]
    who = data.get("name") or data["account"]
    when = Text(event["time"][11:23] + "  ", style="dim")
    if event["type"] == "account.state":
        yield when + Text(who, style="bold") + Text(" ") + Text(_stands(data), style="dim")
        return
    line = when + Text(who, style="bold") + Text(f"  {data['dimension']} ")
    if event["type"] == "segment.moved":
        line += segment_text(data["from"]) + Text(" → ") + segment_text(data["to"])
    else:
        line += Text(f"{event['type'].rpartition('.')[2]} ") + segment_text(data["segment"])
    line += Text(f"  {data['reason'].get('text', '')}", style="dim")
    if data["stays_until"]:
        line += Text(f"  until {short(data['stays_until'])}", style="italic")
    yield line


def _stands(data: dict[str, Any]) -> str:
    if data.get("deleted"):
        return "was deleted and left every segment"
    answers = {name: held["answer"] for name, held in data["memberships"].items()}
    return "is now known: " + ", ".join(
        f"{name} {', '.join(answer) if isinstance(answer, list) else answer}"
        for name, answer in answers.items()
        if answer
    )


def short(instant: str) -> str:
    """`2026-03-02 09:15:00` of an ISO instant."""
    return instant[:19].replace("T", " ")


def explanation_tree(told: dict[str, Any]) -> Tree:
    title = Text(told["name"] or told["account"], style="bold")
    if told["name"]:
        title += Text(f"  {told['account']}", style="dim")
    title += Text(f"  as of {short(told['as_of'])} UTC", style="dim")
    tree = Tree(title)
    for name, dimension in told["dimensions"].items():
        branch = tree.add(_standing(name, dimension))
        for each in dimension.get("overrides", ()):
            branch.add(_override(each, dimension["rules_say"]))
        reason = dimension["reason"]
        if "because" in reason:
            _add(branch, reason["because"])
            if "unknown" in reason:
                branch.add(Text(f"not decidable: {', '.join(reason['unknown'])}", style="yellow"))
        else:
            for segment, each in reason.items():
                _add(branch.add(segment_text(segment)), each["because"])
    facts = tree.add(Text(f"facts ({told['contacts']} contacts)", style="bold"))
    for name, fact in told["facts"].items():
        line = Text(f"{name}: {fact['value']}") + Text(f"  {fact['source']}, {short(fact['at'])}", style="dim")
        if fact.get("stale"):
            line += Text("  stale", style="yellow")
        leaf = facts.add(line)
        for other in fact.get("others", ()):
            says = f"{other['source']} says {other['value']}, {short(other['at'])}"
            leaf.add(Text(says, style="yellow"))
    if told["also"]:
        tree.add(Text(f"was also {', '.join(told['also'])}", style="dim"))
    if told["quarantined"]:
        text = (
            "in quarantine: a rule raised on it; no answer changes until the next ruleset, or `isotherm release`"
        )
        tree.add(Text(text, style="red"))
    if told["degraded"]:
        text = f"degraded on {short(told['degraded'])}: too many facts that no rule reads, the oldest were dropped"
        tree.add(Text(text, style="yellow"))
    for source, since in told["read_again"].items():
        text = f"{source} could not say what changed on {short(since)}: to be read again"
        tree.add(Text(text, style="yellow"))
    return tree


def _standing(name: str, dimension: dict[str, Any]) -> Text:
    segment = dimension["segment"]
    line = Text(f"{name}: ", style="bold")
    line += Text(", ".join(segment) or "none") if isinstance(segment, list) else segment_text(segment)
    line += Text(f"  since {short(dimension['since'])}", style="dim")
    if dimension["stays_until"]:
        line += Text(f", until {short(dimension['stays_until'])} if nothing happens", style="italic")
    return line


def _override(told: dict[str, Any], rules_say: str | list[str] | None) -> Text:
    ruled = (", ".join(rules_say) if isinstance(rules_say, list) else rules_say) or "none"
    says = f"override: {'not ' if told['is'] == 'out' else ''}{told['segment']}, by {told['by'] or 'somebody'}"
    until = f"  since {short(told['since'])}, until {short(told['until'])}"
    return Text(f"{says}: {told['why']}", style="magenta") + Text(f"{until}; the rules say {ruled}", style="dim")


def _add(branch: Tree, told: dict[str, Any]) -> None:
    mark, style = MARKS[told["verdict"]]
    line = Text(f"{mark} ", style=style) + Text(told["says"])
    if "until" in told:
        line += Text(f"  until {short(told['until'])}", style="dim")
    grown = branch.add(line)
    for part in told.get("parts", ()):
        _add(grown, part)


OUTCOMES = ("sent", "opened", "replied", "meeting", "opportunity", "won", "lost", "churned", "revenue")


def report_tables(told: dict[str, Any]) -> Iterator[Table]:
    """The report of `isotherm report` as tables: facts, then each dimension with its segments."""
    quality = told["quality"]
    facts = _table(
        f"What is known of {quality['accounts']:,} account{'' if quality['accounts'] == 1 else 's'}",
        "fact",
        ("known", "share", *_FLAWS, "confidence"),
    )
    for name, fact in quality["facts"].items():
        mean = fact["mean_confidence"]
        flaws = [_count(fact[flaw]) for flaw in _FLAWS]
        facts.add_row(
            name, f"{fact['known']:,}", _percent(fact["share_known"]), *flaws, "" if mean is None else str(mean)
        )
    yield facts
    if told["claimed_twice"]:
        table = _table("Domains that more than one account claims", "domain", ())
        table.add_column("whose it is")
        table.add_column("who claims it too")
        for domain, claims in told["claimed_twice"].items():
            table.add_row(domain.removeprefix("domain:"), *claims.split("\t", 1))
        yield table
    for name, dimension in told["dimensions"].items():
        moved = f"{dimension['entered']:,} entered, {dimension['left']:,} left in {told['days']} days"
        volatility = dimension["volatility"]
        title = f"{name}: {moved}" + ("" if volatility is None else f", volatility {volatility:g}")
        shown = [what for what in OUTCOMES if any(what in each for each in dimension["segments"].values())]
        table = _table(title, "segment", ("size", "entered", "left", *shown))
        for segment, counts in dimension["segments"].items():
            numbers = [_count(counts.get(what, 0)) for what in ("size", "entered", "left", *shown)]
            table.add_row(segment_text(segment), *numbers)
        yield table


_FLAWS = ("unclassified", "missing", "stale", "conflicting", "matched_by_likeness")


def _table(title: str, first: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(first)
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    return table


def _count(number: float) -> str:
    return f"{number:,.0f}" if number else "–"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


WRONG = {
    "over": "in a segment's set, and should not be",
    "under": "not in a segment's set, and should be",
    "answers": "accounts that stand elsewhere than the log says",
    "wakes": "accounts that are due at another instant",
    "sets": "accounts whose sets do not agree with their states",
}


def verdict_tables(told: dict[str, Any]) -> Iterator[Table | Text]:
    """What `isotherm verify` found."""
    plural = "" if told["compared"] == 1 else "s"
    left_out = f", {told['left_out']:,} left out that are due just now" if told["left_out"] else ""
    found = f"{told['compared']:,} account{plural} compared{left_out}"
    if told["equal"]:
        yield Text(f"{found}: Redis holds what the log says")
        return
    yield Text(f"{found}: Redis does not hold what the log says", style="bold red")
    for kind, says in WRONG.items():
        if told[kind]:
            yield Text(f"{told[kind]:>9,}  {says}")
    over, under = told["over_inclusion"], told["under_inclusion"]
    if over or under:
        segments = _table("By segment", "segment", ("over-inclusion", "under-inclusion"))
        for segment in sorted({*over, *under}):
            segments.add_row(segment, _count(over.get(segment, 0)), _count(under.get(segment, 0)))
        yield segments
    examples = _table("Examples", "account", ())
    for column in ("what", "expected", "found"):
        examples.add_column(column, overflow="fold")
    for each in told["examples"]:
        what = f"{each['kind']} {each.get('segment', '')}".strip()
        examples.add_row(Text(each["account"]), what, *(_said(each.get(side)) for side in ("expected", "found")))
    yield examples


def _said(what: Any) -> Text:
    if isinstance(what, dict):
        return Text(", ".join(f"{name} {'+'.join(answer)}" for name, answer in what.items()) or "nowhere")
    return Text("" if what is None else str(what))


def rebuilt_tables(told: dict[str, Any]) -> Iterator[Table | Text]:
    """What `isotherm rebuild` did."""
    if told["segments"]:
        table = _table("What differed", "segment", ("entered", "left"))
        for segment, counts in told["segments"].items():
            table.add_row(segment, _count(counts["entered"]), _count(counts["left"]))
        yield table
    partitions = f"{len(told['partitions'])} partition{'' if len(told['partitions']) == 1 else 's'}"
    yield Text(
        f"{partitions} with {told['accounts']:,} accounts rebuilt in {told['seconds']:g} s, {told['told']:,} "
        f"stand elsewhere than before; the longest that a partition stood still: {told['still_ms']:,} ms"
    )

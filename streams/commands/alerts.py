"""`isotherm alerts`: whom sales' messages go to, what became of them, and what would be told."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from streams.terminal import NO, Json, err, fail, load_or_exit, out, print_json, read_settings, run, shown

app = App(name="alerts", help="Alerts for sales: check the rules, see what would be told, acknowledge, snooze.")
PORT, PATH = 8099, "/alerts"
SHOWN = 100


@app.command
def check(file: Path, *, segments: Path | None = None, json_: Json = False) -> None:
    """Check a file of alert rules: every mistake at once, each with file, line and a hint.

    SEGMENTS is the directory of the rules whose segments it names; without it, those names are not looked at.

    Example: isotherm alerts check alerts.yaml --segments rules/segments
    """
    rules = _rules(file, _known(segments))
    if json_:
        print_json({"rules": [rule.name for rule in rules.rules], "channels": sorted(rules.channels)})
    else:
        named = ", ".join(rule.name for rule in rules.rules)
        out.print(
            f"{_many(len(rules.rules), 'rule')} ({named}), {_many(len(rules.channels), 'channel')}, no problems"
        )


@app.command
def preview(*, last: str = "7d", rules: Path | None = None, json_: Json = False) -> None:
    """Tell what would have been sent to whom, by the changes of the LAST days. Nothing is sent.

    RULES is a file of alert rules, else that of ISOTHERM_ALERTS, else the shipped one. It is told as if nobody had
    acknowledged anything, and to owners as they are now.

    Example: isotherm alerts preview --last 7d --rules alerts.yaml
    """
    from streams.alerting.preview import preview as look_back

    settings = read_settings()
    book, length = _rules(rules or settings.alerts), _duration(last)
    told = run(look_back(settings, book, length)).plain()
    if json_:
        print_json(told)
        return
    for each in told["messages"][-SHOWN:]:
        out.print(f"{_at(each['at'])}  {_to(each)}  {_kind(each)}{each['text']}", markup=False)
    if len(told["messages"]) > SHOWN:
        out.print(f"the newest {SHOWN} are shown; --json has all")
    for queue, count in told["recipients"].items():
        out.print(f"{count:>9,}  {queue.rstrip('/')}", markup=False)
    for why, count in told["not_told"].items():
        out.print(f"{count:>9,}  not told: {why.replace('_', ' ')}", markup=False)
    out.print(f"{_many(len(told['messages']), 'message')} of {_many(told['changes'], 'change')}, none sent")
    if told["oldest_change"] and told["oldest_change"] > told["since"]:
        err.print(
            f"the oldest change that Kafka has is of {_at(told['oldest_change'])}: of before, nothing is told"
        )


@app.command(name="list")
def list_alerts(*, all: bool = False, json_: Json = False) -> None:
    """List the alerts of accounts that are hot, the newest last. ALL lists those that are over, too.

    Example: isotherm alerts list
    """
    from streams.alerting.asking import alerts

    settings = read_settings()
    _rules(settings.alerts)
    found = run(alerts(settings, everything=all))
    if json_:
        print_json(found)
        return
    for each in found:
        out.print(_line(each), markup=False)
    out.print(_many(len(found), "alert"))


@app.command
def ack(account: str, *, by: str = "", json_: Json = False) -> None:
    """Say that somebody sees to an account: its alert does not escalate, and where it can its message says so.

    BY is who; it is your user on this machine unless given.

    Example: isotherm alerts ack salesforce:0015f00002JUZPDAA5 --by ann
    """
    from streams.alerting.asking import acknowledge

    settings = read_settings()
    _rules(settings.alerts)
    _told(run(acknowledge(settings, account, _who(by))), f"nothing of {account} is to be acknowledged", json_)


@app.command
def snooze(
    account: str, *, for_: Annotated[str, Parameter(name="--for")] = "3d", by: str = "", json_: Json = False
) -> None:
    """Leave an account alone FOR so long. If it is hot then, it is announced once more.

    Example: isotherm alerts snooze salesforce:0015f00002JUZPDAA5 --for 3d
    """
    from streams.alerting.asking import snooze as leave_alone

    settings = read_settings()
    _rules(settings.alerts)
    length = _duration(for_)
    _told(run(leave_alone(settings, account, _who(by), length)), f"{account} has no alert to snooze", json_)


@app.command(name="try")
def try_(channel: str, *, to: str = "", rules: Path | None = None) -> None:
    """Send one made-up alert through CHANNEL, to see that it arrives and how it looks. Nothing is kept of it.

    TO is the Slack user or channel, or the address, where the channel wants one. RULES is a file of alert rules,
    else that of ISOTHERM_ALERTS, else the shipped one, whose channel `default` is the webhook of
    ISOTHERM_ALERT_URL.

    Example: isotherm alerts try bot --to U024BE7LH --rules alerts.yaml
    """
    from rules.errors import did_you_mean
    from streams.alerting.trying import try_channel

    settings = read_settings()
    book = _rules(rules or settings.alerts)
    if channel not in book.channels:
        fail(f"there is no channel {channel!r} ({did_you_mean(channel, book.channels)})", 2)
    if needs := book.channels[channel].needs_to if not to else "":
        fail(f"channel {channel} wants {needs}: say --to", 2)
    refused = run(try_channel(settings, book, channel, to))
    if refused:
        fail(f"it did not arrive: {refused}", NO)
    out.print("it arrived")


@app.command
def listen(*, port: int = PORT, limit: int = 0) -> None:
    """Take alerts on this machine as Slack's webhook would, and print them. Stops after LIMIT alerts if given.

    Example: ISOTHERM_ALERT_URL=http://127.0.0.1:8099/alerts isotherm worker, beside isotherm alerts listen
    """
    import asyncio

    from streams.demo.receiver import Receiver

    async def take() -> None:
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        async with Receiver(arrived.put_nowait, port, PATH) as receiver:
            err.print(f"listening at {receiver.url}", markup=False)
            seen = 0
            while not limit or seen < limit:
                out.print((await arrived.get()).text, markup=False)
                seen += 1

    try:
        asyncio.run(take())
    except OSError as error:
        fail(f"cannot listen on port {port}: {error.strerror}", 2)


# -- what they share -------------------------------------------------------------------------------------------


def _rules(path: Path | str, segments: Any = None) -> Any:
    from rules.errors import RulesetError
    from streams.alerting.rulebook import read

    try:
        return read(path, segments)
    except RulesetError as error:
        for each in shown(error.problems):
            err.print(each, markup=False)
        fail(f"{len(error.problems)} problem(s) in the alert rules", NO)


def _known(directory: Path | None) -> dict[str, list[str]] | None:
    if directory is None:
        return None
    return {each.name: [segment.name for segment in each.segments] for each in load_or_exit(directory).dimensions}


def _duration(text: str) -> int:
    from rules.durations import parse

    try:
        return parse(text)
    except ValueError as error:
        fail(f"{text!r}: {error}", 2)


def _told(alerts: list[dict[str, Any]], nothing: str, json_: bool) -> None:
    if not alerts:
        fail(nothing, NO)
    if json_:
        print_json(alerts)
    else:
        for each in alerts:
            out.print(_line(each), markup=False)


def _line(alert: dict[str, Any]) -> str:
    who = f"{alert['name']} ({alert['account']})" if alert["name"] else alert["account"]
    why = f": {alert['reasons'][0]}" if alert["reasons"] else ""
    until = f" until {_at(alert['snoozed_until'])}" if alert["snoozed_until"] else ""
    by = f" by {alert['by']}" if alert["by"] else ""
    return f"{_at(alert['at'])}  {alert['phase']}{until}{by}  {_to(alert)}  {who} is {alert['segment']}{why}"


def _to(each: dict[str, Any]) -> str:
    return f"{each['channel']} {each['to']}".rstrip()


def _kind(each: dict[str, Any]) -> str:
    return "" if each["kind"] == "alert" else f"{each['kind']}: "


def _at(instant: str) -> str:
    return f"{datetime.fromisoformat(instant):%Y-%m-%d %H:%M}"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _who(by: str) -> str:
    name = by or os.environ.get("USER", "") or "somebody"
    return " ".join(name.split())[:100]

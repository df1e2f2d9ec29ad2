"""Deliveries to webhook endpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cyclopts import App

from rules.errors import did_you_mean
from streams.commands import SHIPPED
from streams.terminal import (
    NO,
    Json,
    err,
    fail,
    instant_or_exit,
    load_or_exit,
    out,
    print_json,
    read_or_exit,
    read_settings,
    run,
)

app = App(name="deliveries", help="What was delivered to webhook endpoints, what was not, and why.")


@app.command
def check(file: Path, *, rules: Path = SHIPPED, json_: Json = False) -> None:
    """Validate a file with endpoints: every mistake at once, each with its line and a hint.

    RULES is the directory with the rules whose dimensions, segments and facts it may name.

    Example: isotherm deliveries check webhooks.yaml
    """
    from streams.delivery.endpoints import Known, read

    ruleset = load_or_exit(rules)
    known = Known(
        {each.name: [segment.name for segment in each.segments] for each in ruleset.dimensions}, ruleset.facts
    )
    found = read_or_exit(lambda path: read(path, known), file)
    if json_:
        print_json({"endpoints": [{"name": each.name, "kind": each.kind} for each in found]})
    else:
        names = ", ".join(f"{each.name} ({each.kind})" for each in found)
        out.print(f"{len(found)} endpoint{'' if len(found) == 1 else 's'}: {names or 'none'}; no problems")


@app.command(name="list")
def list_deliveries(*, endpoint: str = "", failed: bool = False, limit: int = 50, json_: Json = False) -> None:
    """List deliveries: first those that wait for another attempt, the next one first, then the newest others.

    ENDPOINT leaves other endpoints out; FAILED what was delivered or superseded.

    Example: isotherm deliveries list --endpoint journeys --failed
    """
    from streams.delivery.looking import deliveries_table, listed

    found = run(listed(read_settings(), _names(endpoint), failed, max(1, limit)))
    if json_:
        print_json({"deliveries": found})
    elif found:
        out.print(deliveries_table(found))
    else:
        out.print("no deliveries")


@app.command
def show(id: str, *, endpoint: str = "", json_: Json = False) -> None:
    """Show what came of a change at each endpoint: each attempt, its status, how long it took, when the next is.

    Example: isotherm deliveries show 12.0.4711.0
    """
    from streams.delivery.looking import delivery_lines, shown

    found = run(shown(read_settings(), _names(endpoint), id))
    if not found:
        fail(f"nothing is known of a delivery of {id}: the newest are kept", NO)
    if json_:
        print_json({"deliveries": found})
        return
    for each in found:
        for line in delivery_lines(each):
            out.print(line, markup=False)


@app.command
def retry(*ids: str, endpoint: str = "", json_: Json = False) -> None:
    """Make deliveries again, at once and from the start of the schedule.

    Those that wait, were given up or were superseded; with ENDPOINT also what was delivered there.

    Example: isotherm deliveries retry 12.0.4711.0 --endpoint journeys
    """
    from streams.delivery.looking import retry as ask

    if not ids:
        fail("which deliveries? Name the ids of their changes", 2)
    asked, problems = run(ask(read_settings(), _names(endpoint), ids))
    if json_:
        print_json({"asked": asked, "problems": problems})
    else:
        for id, why in problems.items():
            err.print(f"{id}: {why}", markup=False)
        out.print(f"{asked} asked for")
    sys.exit(NO if problems else 0)


@app.command
def replay(*, endpoint: str, since: str, json_: Json = False) -> None:
    """Deliver to an endpoint once more all that it wants of what was published since an instant, in order.

    It gets the same ids again: a receiver that keeps ids drops what it has.

    Example: isotherm deliveries replay --endpoint journeys --since 2026-04-01T00:00:00Z
    """
    from streams.delivery.looking import replay as ask

    (name,) = _names(endpoint)
    offsets = run(ask(read_settings(), name, instant_or_exit(since)))
    if json_:
        print_json({"endpoint": name, "offsets": offsets})
    else:
        out.print(f"asked for: {name} reads {len(offsets)} partitions again from there", markup=False)


@app.command
def endpoints(*, json_: Json = False) -> None:
    """Show how each endpoint stands: whether it is well, fails or is disabled, and how many deliveries wait.

    Example: isotherm deliveries endpoints
    """
    from streams.delivery.looking import endpoints_table, standing

    told = run(standing(read_settings(), {each.name: each.kind for each in _endpoints()}))
    if json_:
        print_json({"endpoints": told})
    elif told:
        out.print(endpoints_table(told))
    else:
        out.print("no endpoints (ISOTHERM_WEBHOOKS)")


@app.command
def enable(name: str, *, json_: Json = False) -> None:
    """Deliver to an endpoint again that was disabled, from where it stopped. One that fails is tried at once.

    Example: isotherm deliveries enable journeys
    """
    from streams.delivery.looking import enable as ask

    (known,) = _names(name)
    was = run(ask(read_settings(), known))
    if json_:
        print_json({"endpoint": known, "was_disabled": was})
    else:
        out.print(f"{known} {'is enabled' if was else 'was not disabled; it is tried at once'}", markup=False)


def _endpoints() -> Any:
    from streams.delivery.endpoints import read

    return read_or_exit(read, read_settings().webhooks)


def _names(endpoint: str) -> list[str]:
    """The endpoint that is named, else all."""
    names = [each.name for each in _endpoints()]
    if endpoint and endpoint not in names:
        fail(f"there is no endpoint {endpoint!r} in ISOTHERM_WEBHOOKS ({did_you_mean(endpoint, names)})", 2)
    return [endpoint] if endpoint else names

"""Dead letters."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from cyclopts import App

from streams.terminal import (
    NO,
    Json,
    err,
    fail,
    instant_or_exit,
    out,
    print_json,
    read_settings,
    run,
)

app = App(name="dead-letters", help="What could not be used: look at it, and send it in again.")


@app.command(name="list")
def list_letters(
    *, reason: str = "", source: str = "", since: str | None = None, limit: int = 100, json_: Json = False
) -> None:
    """List the open dead letters, newest last, and how many there are of each reason.

    REASON, SOURCE (a topic) and SINCE (an instant) leave others out; LIMIT shows only so many, the newest.

    Example: isotherm dead-letters list --reason bad_time --since 2026-03-02T00:00:00Z
    """
    from streams.letters import letters_table

    found = _open_letters(reason, source, since)
    newest = found[-limit:] if limit > 0 else found
    reasons = dict(Counter(each.said("reason") for each in found).most_common())
    if json_:
        print_json({"open": len(found), "reasons": reasons, "letters": [each.plain() for each in newest]})
        return
    if newest:
        out.print(letters_table(newest))
    for name, count in reasons.items():
        out.print(f"{count:>9,}  {name}", markup=False)
    out.print(f"{len(found):,} open" + (f", the newest {len(newest):,} shown" if len(newest) < len(found) else ""))


@app.command
def show(key: str, *, raw: bool = False, json_: Json = False) -> None:
    """Show a dead letter: why it is one, its headers and its value. RAW writes the value's bytes and nothing else.

    Example: isotherm dead-letters show crm.updates/3/1042
    """
    from streams.letters import find, letter_lines

    found = run(find(read_settings(), key))
    if found is None:
        fail(f"no open dead letter {key}", NO)
    letter, value = found
    if raw:
        if sys.stdout.isatty():
            fail("raw bytes can do things to a terminal; send them to a file: --raw > letter", 2)
        sys.stdout.buffer.write(value)
    elif json_:
        headers = {name: said.decode(errors="backslashreplace") for name, said in letter.own_headers}
        print_json(letter.plain() | {"headers": headers, "value": value.decode(errors="backslashreplace")})
    else:
        for line in letter_lines(letter, value):
            out.print(line, markup=False)


@app.command(name="replay")
def replay_letters(
    *keys: str,
    reason: str = "",
    source: str = "",
    since: str | None = None,
    all: bool = False,
    dry_run: bool = False,
    json_: Json = False,
) -> None:
    """Send messages that became dead letters to their topics again, and settle the letters.

    KEYS names the letters, or REASON, SOURCE and SINCE choose them, or ALL means every open one. A message that
    cannot be used this time either is a dead letter again, under its new place.

    Example: isotherm dead-letters replay --reason unknown_format
    """
    from streams.letters import replay as replay_all
    from streams.letters import with_siblings

    if not (keys or reason or source or since or all):
        fail("which letters? Name their keys, or --reason, --source, --since, or --all", 2)
    everyone = _open_letters("", "", None)
    known = {each.key: each for each in everyone}
    if unknown := [key for key in keys if key not in known]:
        fail(f"no open dead letter {', '.join(unknown)}; nothing was replayed", NO)
    wanted = _wanted(reason, source, since)
    chosen = [each for each in everyone if wanted(each) and (not keys or each.key in keys)]
    stuck = [each for each in chosen if each.unreplayable]
    chosen = with_siblings([each for each in chosen if not each.unreplayable], everyone)
    for each in stuck:
        err.print(f"{each.key} is not replayed: {each.unreplayable}", markup=False)
    count = len(chosen) if dry_run else run(replay_all(read_settings(), chosen)) if chosen else 0
    if json_:
        told = {"replayed": count, "keys": [each.key for each in chosen], "not_replayed": [e.key for e in stuck]}
        print_json(told | {"dry_run": dry_run})
    else:
        out.print(f"{count:,} dead letter{'' if count == 1 else 's'} {'would be ' if dry_run else ''}replayed")
    sys.exit(NO if stuck else 0)


def _wanted(reason: str, source: str, since: str | None) -> Any:
    from streams.letters import Wanted

    return Wanted(reason, source, instant_or_exit(since) if since else 0)


def _open_letters(reason: str, source: str, since: str | None) -> Any:
    from streams.letters import open_letters

    wanted = _wanted(reason, source, since)
    return [each for each in run(open_letters(read_settings())) if wanted(each)]

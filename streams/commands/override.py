"""`isotherm override`: somebody knows better than the rules, until an instant."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from streams.terminal import NO, Json, fail, instant_or_exit, out, print_json, read_settings, run

if TYPE_CHECKING:
    from streams.overriding import Said

app = App(name="override", help="Say where an account stands, whatever its rules say, until an instant.")
Account = Annotated[str, Parameter(help="An account's id or its web domain.")]


@app.default
def override(
    account: Account,
    dimension: str,
    segment: str,
    *,
    why: str,
    until: str = "",
    for_: Annotated[str, Parameter(name="--for", help="How long it counts, such as 36h or 30d.")] = "",
    keep_out: Annotated[
        bool, Parameter(name="--out", negative="", help="Of a set: out of SEGMENT, not in.")
    ] = False,
    by: str = "",
    wait: float = 10.0,
    json_: Json = False,
) -> None:
    """Say where an account stands in a dimension: in SEGMENT, or with --out of a set not in it.

    It counts up to UNTIL or FOR so long, however the account behaves and whatever rules are deployed, and ends at
    that instant. WHY and BY (else the user of this process) are shown by `isotherm explain` and stand in the
    changes that follow. Said once more it takes the place of what was said before. Waits up to WAIT seconds for a
    worker.

    Example: isotherm override blueharbor.example engagement hot --for 30d --why "met them at the fair"
    """
    from rules import durations
    from streams.overriding import Wish
    from streams.overriding import override as say

    if bool(until) == bool(for_):
        fail("until when? Say one of --until and --for", 2)
    if not why.strip():
        fail("why? Say it with --why; it is what others will read", 2)
    try:
        lasting = durations.parse(for_) if for_ else 0
    except ValueError as error:
        fail(f"--for {for_}: {error}", 2)
    ends = instant_or_exit(until) if until else 0
    wish = Wish(account, dimension, segment, why.strip(), ends, lasting, by, keep_out)
    _tell(_asked(say(wish, read_settings(), wait)), json_)


@app.command
def clear(
    account: Account, dimension: str, segment: str = "", *, by: str = "", wait: float = 10.0, json_: Json = False
) -> None:
    """Leave an account to the rules again, in a dimension or (of a set) in SEGMENT alone.

    Example: isotherm override clear blueharbor.example engagement
    """
    from streams.overriding import clear as take_back

    _tell(_asked(take_back(account, dimension, segment, by, read_settings(), wait)), json_)


def _asked(work: Awaitable[Said]) -> Said:
    from streams.overriding import OverrideProblem

    try:
        return run(work)
    except OverrideProblem as error:
        fail(str(error), 2 if error.misused else NO)


def _tell(said: Said, json_: bool) -> None:
    told = said.plain()
    if json_:
        print_json(told)
    elif said.now is not None:
        until = f" until {told['until'][:19].replace('T', ' ')} UTC" if told["until"] else ""
        rules = "" if told["rules_say"] == told["stands"] else f"; the rules say {_words(told['rules_say'])}"
        out.print(f"{said.account}: {said.dimension} {_words(told['stands'])}{until}{rules}", markup=False)
    if said.now is None:
        fail("asked for; no worker has come to it yet (do workers run?)", NO)


def _words(answer: str | list[str] | None) -> str:
    return ", ".join(answer) or "none" if isinstance(answer, list) else answer or "none"

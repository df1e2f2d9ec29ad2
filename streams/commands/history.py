"""`isotherm members`: who is, or was, in a segment."""

from __future__ import annotations

from streams.terminal import NO, Json, err, fail, instant_or_exit, out, print_json, read_settings, run


def members(segment: str, *, at: str | None = None, json_: Json = False) -> None:
    """List the accounts in a segment, now or at an instant of the past.

    SEGMENT is a dimension and its segment, such as engagement/hot. AT is answered from the account log, as far
    back as it goes; without it the answer is that of Redis.

    Example: isotherm members engagement/hot --at 2026-03-02T09:00:00Z
    """
    from streams.commands.plan import bar
    from streams.history import HistoryProblem, members_at, members_now
    from streams.refolding import LogProblem

    dimension, _, name = segment.partition("/")
    if not dimension or not name:
        fail(f"{segment!r} is no segment; write one like engagement/hot", 2)
    instant, settings = instant_or_exit(at) if at else 0, read_settings()
    try:
        if at:
            with bar("folding the log", quiet=json_) as progress:
                found = run(members_at(dimension, name, instant, settings, progress))
        else:
            found = run(members_now(dimension, name, settings))
    except (HistoryProblem, LogProblem) as error:
        fail(str(error), NO)
    if json_:
        print_json(found.plain())
        return
    for each in found.members:
        out.print(f"{each.account}\t{each.name}\t{each.since}", markup=False)
    told = found.plain()
    err.print(f"{told['count']:,} in {told['segment']} at {told['at']}", markup=False)

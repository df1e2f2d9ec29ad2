"""What the demo saw, told when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from streams.demo.ledger import ENGAGEMENT, Ledger, percentile
from streams.show import COLOURS

SHOWN = 6  # segments of a dimension


def summary(ledger: Ledger, seconds: float, log: Path) -> Iterator[str]:
    """A line each; the figures are those this run measured."""
    yield (
        f"{seconds:.0f} s of traffic: {ledger.messages:,} messages in, {ledger.folded:,} records folded "
        f"({ledger.ticks:,} of them ticks), {ledger.changes:,} changes out."
    )
    held = {dimension: counts for dimension, counts in ledger.counts.items() if any(counts.values())}
    width = max(map(len, held), default=0)
    for dimension, counts in held.items():
        order = list(COLOURS) if dimension == ENGAGEMENT else None
        yield f"  {dimension:<{width}}  {standing(counts, order)}"
    yield from _hot(ledger)
    yield from _latency(ledger)
    letters = ", ".join(f"{n} {reason}" for reason, n in ledger.letters.most_common())
    yield f"{ledger.alerts} alerts arrived at the webhook. Dead letters: {letters or 'none'}."
    yield f"The worker's log is {log}."


def standing(counts: dict[str, int], order: list[str] | None = None) -> str:
    """`hot 85, warm 108`: in `order`, else the biggest first and the rest together."""
    if order is not None:
        return ", ".join(f"{name} {counts[name]}" for name in order if counts.get(name))
    ranked = sorted(((n, name) for name, n in counts.items() if n), reverse=True)
    shown = [f"{name} {n}" for n, name in ranked[:SHOWN]]
    rest = sum(n for n, _ in ranked[SHOWN:])
    return ", ".join([*shown, f"{len(ranked) - SHOWN} others {rest}"] if rest else shown)


def _hot(ledger: Ledger) -> Iterator[str]:
    early, live = ledger.moved("into", loading=True), ledger.moved("into", loading=False)
    yield f"Into hot: {early} while the past was loaded, {live} while you watched."
    causes = {cause for way, cause, _ in ledger.moves if way == "out of"}
    out = ", ".join(f"{ledger.moved('out of', cause)} by {cause}" for cause in sorted(causes, reverse=True))
    yield f"Out of hot: {out or 'none'}."


def _latency(ledger: Ledger) -> Iterator[str]:
    if ledger.cooled:
        median, slowest = percentile(ledger.cooled, 0.5), max(ledger.cooled)
        yield (
            f"{len(ledger.cooled)} cooled by time alone; the change was readable "
            f"{median} ms after its instant (median; slowest {slowest} ms)."
        )
    samples = ledger.latency.samples
    if samples:
        yield (
            f"From sending an event to reading its change: {percentile(samples, 0.5)} ms (p50), "
            f"{percentile(samples, 0.99)} ms (p99), over {len(samples)} live changes."
        )

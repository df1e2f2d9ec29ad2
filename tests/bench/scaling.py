"""How the cost of an event grows with rules that it does not touch: 1,000 rules against 50, by CPU time.

Ladders of ten rungs each ask about an activity of their own, so an event touches ten rules however many there are.
What is measured is what a worker does for each batch of 2,000 events apart from Kafka and Redis: unpack the states
of its accounts, fold, pack them again. The two rulesets take turns, round after round.

    python tests/bench/scaling.py [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from statistics import median

from reporting import Table, spread
from rich.console import Console

from rules.compiler import compile_files
from rules.fold import Partition, accounts_of, fold
from rules.records import Activity
from rules.ruleset import InForce, Ruleset
from streams.store.base import pack_state, unpack_state

ACCOUNTS, EVENTS, BATCH, RUNGS = 10_000, 40_000, 2_000, 10
START, STEP = 1_772_409_600_000, 250  # ms
GOAL = 1.5


def ruleset(rules: int) -> Ruleset:
    ladders = rules // RUNGS
    text = "activities: {" + ", ".join(f"a{i}: {{}}" for i in range(ladders)) + "}\n"
    for i in range(ladders):
        rungs = "".join(
            f"  - {{segment: s{k}, when: {{count: a{i}, at_least: {k}, within: 7d}}}}\n"
            for k in range(RUNGS, 0, -1)
        )
        text += f"---\ndimension: d{i}\nsegments:\n{rungs}"
    return compile_files({"rules.yaml": text})


class Worker:
    """One partition under one ruleset, its states packed as Redis keeps them."""

    def __init__(self, rules: int) -> None:
        self.rules, self.activities = InForce().switch(ruleset(rules), -1, 0), rules // RUNGS
        self.partition = Partition(0, introduced=self.rules.introduced)
        self.kept: dict[str, bytes] = {}
        self.random = random.Random(7)

    def run(self, events: int) -> float:
        """Folds so many events; the CPU seconds it took."""
        batches = [self._batch(self.partition.offset + n) for n in range(0, events, BATCH)]
        began = time.process_time()
        for batch in batches:
            names = accounts_of(batch)
            states = {name: unpack_state(self.kept[name]) for name in names if name in self.kept}
            folded = fold(self.partition, self.rules, batch, states, compile_files)
            self.kept.update((account, pack_state(state)) for account, state in folded.states.items())
            self.partition = folded.partition
        return time.process_time() - began

    def _batch(self, first: int) -> list[Activity]:
        choose = self.random
        return [
            Activity(
                account=f"account-{choose.randrange(ACCOUNTS)}",
                name=f"a{choose.randrange(self.activities)}",
                at=START + offset * STEP,
                received=START + offset * STEP,
                offset=offset,
            )
            for offset in range(first, first + BATCH)
        ]


def measure(rounds: int) -> dict[int, list[float]]:
    """Microseconds an event, by number of rules, round after round."""
    workers = {rules: Worker(rules) for rules in (50, 1_000)}
    for worker in workers.values():
        worker.run(3 * ACCOUNTS)  # every account has had its first look
    taken: dict[int, list[float]] = {rules: [] for rules in workers}
    for _ in range(rounds):
        for rules, worker in workers.items():
            taken[rules].append(worker.run(EVENTS) / EVENTS * 1e6)
    return taken


def table(taken: dict[int, list[float]]) -> Table:
    made = Table("An event that touches ten rules, by how many there are", ["rules", "CPU µs an event", "goal"])
    ratio = median(taken[1_000]) / median(taken[50])
    made.rows += [[f"{rules:,}", spread(each, 1), ""] for rules, each in taken.items()]
    made.rows.append(["1,000 against 50", f"{ratio:.2f}×", f"{GOAL}×" + ("" if ratio <= GOAL else ", missed")])
    made.notes.append(f"{ACCOUNTS:,} accounts, batches of {BATCH:,}: unpack, fold, pack; no Kafka, no Redis")
    return made


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--json", action="store_true")
    given = asked.parse_args()
    taken = measure(given.rounds)
    if given.json:
        json.dump({"us_per_event": taken, "goal": GOAL}, sys.stdout)
    else:
        table(taken).show(Console())


if __name__ == "__main__":
    main()

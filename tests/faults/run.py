"""The fault matrix on real servers: python tests/faults/run.py [--only 1-9,14] [--soak 60] [pytest's]

Three brokers of Apache Kafka are started once, a Redis pair for each fault. Rows go to .isotherm/faults.json and
as a table, to .isotherm/faults.md. The status is pytest's, or 75 when Apache Kafka cannot be had here; with
ISOTHERM_KAFKA_OPTIONAL=1 that passes instead, as loudly.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kafka")]  # its run.py looks for broker.py beside itself

from tests.kafka.run import Unobtainable, obtain, say, without  # noqa: E402

ROWS = ROOT / ".isotherm" / "faults.json"
COLUMNS = {
    "fault": "fault",
    "where": "where, or how",
    "events": "events",
    "changes": "changes",
    "told_again": "told again",
    "recovery_s": "drained after, s",
    "broken": "invariants broken",
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="faults by number: 1-9,14")
    parser.add_argument("--seconds-of-outage", type=float, default=20.0)
    parser.add_argument("--soak", type=float, default=0.0, help="instead: faults at random for so many minutes")
    asked, further = parser.parse_known_args(arguments)
    try:
        obtain()
    except Unobtainable as error:
        return without(error)
    only = numbers(asked.only)
    if not (only or asked.soak):
        ROWS.unlink(missing_ok=True)  # else rows take the place of those of an earlier run
    what = f"Faults at random for {asked.soak:g} minutes" if asked.soak else f"Faults {asked.only or 'all'}"
    say(f"{what}, on three brokers of Apache Kafka and a Valkey pair")
    given = {
        "ISOTHERM_FAULTS_ONLY": ",".join(map(str, only)),
        "ISOTHERM_FAULTS_OUTAGE_S": str(asked.seconds_of_outage),
        "ISOTHERM_FAULTS_ROWS": str(ROWS),
        "ISOTHERM_SOAK_MINUTES": str(asked.soak),
    }
    marked = "soak" if asked.soak else "faults"
    command = [sys.executable, "-m", "pytest", "-s", "-m", marked, "tests/faults", *further]
    status = subprocess.run(command, cwd=ROOT, env=os.environ | given, check=False).returncode
    if ROWS.exists():
        table = markdown(json.loads(ROWS.read_text()))
        ROWS.with_suffix(".md").write_text(table)
        say(f"{table}\nIn {ROWS.with_suffix('.md')}")
    return status


def numbers(text: str) -> list[int]:
    """`1-3,14` is 1, 2, 3 and 14."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def markdown(rows: list[dict[str, object]]) -> str:
    lines = [" | ".join(COLUMNS.values()), " | ".join("---" for _ in COLUMNS)]
    lines += [" | ".join(cell(row, name) for name in COLUMNS) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def cell(row: dict[str, object], name: str) -> str:
    if name == "broken":
        broken = row[name]
        return str(broken) if not isinstance(broken, dict) else ", ".join(sorted(broken)) or "0"
    return str(row[name])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

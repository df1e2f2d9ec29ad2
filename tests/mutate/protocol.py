"""`make mutate-protocol`: take away one protection of the protocol at a time, and see that a test notices.

Each mutant is a small edit of a copy of the tree; the tests named with it run there, until one fails. The table
that is printed stands in docs/reliability.md. Ends with 1 if a mutant survives, or if what it would edit is gone.

    python tests/mutate/protocol.py [NAME …]       those whose name has one of these words
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("rules", "streams", "tests", "pyproject.toml", "README.md")
SCHEDULES = os.environ.get("SCHEDULES", "1000")
SIMULATOR = "tests/simulate"
CRASH = "tests/crash/test_crash.py"
CONTRACT = "tests/contract/test_store.py"
GONE_BACK = "tests/crash/test_gone_back.py"
LOG = "tests/crash/test_log.py"


@dataclass(frozen=True)
class Mutant:
    """`was` stands exactly once in `file`. The tests are tried in order."""

    name: str
    file: str
    was: str
    becomes: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "token, in memory",
        "streams/store/memory.py",
        "if self.token and self.token != at.token:",
        "if False:",
        (SIMULATOR, CONTRACT),
    ),
    Mutant(
        "token, in the script",
        "streams/store/commit.lua",
        "if meta[1] and meta[1] ~= ARGV[1] then return {'FENCED', ''} end",
        "",
        (CONTRACT,),
    ),
    Mutant(
        "a takeover fences",
        "streams/store/memory.py",
        "kept.token = new_token()",
        "kept.token = kept.token or new_token()",
        (SIMULATOR, CONTRACT),
    ),
    Mutant(
        "a takeover fences, in Redis",
        "streams/store/redis.py",
        "keys, token = self._keys[partition], new_token()",
        'keys, token = self._keys[partition], "always"',
        (CONTRACT,),
    ),
    Mutant(
        "expected offset, in memory",
        "streams/store/memory.py",
        "if not self.token or self.partition.offset != at.offset:",
        "if not self.token:",
        (SIMULATOR, CONTRACT),
    ),
    Mutant(
        "expected offset, in the script",
        "streams/store/commit.lua",
        "if not meta[1] or (meta[3] or '0') ~= ARGV[2] then",
        "if not meta[1] then",
        (CONTRACT,),
    ),
    Mutant(
        "reads where the partition stands, in memory",
        "streams/store/memory.py",
        "if at is not None and (refused := kept.refuses(at)) is not None:",
        "if at is not None and (refused := None) is not None:",
        (SIMULATOR, CONTRACT),
    ),
    Mutant(
        "reads where the partition stands, in the script",
        "streams/store/read.lua",
        "if not meta[1] or (meta[2] or '0') ~= ARGV[2] then return {'MOVED', meta[2] or '0'} end",
        "",
        (CONTRACT,),
    ),
    Mutant(
        "reads as its owner, in the script",
        "streams/store/read.lua",
        "if meta[1] and meta[1] ~= ARGV[1] then return {'FENCED', ''} end",
        "",
        (CONTRACT,),
    ),
    Mutant(
        "batch id, in memory",
        "streams/store/memory.py",
        "if kept.token == commit.token and kept.batch == commit.batch:",
        "if False:",
        (CONTRACT,),
    ),
    Mutant(
        "batch id, in the script",
        "streams/store/commit.lua",
        "if meta[2] == ARGV[3] then return {'REPEATED', earliest()} end",
        "",
        (CONTRACT,),
    ),
    Mutant(
        "one write: the position goes with the states",
        "streams/store/memory.py",
        "kept.batch, kept.partition = commit.batch, commit.partition",
        "kept.batch = commit.batch; kept.partition = commit.partition if commit.outbox else kept.partition",
        (SIMULATOR, CONTRACT),
    ),
    Mutant(
        "tick rule: who is due fires at a tick",
        "rules/fold.py",
        "fired, n = self._fire(due, tick.offset, ACCOUNTS_PER_TICK)",
        "fired, n = self._fire((), tick.offset, ACCOUNTS_PER_TICK)",
        (SIMULATOR, CRASH),
    ),
    Mutant(
        "tick rule: time passes before a record is applied",
        "rules/engine.py",
        "    _catch_up(work, log_time)\n    if visitor:\n        state.wake",
        "    if visitor:\n        state.wake",
        (SIMULATOR, CRASH),
    ),
    Mutant(
        "tick rule: the owner appends one when somebody is due",
        "streams/fold.py",
        "(p == turn or held.owned.next_wake <= now)",
        "p == turn",
        (SIMULATOR,),
    ),
    Mutant(
        "log_time never goes back",
        "rules/fold.py",
        "work.log_time = max(work.log_time, record.received)",
        "work.log_time = record.received",
        (SIMULATOR,),
    ),
    Mutant(
        "duplicates by position",
        "rules/fold.py",
        "if position <= self.high.get(place, (-1, -1)):",
        "if False:",
        (SIMULATOR, CRASH),
    ),
    Mutant(
        "duplicates by event id",
        "rules/engine.py",
        "if record.id and not is_new(state, record.id):",
        "if False:",
        (SIMULATOR, CRASH),
    ),
    Mutant(
        "what one account sends another has a position",
        "rules/fold.py",
        'record.via = (f"account.log/{folded.partition.number}", offset, index)',
        "record.via = None",
        (SIMULATOR,),
    ),
    Mutant(
        "publish, then trim",
        "streams/publisher.py",
        "answers = await self._producer.send(messages, self._clock.now(), partition)",
        "await self._store.trim(partition, entries[-1].id)\n"
        "            answers = await self._producer.send(messages, self._clock.now(), partition)",
        (SIMULATOR, CRASH),
    ),
    Mutant(
        "who takes over publishes what is left",
        "streams/fold.py",
        "self._publisher.committed(number, 0, owned.token)",
        "pass",
        (SIMULATOR,),
    ),
    Mutant(
        "what was committed under an older token is published under the newer",
        "streams/fold.py",
        " and self._held.get(partition, held) is held:",
        ":",
        (SIMULATOR,),
    ),
    Mutant(
        "who takes over from itself publishes what it held in its hand",
        "streams/publisher.py",
        "if self._tokens.get(partition) != token:  # taken over meanwhile",
        "if False:  # taken over meanwhile",
        (SIMULATOR,),
    ),
    Mutant(
        "old words behind our own are found",
        "streams/words.py",
        "if written is not None and end > written.behind:",
        "if False:",
        (SIMULATOR,),
    ),
    Mutant(
        "old words are looked for by the next owner too",
        "streams/words.py",
        "if behind >= 0:",
        "if False:",
        (SIMULATOR,),
    ),
    Mutant(
        "Redis gone back is noticed",
        "streams/fold.py",
        "if told is None or (told.epoch <= partition.epoch and told.offset < partition.offset):",
        "if True:",
        (SIMULATOR, GONE_BACK),
    ),
    Mutant(
        "mute while folding once more",
        "streams/pipeline.py",
        "if Place(each.epoch, each.offset, each.n) > refolding.told",
        "if True",
        (SIMULATOR, GONE_BACK),
    ),
    Mutant(
        "an epoch ends folding once more",
        "streams/fold.py",
        "return refolding is not None and partition.offset > max(refolding.told.offset, self.epoch_at)",
        "return False",
        (SIMULATOR, GONE_BACK),
    ),
    Mutant(
        "an epoch comes after all epochs that were told",
        "streams/fold.py",
        "number, since = max(owned.epoch, refolding.told.epoch) + 1, min(since, refolding.since)",
        "number, since = 0, min(since, refolding.since)",
        (SIMULATOR, GONE_BACK),
    ),
    Mutant(
        "in a new epoch accounts tell where they stand",
        "rules/fold.py",
        "n = self._tell_again(account, tick.offset, n)",
        "pass",
        (SIMULATOR, GONE_BACK),
    ),
    Mutant(
        "an emptied Redis takes no commit",
        "streams/store/memory.py",
        "if not self.token or self.partition.offset != at.offset:",
        "if self.partition.offset != at.offset:",
        (SIMULATOR, CONTRACT),
    ),
    Mutant(
        "a gap in the log stops the partition",
        "streams/pipeline.py",
        "if message.offset != offset + len(fresh):",
        "if False:",
        (LOG, SIMULATOR),
    ),
    Mutant(
        "fingerprint of the last record",
        "streams/pipeline.py",
        "if message.offset == offset - 1 and owned.partition.last not in (0, looks_like(message)):",
        "if False:",
        (LOG,),
    ),
    Mutant(
        "messages that were fetched for an earlier ownership are not folded",
        "streams/fold.py",
        "if held is not None and before.get(tp.partition) is not held:",
        "if False:",
        (SIMULATOR, LOG),
    ),
)


def main(words: Sequence[str]) -> int:
    wanted = [each for each in MUTANTS if not words or any(word in each.name for word in words)]
    rows = []
    for mutant in wanted:
        began = time.monotonic()
        red = tried(mutant)
        rows.append(f"| {mutant.name} | `{mutant.file}` | {red or '**none**'} |")
        print(
            f"{time.monotonic() - began:5.0f} s  {mutant.name}: {red or 'SURVIVED'}", file=sys.stderr, flush=True
        )
        if not red:
            print(f"  - {mutant.was}\n  + {mutant.becomes}", file=sys.stderr)
    survived = sum("**none**" in row for row in rows)
    print("| taken away | in | turns red |\n| --- | --- | --- |", *rows, sep="\n")
    print(f"\n{len(rows)} mutants, {survived} survived", file=sys.stderr)
    return 1 if survived else 0


def tried(mutant: Mutant) -> str:
    """The test that noticed; "" if none did."""
    with tempfile.TemporaryDirectory(prefix="isotherm-mutant-") as directory:
        tree = Path(directory)
        for each in COPIED:
            whole = ROOT / each
            if whole.is_dir():
                shutil.copytree(whole, tree / each, ignore=shutil.ignore_patterns("__pycache__", "jars"))
            else:
                shutil.copy(whole, tree / each)
        file = tree / mutant.file
        text = file.read_text()
        if text.count(mutant.was) != 1:
            raise SystemExit(
                f"{mutant.name}: this stands {text.count(mutant.was)} times in {mutant.file}, not once:"
                f"\n{mutant.was}"
            )
        file.write_text(text.replace(mutant.was, mutant.becomes))
        return next((red for tests in mutant.tests if (red := failing(tree, tests))), "")


def failing(tree: Path, tests: str) -> str:
    """The first of `tests` that fails in the tree; "" when none does."""
    given = {"PYTHONPATH": str(tree), "ISOTHERM_SCHEDULES": SCHEDULES, "ISOTHERM_SHRINK": "0"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-rfE", tests]
    command += ["--hypothesis-seed=1"]
    done = subprocess.run(command, cwd=tree, env=os.environ | given, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or found is None:
        raise SystemExit(f"{tests} could not be run:\n{done.stdout}{done.stderr}")
    return f"`{found[1].partition('[')[0].removeprefix('tests/')}`"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`make mutate`: change the core one operator at a time, and see that a test notices each change.

Runs mutmut on the files named in `[tool.mutmut]`, then judges what it left in `mutants/`. A mutant counts as
killed when a test failed or did not end in time. One that no test could tell from the original stands in
`excused.toml`, by the line that is changed and not by mutmut's number, with the reason; an excuse that fits no
surviving mutant is an error too. What is decorated mutmut passes over: here `person_tag` and `Rule.dwells`.

    python tests/mutate/run.py            everything anew
    python tests/mutate/run.py --judge    judge the last run again
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutmut.__main__ import get_diff_for_mutant, orig_function_and_class_names_from_key, status_by_exit_code

ROOT = Path(__file__).parents[2]
MUTANTS = Path("mutants")  # mutmut's own, below ROOT
EXCUSED = Path(__file__).parent / "excused.toml"
CHILDREN = 2
KILLED_AT_LEAST = 95.0  # percent of all mutants
EXCUSED_AT_MOST = 3.0
KILLED, TIMEOUT, ALIVE, EXCUSABLE = "killed", "timeout", "survived", "excused"


@dataclass(frozen=True)
class Change:
    """What tells a mutant apart: its function, and the lines before and after, without indentation."""

    function: str
    was: str
    becomes: str


@dataclass
class Mutant:
    file: str
    name: str
    status: str  # as mutmut has it, or `excused`

    @property
    def function(self) -> str:
        function, owner = orig_function_and_class_names_from_key(self.name)
        return ".".join(each for each in (Path(self.file).stem, owner, function) if each)

    @property
    def change(self) -> Change:
        lines = get_diff_for_mutant(self.name, path=self.file).splitlines()[2:]  # the first two name the file
        was, becomes = ("\n".join(line[1:].strip() for line in lines if line[:1] == sign) for sign in "-+")
        return Change(self.function, was, becomes)


def main(arguments: Sequence[str]) -> int:
    began = time.monotonic()
    if "--judge" not in arguments and not _run():
        return 1
    mutants = list(_mutants())
    idle = _excuse(mutants)
    for mutant in mutants:
        if mutant.status not in (KILLED, TIMEOUT, EXCUSABLE):
            _show(mutant)
    for change in idle:
        print(f"\nexcused, but no such mutant survived: {change.function}\n- {change.was}\n+ {change.becomes}")
    wrong = [*_table(mutants), *([f"{len(idle)} excuses that nothing needs"] if idle else [])]
    print(f"{len(mutants)} mutants, {(time.monotonic() - began) / 60:.1f} minutes", *wrong, sep="\n")
    return 1 if wrong else 0


def _run() -> bool:
    """Everything anew: what mutmut remembers of an earlier run knows nothing of changed tests."""
    shutil.rmtree(MUTANTS, ignore_errors=True)
    mutmut = Path(sys.executable).with_name("mutmut")
    command = [str(mutmut), "run", "--max-children", str(CHILDREN)]
    done = subprocess.run(command, check=False, capture_output=not sys.stdout.isatty(), text=True)
    if done.returncode:
        print(done.stdout or "", done.stderr or "", f"mutmut ended with {done.returncode}", sep="\n")
    return done.returncode == 0


def _mutants() -> Iterable[Mutant]:
    for meta in sorted(MUTANTS.glob("rules/*.py.meta")):
        file = str(meta.relative_to(MUTANTS)).removesuffix(".meta")
        for name, code in json.loads(meta.read_text())["exit_code_by_key"].items():
            yield Mutant(file, name, status_by_exit_code[code])


def _excuse(mutants: Iterable[Mutant]) -> list[Change]:
    """Marks the mutants that are excused; the excuses that nothing needs."""
    listed = tomllib.loads(EXCUSED.read_text())["excused"]
    excuses = {Change(each["function"], each["was"], each["becomes"]): each["reason"] for each in listed}
    used = set()
    for mutant in mutants:
        if mutant.status == ALIVE and (change := mutant.change) in excuses:
            mutant.status = EXCUSABLE
            used.add(change)
    return [change for change in excuses if change not in used]


def _show(mutant: Mutant) -> None:
    print(f"\n{mutant.status}: {mutant.function} ({mutant.name})")
    print(get_diff_for_mutant(mutant.name, path=mutant.file))


def _table(mutants: Sequence[Mutant]) -> list[str]:
    """Prints how many of each file's mutants came to what end; what of it is not good enough."""
    print(f"\n{'':24}{'mutants':>9}{'killed':>9}{'timeout':>9}{'excused':>9}{'survived':>9}{'killed':>9}")
    for file in [*dict.fromkeys(mutant.file for mutant in mutants), ""]:
        ends = Counter(mutant.status for mutant in mutants if file in (mutant.file, ""))
        noticed, excused, all_ = ends[KILLED] + ends[TIMEOUT], ends[EXCUSABLE], ends.total()
        alive = all_ - noticed - excused
        share = 100 * noticed / max(all_, 1)
        row = "".join(f"{each:9}" for each in (all_, ends[KILLED], ends[TIMEOUT], excused, alive))
        print(f"{file or 'all':24}{row}{share:8.1f}%")
    wrong = []
    if share < KILLED_AT_LEAST:
        wrong.append(f"killed are {share:.1f} %, and {KILLED_AT_LEAST} % is the least")
    if (excuses := 100 * excused / max(all_, 1)) > EXCUSED_AT_MOST:
        wrong.append(f"excused are {excuses:.1f} %, and {EXCUSED_AT_MOST} % is the most")
    if not_checked := ends["not checked"] + ends["check was interrupted by user"]:
        wrong.append(f"{not_checked} mutants were not tried")
    return wrong


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))

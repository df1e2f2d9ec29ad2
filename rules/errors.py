"""What can be wrong with a ruleset.

RulesetError            one load, all its problems, or the first hundred
└── Problem             one mistake: place, message, hint
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

MOST = 100  # problems: who has so many is helped more by mending these first
LONGEST = 500  # characters of a message, and of a hint
COMPARED = 1000  # names that a word is compared with; a longer list is not searched for a suggestion
NAME_LONGEST = 64


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a rule file. `line` counts from 1; 0 means the file as a whole."""

    file: str
    line: int
    message: str
    hint: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", _fit_to_print(self.message))
        object.__setattr__(self, "hint", _fit_to_print(self.hint))

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


def _fit_to_print(text: str) -> str:
    """Short, in one line and without what moves a cursor: it quotes what somebody wrote."""
    short = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 4 :]}"
    return short if short.isprintable() else "".join(each if each.isprintable() else "�" for each in short)


class RulesetError(Exception):
    """A ruleset that cannot be loaded, with every problem found in it; reading stops at so many."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(map(str, self.problems)))


def enough(problems: Iterable[Problem], last: Problem) -> RulesetError:
    """What to raise once there are so many problems that finding more would help nobody."""
    told = f"more than {MOST} problems: what comes after these was not looked at"
    return RulesetError([*problems, Problem(last.file, last.line, told)])


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'page_viewed'?`, or what there is to choose from when nothing is close."""
    names = sorted(set(known))
    close = _closest(word, names) if len(word) <= NAME_LONGEST and len(names) <= COMPARED else None
    if close:
        return f"did you mean '{close}'?"
    return f"known: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}" if names else ""


def _closest(word: str, names: list[str]) -> str | None:
    """difflib's closest match, asked only of names that are long enough and share enough letters to be one."""
    letters, size = set(word), len(word)
    likely = [
        name
        for name in names
        if 3 * size <= 7 * len(name) <= 17 * size and len(letters.intersection(name)) * 2 > len(letters)
    ]
    return next(iter(difflib.get_close_matches(word, likely, n=1, cutoff=0.6)), None)

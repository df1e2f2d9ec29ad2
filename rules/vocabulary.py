"""Spellings to terms: what a source wrote, as the one word that rules know.

Two spellings are the same after casefold, with `&` read as `and` and every run of space and punctuation as one
space. A vocabulary that is `fuzzy` also reads a spelling that it does not know as the nearest one that it does:
two texts are as alike as the share of three-letter pieces that they have in common (Dice's coefficient, 0 to 1).
That is done once, when a value is folded; rules only ever compare terms.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal

REMEMBERED = 4096
FUZZY_SHORTEST = 5  # letters: shorter ones are too often one letter away from something else


@lru_cache(65536)
def spelling(text: object) -> str:
    """What two spellings of one term have in common: letters and digits, case and punctuation aside."""
    return re.sub(r"[\W_]+", " ", str(text).casefold().replace("&", " and ")).strip()


@dataclass(eq=False)
class Meanings:
    """A vocabulary as it is asked. `spelled` maps a spelling to its term, in the order of the file."""

    spelled: dict[str, str]
    match: Literal["exact", "words", "prefix"] = "exact"
    fuzzy: float | None = None
    of: Meanings | None = None
    _known: dict[str, str | None] = field(default_factory=dict)

    def term(self, value: object) -> str | None:
        """The term that `value` surely means; None when no spelling is there."""
        if not isinstance(value, str):
            return None
        if value in self._known:
            return self._known[value]
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        found = self._known[value] = self._look_up(value)
        return found

    def _look_up(self, text: str) -> str | None:
        spelled = _LOOK_UP[self.match]
        found = spelled(self, spelling(text))
        if found is None and self.of is not None and (inner := self.of.term(text)) is not None:
            return spelled(self, spelling(inner))
        return found

    def nearest(self, value: object) -> tuple[str, float] | None:
        """The term of the spelling most like a text that no spelling is, and how alike they are."""
        if self.fuzzy is None or not isinstance(value, str) or self.term(value) is not None:
            return None
        text = spelling(value)
        if len(text) < FUZZY_SHORTEST:
            return None
        pieces = _pieces(text)
        common = Counter(known for piece in pieces for known in self._by_piece.get(piece, ()))
        alike = ((2 * n / (len(pieces) + len(_pieces(known))), known) for known, n in common.items())
        likeness, known = max(alike, default=(0.0, ""))
        term = self.term(known)
        return (term, round(likeness, 3)) if term is not None and likeness >= self.fuzzy else None

    @cached_property
    def _by_piece(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = {}
        for known in {**self.spelled, **(self.of.spelled if self.of else {})}:
            for piece in _pieces(known):
                index.setdefault(piece, []).append(known)
        return index

    @cached_property
    def _by_first_word(self) -> dict[str, list[list[str]]]:
        """Word sequences by their first word, those of most words first, in the order of the file otherwise."""
        index: dict[str, list[list[str]]] = {}
        for known in sorted(self.spelled, key=lambda known: -len(known.split())):
            index.setdefault(known.split()[0], []).append(known.split())
        return index

    @cached_property
    def _codes(self) -> dict[str, str]:
        """Codes by how they are compared: `52-21` begins `522110` too."""
        return {known.replace(" ", ""): term for known, term in self.spelled.items()}

    def _exact(self, text: str) -> str | None:
        return self.spelled.get(text)

    def _words(self, text: str) -> str | None:
        words = text.split()
        found = [
            sequence
            for i, word in enumerate(words)
            for sequence in self._by_first_word.get(word, ())
            if words[i : i + len(sequence)] == sequence
        ]
        if not found:
            return None
        order = {known: i for i, known in enumerate(self.spelled)}
        longest = min(found, key=lambda sequence: (-len(sequence), order[" ".join(sequence)]))
        return self.spelled[" ".join(longest)]

    def _prefix(self, text: str) -> str | None:
        code, codes = text.replace(" ", ""), self._codes
        return next((codes[code[:n]] for n in range(len(code), 0, -1) if code[:n] in codes), None)


_LOOK_UP = {"exact": Meanings._exact, "words": Meanings._words, "prefix": Meanings._prefix}


@lru_cache(16384)
def _pieces(text: str) -> frozenset[str]:
    padded = f"  {text} "
    return frozenset(padded[i : i + 3] for i in range(len(padded) - 2))

"""The scores that a ruleset declares, by name, and what each is for an account at an instant.

Accounts keep a score under what it folds, not under its name (see `growing.identity`); here the name leads there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from rules import model, yamlfile
from rules.conditions import Condition
from rules.names import Names, Place
from rules.ruleset import Ruleset
from rules.state import AccountState
from rules.translating import Translator
from rules.yamlfile import Document


@dataclass(frozen=True, slots=True)
class Score:
    """`label` is for people. What accounts keep of it is in force only while some rule asks for it."""

    name: str
    label: str
    _condition: Condition

    @property
    def reads(self) -> frozenset[str]:
        """The measure that accounts keep of it."""
        return self._condition.reads

    def value(self, state: AccountState, now: int) -> float:
        """Rounded down to hundredths; 0.0 when nothing that counts has happened."""
        return float(self._condition.tell(state, now)["value"])


def scores_of(ruleset: Ruleset) -> dict[str, Score]:
    """The scores that accounts keep under this ruleset, in order of their names."""
    return _scores(ruleset.hash, tuple(sorted(ruleset.files.items())), frozenset(ruleset.measures))


@lru_cache(8)
def _scores(hash: str, files: tuple[tuple[str, str], ...], kept: frozenset[str]) -> dict[str, Score]:
    names = Names([])
    for file, text in files:
        for document in yamlfile.read(file, text):
            names.declare(document)
    translator, nowhere = Translator(names), Place(Document("", {}, 0), [])
    found = {}
    for name, declared in sorted(names.scores.items()):
        condition = translator.condition(nowhere, model.ScoreCondition(score=name, at_least=1))
        if condition.reads <= kept:
            found[name] = Score(name, declared.label or f"{name} score", condition)
    return found

"""The sources file that the router and `isotherm decode` go by: the shipped one, or that of ISOTHERM_SOURCES."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import rules
from rules import yamlfile
from rules.compiler import TEST_SUFFIX
from rules.errors import Problem, RulesetError
from rules.names import Names, Place
from rules.sources import KEYS, Known, Sources, SourcesFile, check, compiled

_DECLARATIONS = frozenset({"facts", "contact_facts", "activities"})
SHIPPED = Path(rules.__file__).parent / "segments" / "sources.yaml"


@cache
def shipped() -> Sources:
    return read(SHIPPED)


def read(path: Path | str) -> Sources:
    """The sources that `path` describes; of "" the shipped ones. Raises RulesetError with every problem.

    Facts and activities are those declared in the rule files beside it. Where none are, their names are not
    looked at: `isotherm check` does that, where the rules are.
    """
    if path == "":
        return shipped()
    path, file = Path(path), str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RulesetError([Problem(file, 0, "the file is not UTF-8 text")]) from None
    except OSError as error:
        raise RulesetError([Problem(file, 0, f"it cannot be read: {error.strerror}")]) from None
    return _sources(file, text, _declared_beside(path))


def _sources(file: str, text: str, known: Known | None) -> Sources:
    problems: list[Problem] = []
    names = Names(problems)
    for document in yamlfile.read(file, text):
        if isinstance(document.data, dict) and not KEYS & document.data.keys():
            hint = f"it has one or more of: {', '.join(SourcesFile.model_fields)}"
            Place(document, problems).problem("this describes no sources", hint)
        else:
            names.declare(document)
    written = None
    if names.sources_file is not None:
        place, written = names.sources_file
        if written is not None:
            check(place, written, known)
    if problems:
        raise RulesetError(problems)
    return compiled(written or SourcesFile())


def _declared_beside(path: Path) -> Known | None:
    """What rule files in the same directory declare; None when they declare no fact. Their own mistakes are
    told by `isotherm check`."""
    names = Names([])
    for each in sorted(path.parent.glob("*.yaml")):
        if each.name.endswith(TEST_SUFFIX) or each == path:
            continue
        try:
            for document in yamlfile.read(each.name, each.read_text(encoding="utf-8")):
                if isinstance(document.data, dict) and _DECLARATIONS & document.data.keys():
                    names.declare(document)
        except (RulesetError, UnicodeDecodeError, OSError):
            continue
    return Known(names.facts, names.contact_facts, names.activities) if names.facts else None

"""YAML as rules need it: small, shallow, without anchors or duplicate keys, and every value with its line.

Anchors and aliases are refused because they can make a small file enormous; a key given twice because one
of the two would be lost silently. Only plain YAML 1.2-like scalars: `no`, `on` and `yes` stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from rules.errors import Problem, RulesetError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20

Path: TypeAlias = tuple[str | int, ...]

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9][0-9_]*$")
_FLOAT = re.compile(r"[-+]?[0-9][0-9_]*\.[0-9]+([eE][-+]?[0-9]+)?$")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(slots=True)
class Document:
    """One YAML document: plain data, and the line of every value by its path."""

    file: str
    data: Any
    lines: dict[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: Path, message: str, hint: str = "") -> Problem:
        return Problem(self.file, self.line(path), message, hint)


def read(file: str, text: str) -> list[Document]:
    """The documents of a file. Raises RulesetError with the place of what is wrong."""
    if len(text.encode()) > MAX_BYTES:
        raise RulesetError([Problem(file, 0, f"the file is larger than {MAX_BYTES // 1024} KB", "split it")])
    try:
        _refuse_tricks(file, text)
        nodes = list(yaml.compose_all(text, Loader=_BASE))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise RulesetError([Problem(file, line, f"not valid YAML: {error.problem}")]) from None
    except yaml.YAMLError as error:
        raise RulesetError([Problem(file, 0, f"not valid YAML: {str(error).splitlines()[0]}")]) from None
    return [_document(file, node) for node in nodes if node is not None]


def _refuse_tricks(file: str, text: str) -> None:
    """Refuses aliases and depth on the stream of events, before anything is built from them."""
    depth = 0
    for event in yaml.parse(text, Loader=_BASE):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise RulesetError([Problem(file, line, "YAML anchors and aliases are not allowed", "write it out")])
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise RulesetError([Problem(file, line, f"nested deeper than {MAX_DEPTH} levels")])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _document(file: str, node: yaml.Node) -> Document:
    document = Document(file, None)
    problems: list[Problem] = []
    document.data = _build(node, (), document, problems)
    if problems:
        raise RulesetError(problems)
    return document


def _build(node: yaml.Node, path: Path, document: Document, problems: list[Problem]) -> Any:
    document.lines[path] = node.start_mark.line + 1
    match node:
        case yaml.MappingNode():
            return dict(_pairs(node, path, document, problems))
        case yaml.SequenceNode():
            return [_build(each, (*path, i), document, problems) for i, each in enumerate(node.value)]
        case _:
            return _scalar(node)


def _pairs(
    node: yaml.MappingNode, path: Path, document: Document, problems: list[Problem]
) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
        if not key:
            problems.append(Problem(document.file, line, "a key must be text"))
        elif key in seen:
            problems.append(Problem(document.file, line, f"the key '{key}' is given twice"))
        else:
            seen.add(key)
            value = _build(value_node, (*path, key), document, problems)
            document.lines[(*path, key)] = line
            yield key, value


def _scalar(node: Any) -> Any:
    text: str = node.value
    if node.style in ("'", '"', "|", ">"):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text) and len(text) < 20:
        return int(text.replace("_", ""))
    if _FLOAT.match(text) and len(text) < 40:
        return float(text.replace("_", ""))
    return text

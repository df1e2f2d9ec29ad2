"""The contract with subscribers as files: an AsyncAPI document, and JSON Schemas of each version.

    docs/asyncapi.json                  both topics, their messages and real examples
    docs/schemas/1.0.0/NAME.json        the schema of each message, kept for every version

`python -m streams.contract` writes them anew. A version that breaks readers of an earlier one of the same major
number is refused: see `refusals`. What a version says stays as it was; only wording may be mended.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rules import contract
from rules.schema.compatibility import Schema, all_breaks, shape
from rules.schema.contract import MEMBERSHIPS as MEMBERSHIPS_MESSAGE
from rules.schema.contract import components, schemas
from streams import contract_examples as examples
from streams import topics
from streams.producer import STRUCTURED

DOCS = Path(__file__).parents[1] / "docs"
ASYNCAPI, SCHEMAS = DOCS / "asyncapi.json", DOCS / "schemas"
BINDING = "0.5.0"
SHARED = "#/components/schemas/"
TOMBSTONE = "tombstone"

ABOUT = """\
Isotherm tells of every change of membership on `segment.changes` and keeps the full memberships of each account \
on `segment.memberships`. Messages about one account are in one partition, its id the key. Of two messages \
about an account the one with the higher (epoch, offset, n) of its `position` is the later; a message may come \
more than once, with the same bytes. Fields may be added within a major version: let pass what you do not know."""

SUMMARIES = {
    contract.MOVED: "An account went from one segment of a ladder to another",
    contract.ENTERED: "An account entered a segment of a set",
    contract.LEFT: "An account left a segment of a set",
    contract.STATE: "Where an account stands in all dimensions; it replaces what was said of it before",
    MEMBERSHIPS_MESSAGE: "All an account is in",
    TOMBSTONE: "The account is gone: deleted, or merged into another",
}
_STRUCTURED: Schema = {
    "type": "object",
    "properties": {STRUCTURED[0]: {"type": "string", "const": STRUCTURED[1].decode()}},
    "required": [STRUCTURED[0]],
}
HEADERS: dict[str, Schema] = {
    **dict.fromkeys(contract.DATA, _STRUCTURED),
    TOMBSTONE: {
        "type": "object",
        "properties": {
            "offset": {
                "type": "string",
                "pattern": r"^\d+$",
                "description": "Of the record in the log by which it went: what was said at a lower one is older",
            }
        },
        "required": ["offset"],
    },
}


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document, the same for the same model."""
    payloads, shared = components(SHARED)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Isotherm: changes and memberships of accounts",
            "version": contract.VERSION,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "changes": _channel(topics.CHANGES, "Every change, in order per account", contract.DATA),
            "memberships": _channel(
                topics.MEMBERSHIPS,
                "The newest full memberships of each account",
                (MEMBERSHIPS_MESSAGE, TOMBSTONE),
            ),
        },
        "operations": {
            "publishChanges": _sent("changes", contract.DATA, "Tells each change once it is committed"),
            "publishMemberships": _sent(
                "memberships",
                (MEMBERSHIPS_MESSAGE, TOMBSTONE),
                "Tells where an account stands after its last change at a position of the log",
            ),
        },
        "components": {
            "messages": {
                **{name: _message(name, payload) for name, payload in payloads.items()},
                TOMBSTONE: _message(TOMBSTONE, {"type": "null"}),
            },
            "schemas": shared,
        },
    }


def _channel(topic: str, description: str, messages: Iterable[str]) -> dict[str, Any]:
    policy = topics.CONFIGS[topic].get("cleanup.policy")
    kept = {"topicConfiguration": {"cleanup.policy": policy.split(",")}} if policy else {}
    return {
        "address": topic,
        "description": f"{description}. An installation may put ISOTHERM_TOPIC_PREFIX in front of the name.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {"topic": topic, **kept, "bindingVersion": BINDING}},
    }


def _sent(channel: str, messages: Iterable[str], summary: str) -> dict[str, Any]:
    place = f"#/channels/{channel}"
    return {
        "action": "send",
        "channel": {"$ref": place},
        "summary": summary,
        "messages": [{"$ref": f"{place}/messages/{name}"} for name in messages],
    }


def _message(name: str, payload: Schema) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "summary": SUMMARIES[name],
        "contentType": "application/cloudevents+json" if name in contract.DATA else "application/json",
        **({"headers": HEADERS[name]} if name in HEADERS else {}),
        "payload": payload,
        "bindings": {
            "kafka": {"key": {"type": "string", "description": "The account"}, "bindingVersion": BINDING}
        },
        "examples": [
            {"name": f"{name.replace('.', '_')}_{i}", **each} for i, each in enumerate(_examples(name), 1)
        ],
    }


def _examples(name: str) -> list[dict[str, Any]]:
    """Of every sort that the story has, the first."""
    topic = topics.CHANGES if name in contract.DATA else topics.MEMBERSHIPS
    found: dict[str, dict[str, Any]] = {}
    for each in examples.published(topic):
        payload = None if each.value is None else json.loads(each.value)
        if _is_called(name, payload):
            told = [*each.headers, STRUCTURED] if name in contract.DATA else each.headers
            headers = {"headers": {key: value.decode() for key, value in told}} if told else {}
            summary = _summary(payload)
            found.setdefault(summary, {"summary": summary, **headers, "payload": payload})
    return list(found.values())


def _is_called(name: str, payload: Any) -> bool:
    if payload is None:
        return name == TOMBSTONE
    return bool(payload.get("type", MEMBERSHIPS_MESSAGE) == name)


def _summary(payload: Any) -> str:
    if payload is None:
        return "The account is gone"
    if "data" not in payload:
        return "All that an account is in"
    data = payload["data"]
    sorts = [sort for sort in ("provisional", "deleted", "merged_into") if sort in data]
    return ", ".join([f"cause {data['cause']}", f"origin {data['origin']}", *sorts])


# -- versions -------------------------------------------------------------------------------------------------


def kept(directory: Path = SCHEMAS) -> dict[str, dict[str, Schema]]:
    """The schemas of each version that was written, by version and message."""
    return {
        version.name: {path.stem: json.loads(path.read_bytes()) for path in sorted(version.glob("*.json"))}
        for version in sorted(directory.iterdir())
        if version.is_dir()
    }


def refusals(version: str, new: Mapping[str, Schema], old: Mapping[str, Mapping[str, Schema]]) -> list[str]:
    """Why `new` may not be published as `version`, where `old` has been published so far; [] if it may.

    Within a major number nothing breaks, and a version once written keeps its shape.
    """
    if version in old and shape(old[version]) != shape(new):
        found = all_breaks(old[version], new)
        return [f"{version} is published and says otherwise: {_next(version, found)}", *found]
    return [
        f"{each} (as against {before}): raise the major number of the version"
        for before, earlier in old.items()
        if _major(before) == _major(version)
        for each in all_breaks(earlier, new)
    ]


def _next(version: str, found: list[str]) -> str:
    major, minor, _ = version.split(".")
    if found:
        return f"this breaks its readers and is version {int(major) + 1}.0.0"
    return f"this is version {major}.{int(minor) + 1}.0"


def _major(version: str) -> str:
    return version.partition(".")[0]


def written() -> dict[Path, str]:
    """Every file and what stands in it."""
    directory = SCHEMAS / contract.VERSION
    return {
        ASYNCAPI: text(asyncapi()),
        **{directory / f"{name}.json": text(schema) for name, schema in schemas().items()},
    }


def text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    SCHEMAS.mkdir(exist_ok=True)
    if refused := refusals(contract.VERSION, schemas(), kept()):
        sys.exit("\n".join(refused))
    for path, content in written().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()

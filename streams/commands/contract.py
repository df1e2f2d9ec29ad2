"""`isotherm contract`: what subscribers may rely on, for programs."""

from __future__ import annotations

import sys

from streams.terminal import fail


def contract(*, schema: str = "") -> None:
    """Print the contract with subscribers as an AsyncAPI 3 document (JSON), without Kafka or Redis.

    SCHEMA prints the JSON Schema of one message instead: segment.moved, segment.entered, segment.left,
    account.state, or memberships.

    Example: isotherm contract --schema segment.moved
    """
    from rules.schema.contract import schemas
    from streams.contract import asyncapi, text

    known = schemas()
    if schema and schema not in known:
        fail(f"there is no message {schema!r}; there are {', '.join(known)}", 2)
    sys.stdout.write(text(known[schema] if schema else asyncapi()))

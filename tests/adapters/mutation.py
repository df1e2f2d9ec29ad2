"""What is done to messages before an adapter may not raise: parts replaced, bytes damaged, persons planted.

assert_safe(decode, data.draw(spoilt(SAMPLES)))
"""

import json

from hypothesis import strategies as st

from streams.adapters.base import Observation, Reason, Rejected
from streams.adapters.times import instant
from streams.identity import Resolver

RECEIVED = instant("2026-03-05T00:00:00Z", "")
# Values that must never come out, under names by which they go in.
EMAIL, PHONE, NAME = "bob.ray@acme.example", "+49 30 901820", "Bob Xaver Ray"
PERSONAL = {"email": EMAIL, "Work Email": EMAIL, "note": f"ask {EMAIL} today", "phone": PHONE,
            "mobilePhone": PHONE, "firstName": NAME, "last_name": NAME, "fullName": NAME}  # fmt: skip

JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just(10**30), st.just("NaN"),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)  # fmt: skip


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def at_place(value, path, change):
    """A copy of `value` in which `change` was made to what stands at `path`."""
    if not path:
        return change(value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = at_place(copy[path[0]], path[1:], change)
    return copy


def with_person(value):
    """Personal data where a library may write it: beside the fields, or as one more parameter."""
    if isinstance(value, dict):
        return value | PERSONAL
    if isinstance(value, list):
        return [*value, *({"key": key, "value": {"string_value": said}} for key, said in PERSONAL.items())]
    return f"{value} {EMAIL}" if isinstance(value, str) else value


@st.composite
def spoilt(draw, samples):
    value = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 3))):
        junk = draw(JUNK)
        value = at_place(value, draw(st.sampled_from(list(places(value)))), lambda _, junk=junk: junk)
    damaged = bytearray(json.dumps(value).encode())
    for _ in range(draw(st.integers(0, 3))):
        where = draw(st.integers(0, len(damaged)))
        damaged[where : where + draw(st.integers(0, 5))] = draw(st.binary(max_size=5))
    return bytes(damaged)


@st.composite
def personal(draw, samples):
    value = draw(st.sampled_from(samples))
    chosen = draw(st.lists(st.sampled_from(list(places(value))), min_size=1, max_size=4, unique=True))
    for path in sorted(chosen, key=len, reverse=True):  # inside first: what was planted is left as it is
        value = at_place(value, path, with_person)
    return json.dumps(value).encode()


def assert_safe(decode, value):
    """An answer, never an exception; each refusal has a reason, and what is sound fits into the log."""
    resolver, ids = Resolver(b"secret"), []
    for found in decode(value, RECEIVED):
        if isinstance(found, Rejected):
            assert found.reason in set(Reason)
            continue
        assert isinstance(found, Observation)
        json.dumps([found.set, found.props], allow_nan=False).encode()
        resolver.resolve(found, {})
        ids.append(found.id)
    return ids


def assert_nobody_told(decode, value):
    """Nothing that was planted enters the log."""
    for found in decode(value, RECEIVED):
        if isinstance(found, Observation):
            said = json.dumps([found.name, found.set, found.clear, found.props])
            assert not [each for each in (EMAIL, PHONE, NAME) if each in said]

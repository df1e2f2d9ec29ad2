"""What is done to messages before an adapter may not raise: parts replaced, bytes damaged, persons planted.

assert_safe(decode, data.draw(spoilt(SAMPLES)))
"""

import copy
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


def messages(payload):
    """The Kafka values of a sample: one, unless it lists several with their keys."""
    if isinstance(payload, list) and payload and all(set(each) == {"key", "value"} for each in payload):
        return [None if each["value"] is None else json.dumps(each["value"]).encode() for each in payload]
    return [json.dumps(payload).encode()]


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


# -- The same by a seeded `random.Random`, a hundred times as fast: for `test_fuzz`.

DUP = "@@twice@@"  # before a key that stands there already
# What `json.dumps` cannot write, by the text that stands for it until it is written.
LITERALS = {
    f"@@{number}@@": literal
    for number, literal in enumerate((
        "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e308", "-0.0", "9" * 400, "0.1e-400", "01", "'a'",
        "[" * 60 + "]" * 60, "[" * 65 + "]" * 65, "[" * 20_000 + "]" * 20_000, '{"a":' * 70 + "1" + "}" * 70,
        '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\ud83d\\ude00"', '"', "{", "[1,", "undefined", "",
    ))
}  # fmt: skip
NUMBERS = (
    0, -1, 1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30, 0.5, 1e300,
    1772442000, 1772442000000, 1772442000000000,
)  # fmt: skip
TEXTS = (
    "", " ", "\x00", "a\x00b", "\ud800", "null", "undefined", "NaN", "true", "0", "-1", "1e5", "acme.example",
    "@", "a@b", "%40", "é\u0301\u202e", "\U0001f600", "x" * 201, "x" * 3000, "2026-03-02T09:00:00Z",
    "2026-03-02", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "http://[", "[]", "{}", '{"a":1}',
    "https://a.example/?q=%00", "kind", "company.merge", "12345678901234567890", "-", "_", "." * 50, "::", "|",
    "\n", "\ufeff",
)  # fmt: skip
KEYS = (
    "id", "name", "kind", "type", "at", "email", "data", "", "\x00", "a.b", "x" * 201, "\ud800", "value", "$set",
)  # fmt: skip
DAMAGE = (
    b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\",
    b"\\u0000", b"\\ud800", b"1e999", b"\n", b"\t", b"-", b"e", b"nul", b"\xe2\x80\xa8",
)  # fmt: skip


def junk(random):
    """Any value at all, of any type."""
    match random.randrange(8):
        case 0:
            return random.choice((None, True, False))
        case 1:
            return random.choice(NUMBERS)
        case 2 | 3:
            return random.choice(TEXTS)
        case 4:
            return random.choice(list(LITERALS))
        case 5:
            return [junk(random) for _ in range(random.randrange(3))]
        case 6:
            return {random.choice(KEYS): junk(random) for _ in range(random.randrange(3))}
        case _:
            return "".join(chr(random.randrange(0x3000)) for _ in range(random.randrange(30)))


def spots(value):
    """Every place inside, as the container and the key or index in it."""
    found, open_ = [], [value]
    while open_:
        within = open_.pop()
        for key in within if isinstance(within, dict) else range(len(within)):
            found.append((within, key))
            if isinstance(within[key], (dict, list)):
                open_.append(within[key])
    return found


def _drop(random, within, key, _):
    del within[key]


def _replace(random, within, key, _):
    within[key] = junk(random)


def _swap_type(random, within, key, _):
    was = within[key]
    ways = [str(was), [was], {"value": was}, bool(was), None]
    if isinstance(was, str):
        ways += [int(was)] if was.isascii() and was.isdigit() and len(was) < 300 else [len(was)]
    elif isinstance(was, (int, float)):
        ways += [float(min(was, 2**1000)), -was, was * 1000]
    elif isinstance(was, list):
        ways += [dict(enumerate(was)), was[0] if was else None, json.dumps(was)]
    elif isinstance(was, dict):
        ways += [list(was.values()), list(was), json.dumps(was)]
    within[key] = random.choice(ways)


def _nest(random, within, key, _):
    for _ in range(random.choice((1, 1, 2, 70))):
        within[key] = random.choice(([within[key]], {"a": within[key]}, {str(key): within[key]}))


def _repeat(random, within, key, _):
    if isinstance(within, list):
        within.insert(random.randrange(len(within) + 1), within[key])
    else:
        within[f"{DUP}{key}"] = random.choice((within[key], junk(random)))


def _rename(random, within, key, _):
    if isinstance(within, dict):
        new = random.choice((str(key).upper(), f" {key}", random.choice(KEYS), random.choice(list(within))))
        within[new] = within.pop(key)


def _splice(random, within, key, others):
    donor, there = random.choice(spots(random.choice(others)) or [([None], 0)])
    within[key] = copy.deepcopy(donor[there])


def _grow(random, within, key, _):
    text = random.choice(TEXTS)
    within[key] = f"{within[key]}{text}" if random.random() < 0.5 else f"{text}{within[key]}"


_WAYS = (_drop, _replace, _replace, _swap_type, _swap_type, _nest, _repeat, _rename, _splice, _splice, _grow)


def changed(random, samples):
    """A sample, a list or dict, in which up to six things were done to its structure."""
    value = copy.deepcopy(random.choice(samples))
    if random.random() < 0.05:
        value = [value] * random.choice((0, 1, 2, 40))
    for _ in range(random.choice((0, 1, 1, 2, 3, 6))):
        if places_ := spots(value):
            random.choice(_WAYS)(random, *random.choice(places_), samples)
    return value


def planted(random, value, *, pairs):
    """With a person in up to four places, the inner ones first: what was planted is left as it is.

    `pairs` says whether the format names things by `{"key": …, "value": …}` in lists.
    """
    whole = [value]
    found = spots(whole)  # a container always stands before what is in it
    for i in sorted({random.randrange(len(found)) for _ in range(random.choice((1, 1, 2, 4)))}, reverse=True):
        within, key = found[i]
        was = within[key]
        within[key] = [*was, PERSONAL] if isinstance(was, list) and not pairs else with_person(was)
    return whole[0]


def written(random, value):
    """The value as bytes, which need not be JSON any more."""
    text = json.dumps(value, ensure_ascii=random.random() < 0.5).replace(DUP, "")
    if "@@" in text:
        for mark, literal in LITERALS.items():
            text = text.replace(f'"{mark}"', literal)
    return text.encode(errors="surrogatepass")


def damaged(random, value):
    """Cut, torn, and put together wrongly."""
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(value) + 1)
        match random.randrange(6):
            case 0:
                value = value[:at]
            case 1:
                value = value[:at] + value[at + random.randrange(1, 9) :]
            case 2:
                value = value[:at] + random.randbytes(random.randrange(1, 6)) + value[at:]
            case 3:
                end = at + random.randrange(1, 60)
                value = value[:end] + value[at:end] + value[end:]
            case 4 if random.random() < 0.05:
                value = random.choice((b"", value * 2, value.decode(errors="replace").encode("utf-16")))
            case _:
                value = value[:at] + random.choice(DAMAGE) + value[at + random.randrange(2) :]
    return value

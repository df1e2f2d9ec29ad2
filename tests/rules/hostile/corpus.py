"""Rule files that somebody might send to do harm, or that a broken program might write: each about 256 KB.

They are made here rather than kept: most are one line, repeated. `REFUSED` must be refused with a message that
says why, `LOADED` are odd and right. Each is a set of files; `NAMES` is beside them for what they name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TypeAlias

SIZE = 250_000
MANY = 1000
NAMES = """
facts:
  employees: {type: number}
  country: {type: text}
  tags: {type: list}
  renewal: {type: date}
contact_facts:
  status: {type: text}
activities:
  visit: {}
  page: {}
scores:
  interest: {half_life: 7d, signals: [{activity: visit, weight: 1}]}
"""
LADDER = "dimension: d\nsegments:\n  - {segment: s, when: {fact: employees, at_least: 1}}\n"

Files: TypeAlias = Mapping[str, str]


def _times(line: str | Callable[[int], str], size: int = SIZE) -> str:
    """So many lines as fit; `line` may be made from its number."""
    made, length, i = [], 0, 0
    while length < size:
        each = line if isinstance(line, str) else line(i)
        made.append(each)
        length, i = length + len(each), i + 1
    return "".join(made[:-1])


def _many(line: str | Callable[[int], str]) -> str:
    """So many that only the mistake in them is refused."""
    return "".join(line if isinstance(line, str) else line(i) for i in range(MANY))


def _rules(text: str) -> Files:
    return {"names.yaml": NAMES, "rules.yaml": text}


def _when(condition: str) -> Files:
    return _rules(f"dimension: d\nsegments:\n  - segment: s\n    when: {condition}\n")


def _flow(item: str | Callable[[int], str], size: int = SIZE) -> str:
    return f"[{_times(item, size).rstrip(', ')}]"


def _flow_many(item: str | Callable[[int], str]) -> str:
    return f"[{_many(item).rstrip(', ')}]"


def _nested(around: str, inner: str, times: int) -> str:
    before, after = around.split("…")
    return before * times + inner + after * times


def _chain(form: str, count: int, last: str) -> str:
    """Each names the next one."""
    return "".join(form.format(i, i + 1) for i in range(count)) + last.format(count)


# What the message must say.
REFUSED: dict[str, tuple[Files, str]] = {
    # YAML: growth, depth, disguise
    "alias bomb": (
        _rules("a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghi"))),
        "anchors and aliases are not allowed",
    ),
    "an anchor at the very end": (_rules(f"{LADDER}# {'x' * SIZE}\n---\na: &a 1\n"), "anchors and aliases"),
    "an alias of itself": (_rules("a: &a [*a]\n"), "anchors and aliases"),
    "merge keys": (_rules(f"{LADDER}---\nfacts:\n  <<: {{x: {{type: text}}}}\n"), "merge keys are not allowed"),
    "a python object": (_rules("dimension: !!python/object/apply:os.system ['true']\n"), "tags are not allowed"),
    "a tag of one's own": (_rules("!rules\ndimension: d\n"), "tags are not allowed"),
    "a tag that binary has": (_rules("dimension: !!binary ZA==\nby_fact: x\n"), "tags are not allowed"),
    "a tag directive": (_rules("%TAG ! tag:evil,2026:\n---\n!x\ndimension: d\n"), "tags are not allowed"),
    "250 KB of [": (_rules("[" * SIZE), "nested deeper than 20 levels"),
    "250 KB of {": (_rules("{" * SIZE), "nested deeper than 20 levels"),
    "250 KB of {a: ": (_rules(_times("{a: ")), "nested deeper than 20 levels"),
    "250 KB of - ": (_rules(_times("- ")), "nested deeper than 20 levels"),
    "250 KB of ? ": (_rules(_times("? ")), "nested deeper than 20 levels"),
    "stairs": (_rules(_times(lambda i: f"{' ' * i}a:\n")), "nested deeper than 20 levels"),
    "conditions in conditions": (
        _when(_nested("{not: …}", "{seen: visit}", 5000)),
        "nested deeper than 20 levels",
    ),
    "far more than allowed": (_rules("# " + "x" * 5_000_000), "larger than 256 KB"),
    "letters of four bytes": (_rules("# " + "😀" * 66_000), "larger than 256 KB"),
    "half a letter": (_rules("# \ud800\n"), "not UTF-8 text"),
    "a NUL": (_rules("dimension: d\0\n"), "not valid YAML"),
    "an escape sequence": (_rules("dimension: \x1b[2J\n"), "not valid YAML"),
    "an escaped escape sequence": (_rules('dimension: "\\e[2J\\n\\n"\nby_fact: country\n'), "is not a name"),
    "a tab before a key": (_rules("dimension: d\nsegments:\n\t- {segment: s}\n"), "not valid YAML"),
    "an unclosed quote": (_rules(f"dimension: '{'x' * SIZE}"), "not valid YAML"),
    "an unclosed flow": (_rules(f"dimension: [{_many('x, ')}"), "not valid YAML"),
    "colons": (_rules(_times("a:")), "not valid YAML"),
    "colons and spaces": (_rules(_times("a: ")), "not valid YAML"),
    "question marks": (_rules(_times("? a\n")), "given twice"),
    "a key in keys": (_rules("? {a: b}\n: c\n"), "a key must be text"),
    "a key of 250 KB": (_rules(f"dimension: d\nby_fact: country\n? {'k' * SIZE}\n: 1\n"), "unknown key"),
    "a key of many lines": (_rules('dimension: d\n? "' + _times("k\\n") + '"\n: 1\n'), "unknown key"),
    "a number of 250 KB": (_rules(f"dimension: {'9' * SIZE}\nby_fact: x\n"), "is not a name"),
    "infinity": (_when("{fact: employees, at_least: 1.0e999}"), "should be a valid number"),
    "a text of 250 KB": (_rules(f"vocabulary: v\nterms: {{a: [{'x' * SIZE}]}}\n"), "at most 512 characters"),
    "a folded text of 250 KB": (_rules(f"dimension: >\n{_times('  x' + chr(10))}by_fact: x\n"), "is not a name"),
    # one mistake, a thousand times
    "keys given twice": (_rules(_many("a: 1\n")), "given twice"),
    "keys given twice, all in one flow": (_rules(f"a: {{{_many('b: 1, ')}}}"), "given twice"),
    "keys that are empty": (_rules(_many('"": 1\n')), "a key must be text"),
    "documents that are nothing": (_rules(_many("---\n")), "no dimension is defined"),
    "documents that are text": (_rules(_many("--- x\n")), "a document is a mapping"),
    "documents with an unknown key": (_rules(_many(lambda i: f"--- {{k{i}: 1}}\n")), "unknown key"),
    "documents that declare nothing": (_rules(_many("--- {}\n")), "no dimension is defined"),
    "dimensions of one name": (_rules(_many("--- {dimension: d, by_fact: country}\n")), "is defined twice"),
    "dimensions without segments": (_rules(_many(lambda i: f"--- {{dimension: d{i}}}\n")), "give a dimension"),
    "keys that nobody knows": (_rules(_many(lambda i: f"factz{i}: 1\n")), "unknown key"),
    "keys that are almost known": (
        _rules(_many(lambda i: f"segmnets{i}: 1\n") + "dimension: d\n"),
        "did you mean",
    ),
    "names that are none": (_rules("facts:\n" + _many(lambda i: f"  A{i}: {{type: text}}\n")), "is not a name"),
    "types that are none": (_rules("facts:\n" + _many(lambda i: f"  a{i}: {{type: x}}\n")), "should be"),
    "facts of unknown vocabularies": (
        _rules("facts:\n" + _many(lambda i: f"  f{i}: {{type: text, vocabulary: v{i}}}\n")),
        "unknown vocabulary",
    ),
    "facts read from unknown facts": (
        _rules(f"{LADDER}---\nfacts:\n" + _many(lambda i: f"  f{i}: {{type: text, also: [g{i}]}}\n")),
        "needs a vocabulary",
    ),
    "spellings of two terms": (
        _rules("vocabulary: v\nterms:\n" + _many(lambda i: f"  t{i}: [same]\n")),
        "already means",
    ),
    "spellings of nothing": (
        _rules("vocabulary: v\nterms: {a: " + _flow_many("'-', ") + "}\n"),
        "no letter or digit",
    ),
    "segments without a rule": (
        _rules("dimension: d\nsegments:\n" + _many(lambda i: f"- {{segment: s{i}}}\n")),
        "give a segment either",
    ),
    "segments of one name": (
        _rules("dimension: d\nsegments:\n" + _many("- {segment: s, when: {seen: visit}}\n")),
        "is defined twice",
    ),
    "segments that match all": (
        _rules("dimension: d\nsegments:\n" + _many(lambda i: f"- {{segment: s{i}, otherwise: true}}\n")),
        "belongs to a ladder's last",
    ),
    "segments whose keys are wrong": (
        _rules("dimension: d\nsegments:\n" + _many(lambda i: f"- {{segmnt: s{i}, wen: 1}}\n")),
        "unknown key",
    ),
    "conditions that are none": (_when(f"{{any: {_flow_many('1, ')}}}"), "a condition has exactly one of"),
    "80,000 conditions that are none": (_when(f"{{any: {_flow('1, ')}}}"), "more than 15,000 keys and values"),
    "30,000 documents": (_rules(_times("--- {}\n")), "more than 15,000 keys and values"),
    "120,000 lists": (_when(f"{{any: {_flow('[],')}}}"), "more than 15,000 keys and values"),
    "conditions of several kinds": (
        _when(f"{{any: {_flow_many('{fact: a, seen: b}, ')}}}"),
        "here are fact and seen",
    ),
    "conditions with a typo": (
        _when(f"{{any: {_flow_many(lambda i: f'{{cuont{i}: visit}}, ')}}}"),
        "exactly one of",
    ),
    "activities that nobody declared": (
        _when(f"{{any: {_flow_many(lambda i: f'{{seen: vist{i}}}, ')}}}"),
        "unknown activity",
    ),
    "facts that nobody declared": (
        _when(f"{{any: {_flow_many(lambda i: f'{{fact: emplyees{i}, at_least: 1}}, ')}}}"),
        "unknown fact",
    ),
    "operators of another type": (
        _when(f"{{any: {_flow_many('{fact: country, at_least: 1}, ')}}}"),
        "does not work on country",
    ),
    "an activity with a thousand strange properties": (
        _when(f"{{seen: visit, where: {{{_many(lambda i: f'p{i}: {{}}, ')}}}}}"),
        "a comparison is missing",
    ),
    "segments of no dimension": (
        _when(f"{{segment: {_flow_many(lambda i: f'dimension{i}/x, ')}}}"),
        "unknown dimension",
    ),
    "durations that are none": (
        _when(f"{{any: {_flow_many('{seen: visit, within: 7x}, ')}}}"),
        "write a duration",
    ),
    "time zones that are none": (
        _when(f"{{any: {_flow_many(lambda i: f'{{seen: visit, calendar: 1d, timezone: Z{i}}}, ')}}}"),
        "is no time zone",
    ),
    "a time zone outside": (
        _when("{seen: visit, calendar: 1d, timezone: ../../../etc/passwd}"),
        "is no time zone",
    ),
    "a time zone of 250 KB": (
        _when(f"{{seen: visit, calendar: 1d, timezone: {'x' * SIZE}}}"),
        "is no time zone",
    ),
    "dates that are none": (
        _when(f"{{any: {_flow_many('{fact: renewal, is: 2026-02-30}, ')}}}"),
        "is no date",
    ),
    # too much of something right
    "a list of values": (
        _when(f"{{fact: employees, in: {_flow(lambda i: f'{i}, ', 9000)}}}"),
        "at most 1000 items",
    ),
    "a glob of stars": (_when(f"{{fact: country, glob: '{'*a' * 100}'}}"), "at most 16 stars"),
    "a long glob": (_when(f"{{fact: country, glob: '{'?' * SIZE}'}}"), "at most 256 characters"),
    "a sequence": (_when(f"{{span: 1d, sequence: {_flow('visit, ', 9000)}}}"), "at most 5 items"),
    "a great count": (_when("{count: visit, within: 7d, at_least: 99999999999999999999}"), "at_least"),
    "a great amount": (
        _when("{sum: visit, of: x, within: 7d, at_least: 9999999999999999}"),
        "too large to be kept",
    ),
    # names that stand for names
    "dimensions in a circle": (
        _rules(
            "".join(
                f"---\ndimension: d{i}\nsegments: [{{segment: s, when: {{segment: d{(i + 1) % 200}/s}}}}]\n"
                for i in range(200)
            )
        ),
        "in a circle",
    ),
    "activities in a circle": (
        _rules(f"{LADDER}---\nactivities:\n" + "".join(f"  a{i}: {{of: a{(i + 1) % 200}}}\n" for i in range(200))),
        "deep",
    ),
    "a chain of dimensions": (
        _rules(
            _chain(
                "---\ndimension: d{0}\nsegments: [{{segment: s, when: {{segment: d{1}/s}}}}]\n",
                350,
                "---\ndimension: d{0}\nsegments: [{{segment: s, when: {{seen: visit}}}}]\n",
            )
        ),
        "more than 300 dimensions",
    ),
    "a chain of activities": (
        _rules(f"{LADDER}---\nactivities:\n" + _chain("  a{0}: {{of: a{1}}}\n", 1500, "  a{0}: {{}}\n")),
        "deep",
    ),
    "a chain of vocabularies": (
        _rules(
            LADDER
            + _chain(
                "--- {{vocabulary: v{0}, of: v{1}, terms: {{a: []}}}}\n",
                600,
                "--- {{vocabulary: v{0}, terms: {{a: []}}}}\n",
            )
        ),
        "deep",
    ),
}

LOADED: dict[str, Files] = {
    "a comment of 250 KB": _rules(f"# {'x' * SIZE}\n{LADDER}"),
    "blank lines": _rules(_times("\n") + LADDER),
    "documents of which one is something": _rules(_many("---\n") + LADDER),
    "Windows line ends and a byte order mark": _rules("\ufeff" + LADDER.replace("\n", "\r\n")),
    "words that YAML takes for others": _when(
        "{fact: country, in: [yes, NO, on, 0x10, 1e3, .5, 12:30, 2026-03-05]}"
    ),
    "braces, stars and colons in text": _when("{fact: country, in: ['{a: *b}', '&a', '!!x', '<<', '- a: b']}"),
    "a glob of what a pattern means": _when("{fact: country, glob: '(a+)+$[b-a]\\*'}"),
    "a thousand values": _when(f"{{fact: employees, in: [{', '.join(map(str, range(1000)))}]}}"),
    "as deep as allowed": _when(_nested("{not: …}", "{seen: visit}", 16)),
    "a vocabulary of 250 KB": _rules(
        f"{LADDER}---\nvocabulary: v\nterms:\n" + _many(lambda i: f"  t{i}: [{'s' * 100}{i}, {'t' * 100}-{i}]\n")
    ),
}

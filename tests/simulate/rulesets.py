"""Rules that make the most of a short schedule, in three versions that follow each other in any order."""

from __future__ import annotations

POISON = 13  # so many employees and a rule raises: what `above` is in a simulation does that

_RULES = """
facts:
  employees: {type: number}
contact_facts:
  status: {type: text}
activities:
  visited: {}
  asked: {}
  bought: {}
scores:
  interest: {half_life: 1h, signals: [{activity: asked, weight: 10}, {activity: visited, weight: 1}]}
---
dimension: engagement
on_unknown: skip
segments:
  - {segment: hot, when: {count: visited, at_least: 2, within: 3h}}
  - {segment: warm, when: {score: interest, at_least: 4}, stay: {score: interest, at_least: 2}}
  - {segment: cold, otherwise: true}
---
dimension: size
segments:
  - {segment: large, when: {fact: employees, at_least: 100}}
  - {segment: small, otherwise: true}
---
dimension: signs
kind: set
segments:
  - {segment: asked, when: {seen: asked, within: 2h}}
  - {segment: spends, when: {sum: bought, of: amount, at_least: 100, within: 1d}}
  - {segment: committee, when: {people: visited, at_least: 2, within: 1h}}
  - {segment: settled, when: {quiet: visited, for: 1h}, for: 30m}
  - {segment: held, when: {count: asked, at_least: 2, within: 2h}, keep_for: 3h}
"""
_BREAKS = "  - {segment: many, when: {fact: employees, above: 10}}\n"

RULESETS = {
    "first": {"rules.yaml": _RULES},
    "looser": {
        "rules.yaml": _RULES.replace("at_least: 100}}\n  - {segment: small", "at_least: 10}}\n  - {segment: small")
    },
    "breaking": {"rules.yaml": _RULES + _BREAKS},
}

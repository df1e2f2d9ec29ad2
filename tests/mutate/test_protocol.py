"""Each protection that `make mutate-protocol` takes away stands where it says, and the page lists it."""

from __future__ import annotations

import pytest

from tests.mutate.protocol import MUTANTS, ROOT, Mutant

PAGE = (ROOT / "docs" / "reliability.md").read_text()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_it_can_be_taken_away(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.was) == 1
    assert f"| {mutant.name} | `{mutant.file}` |" in PAGE

"""A pytest plugin for `make mutate` alone: mutmut 3.7 asks items for `_nodeid`, which pytest 9 does not have."""

from __future__ import annotations

import pytest

pytest.Item._nodeid = property(lambda self: self.nodeid)  # type: ignore[attr-defined]

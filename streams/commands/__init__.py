"""Commands in groups; `streams.cli` puts them together."""

from pathlib import Path

import rules

SHIPPED = Path(rules.__file__).parent / "segments"

"""Writes the schemas anew."""

from __future__ import annotations

from rules import schema

for path, text in schema.WRITTEN.items():
    path.write_text(text(), encoding="utf-8")

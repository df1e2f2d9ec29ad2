"""Writes `record.json` anew."""

from __future__ import annotations

from rules import schema

schema.RECORD.write_text(schema.record(), encoding="utf-8")

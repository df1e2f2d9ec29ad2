"""Commands in groups; `streams.cli` puts them together."""

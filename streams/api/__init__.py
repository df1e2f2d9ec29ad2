"""The HTTP API: where accounts stand, who is in a segment, and what changes; nothing is written by it."""

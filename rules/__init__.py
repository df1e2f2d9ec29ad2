"""The pure core: what a record does to an account. No I/O, no clock, no async."""

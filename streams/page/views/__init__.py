"""From what was read to what the templates show: pure functions, one module a page."""

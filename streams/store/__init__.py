"""Where account state lives: one contract (`base`), in memory and in Redis."""

"""Scripts that measure; each prints a table and writes JSON with the machine described."""

"""DVC's graph: running it, what it keeps, and whether what is committed belongs together."""

"""Events and the live catalogue, kept: on one node in SQLite, for several in Redis."""

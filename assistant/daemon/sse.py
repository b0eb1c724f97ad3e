"""Server-sent events: what every stream of the daemon has in common."""

PING_S = 15
"""Seconds between two comments that keep a stream open while nothing happens."""

"""Replay of recorded agent runs: what pins and the order of the lane do to the time programs take."""

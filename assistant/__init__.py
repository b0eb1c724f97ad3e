"""The program: command line, daemon, worker and history. `memory` is below it, `tui` above it."""

__version__ = "0.1.0"

"""Exit codes, and the errors that carry one. Every message is a sentence the user can act on."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Documented exit codes of every command (README, "Exit codes")."""

    OK = 0
    FAILED = 1
    USAGE = 2
    LIMIT = 3
    DENIED = 4
    BUDGET = 5
    MODEL = 6
    DAEMON = 7
    TIMEOUT = 124
    SIGINT = 130
    SIGTERM = 143


class AssistantError(Exception):
    """An error whose text is shown to the user as it is and whose `exit_code` ends the command."""

    exit_code: Exit = Exit.FAILED

    def __init__(self, message: str, *, exit_code: Exit | None = None) -> None:
        super().__init__(message)
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(AssistantError):
    """A wrong flag, setting, name or input file."""

    exit_code = Exit.USAGE


class BudgetError(AssistantError):
    """The budget cannot hold what was asked for; the message shows the sum and the smallest budget that works."""

    exit_code = Exit.BUDGET


class ModelError(AssistantError):
    """A model that is unknown, not pulled, damaged or not loadable."""

    exit_code = Exit.MODEL


class DaemonError(AssistantError):
    """The daemon cannot be reached, speaks another version, or died under the request."""

    exit_code = Exit.DAEMON


class VersionSkew(DaemonError):
    """The running daemon is of another version and does not understand this program: a restart replaces it."""

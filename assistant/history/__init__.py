"""Conversations and turns in history.db: what is committed here is never lost, whatever happens to the process.

The turns of a conversation are a tree (every turn has a parent), of which one path is shown. A `History` belongs to the
thread that opened it (the daemon gives it one, `assistant.daemon.records`). Every part of it is a file here.
"""

from assistant.history.base import Conflict, NameTaken, UnknownConversation, unpack_ids
from assistant.history.chained import BegunChain, Chained, Response, UnknownResponse
from assistant.history.keeping import Keeping
from assistant.history.programs import Programs, Step, UnknownProgram
from assistant.history.reading import Reading
from assistant.history.tree import Tree
from assistant.history.writing import Added, Begun, Writing

__all__ = [
    "Added",
    "Begun",
    "BegunChain",
    "Conflict",
    "History",
    "NameTaken",
    "Response",
    "Step",
    "UnknownConversation",
    "UnknownProgram",
    "UnknownResponse",
    "unpack_ids",
]


class History(Programs, Chained, Writing, Tree, Keeping, Reading):
    """One open history.db."""

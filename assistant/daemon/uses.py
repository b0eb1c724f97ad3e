"""What conversations store on disk, by their names: by themselves, and together with those they were forked from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assistant.protocol import Conversation
from assistant.reports import StoredUse


def named_uses(
    stored: Sequence[StoredUse], names: Mapping[str, str], conversations: Sequence[Conversation]
) -> list[StoredUse]:
    """The `stored` ones by their names, then the forks of which nothing is stored yet."""
    origins = {one.id: one.origin for one in conversations}
    found = [
        StoredUse(
            conversation=names.get(one.conversation, one.conversation),
            own=one.own,
            shared=one.shared,
            origin=origins.get(one.conversation),
        )
        for one in stored
    ]
    seen = {one.conversation for one in stored}
    fresh = [one for one in conversations if one.origin is not None and one.id not in seen]
    return found + [StoredUse(conversation=one.name, own=0, shared=0, origin=one.origin) for one in fresh]

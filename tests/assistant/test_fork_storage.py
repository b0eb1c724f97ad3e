"""What forks store: `assistant mem` tells it from the moment they are made, and removing their origin leaves it."""

from __future__ import annotations

from assistant.commands.mem_text import fork_lines
from assistant.reports import KvStatus, StoredUse
from memory.block import CHUNK
from memory.budget import format_size
from tests.assistant.command import run, run_json
from tests.assistant.talk import end_the_worker, with_client
from tests.conftest import RunningDaemon
from tests.memory.branches import STRIDE, open_tier, served, store, text


def test_a_fork_has_no_byte_of_its_own_until_it_diverges(daemon: RunningDaemon) -> None:
    run("ask", "-c", "trip", "hello")
    run("conversations", "fork", "trip", "--as", "train")
    assert "train, forked from trip: 0 B of its own until it diverges" in run("mem").stdout.splitlines()
    stored = {one["conversation"]: one for one in run_json("mem")["kv"]["stored"]}
    assert stored["train"] == {"conversation": "train", "own": 0, "shared": 0, "origin": "trip"}

    with_client(end_the_worker)
    ids = {one.name: one.id for one in with_client(lambda client: client.conversations())}
    said = text(1, 5)
    tier = open_tier(daemon.places.kv)
    store(tier, ids["trip"], said)
    store(tier, ids["train"], text(2, 6, said[:256]), [ids["trip"]])
    tier.close()
    stored = {one["conversation"]: one for one in run_json("mem")["kv"]["stored"]}
    own = sum(path.stat().st_size for path in (daemon.places.kv / ids["train"]).iterdir())
    assert stored["train"] == {"conversation": "train", "own": own, "shared": 4 * STRIDE, "origin": "trip"}
    assert (stored["trip"]["shared"], stored["trip"]["origin"]) == (0, None)
    told = f"train, forked from trip: {format_size(own)} of its own, {format_size(4 * STRIDE)} shared"
    assert told in run("mem").stdout.splitlines()


def test_only_forks_are_told_and_names_are_no_escape_codes() -> None:
    uses = [
        StoredUse(conversation="alone", own=5000, shared=0),
        StoredUse(conversation="\x1b[31m[b]red", own=2**20, shared=2**21),
    ]
    lines = fork_lines(KvStatus(stored=uses))
    assert len(lines) == 1
    assert lines[0].endswith("[b]red, forked from another conversation: 1 MiB of its own, 2 MiB shared")
    assert "\x1b" not in lines[0]


def test_a_fork_that_was_never_opened_keeps_its_rows_when_its_origin_is_removed(daemon: RunningDaemon) -> None:
    run("ask", "-c", "trip", "hello " * 40)
    reply = with_client(lambda client: client.turns("trip"))[-1]
    run("ask", "-c", "trip", "and something else")
    run("conversations", "fork", "trip", "--turn", str(reply.id), "--as", "train")
    run("conversations", "fork", "train", "--as", "tram")
    with_client(end_the_worker)
    ids = {one.name: one.id for one in with_client(lambda client: client.conversations())}
    said = {name: codes(name) for name in ids}
    tier = open_tier(daemon.places.kv)
    store(tier, ids["trip"], said["trip"])
    tier.close()

    run("conversations", "rm", "trip")
    tier = open_tier(daemon.places.kv)
    for name in ("train", "tram"):
        assert served(tier, ids[name], said[name]) == len(said[name]) // CHUNK * CHUNK > 3 * CHUNK
    assert served(tier, ids["trip"], said["trip"]) == 0
    tier.close()
    assert not (daemon.places.kv / ids["trip"]).exists()


def codes(name: str) -> list[int]:
    """The token ids of a conversation, as the scripted worker makes them."""
    turns = with_client(lambda client: client.turns(name))
    return [ord(char) for turn in turns for char in turn.text]

"""A process that talks to itself until it is killed: history, tiers and a tiny model, as daemon and worker use them.

Started once by `test_kills.py`, it imports everything and then forks a child for every line on its input:
`{"seed": …, "fault": [call, at, halfway] | null, "turns": …}`. A child prints a line for what it has verified at its
start, and one for every turn that is committed; its parent prints "end" when it is gone.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import torch

import memory.chunkfile
import memory.publish
from assistant.history import History
from assistant.orders import WorkerTurn
from memory.store import Memory, make_policy
from tests.faults.failing import FaultyOs, kills
from tests.memory.models import VOCABULARY, make_plan, model_pair, tokens
from tests.memory.tiers import make_spill

KIND = "llama"
CONVERSATIONS = ("rivers", "radios", "maps")
LONGEST = 380
"""Tokens after which a conversation is removed and begun anew, so that all of them stay inside the trained window."""


def main(root: Path) -> None:
    torch.set_num_threads(1)
    model_pair(KIND)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                talk(root, order)
            except BaseException as error:
                print(json.dumps({"problem": f"{type(error).__name__}: {error}"}), flush=True)
                raise
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        print("\nend", flush=True)  # a child may have been killed in the middle of a line


def talk(root: Path, order: dict[str, Any]) -> None:
    """Verify what the last child left behind, then take turns until killed."""
    history = History(root / "history.db")
    history.recover()
    spill = make_spill(KIND, root / "kv", ram_rows=2)
    memory = Memory(
        model_pair(KIND)[0],
        make_plan(KIND, 260, 32),
        make_policy("sinks_recent"),
        tokens(12, 99),
        spill=spill,
        mode="exact",
    )
    report = {name: verify(history, memory, name) for name in CONVERSATIONS}
    print(json.dumps({"verified": report}), flush=True)
    if order["fault"] is not None:
        name, at, halfway = order["fault"]
        faulty = FaultyOs(name, at, kills(halfway=halfway))
        memory_modules = (memory_chunkfile, memory_publish)
        for module in memory_modules:
            module.os = faulty  # type: ignore[attr-defined]
    chooser = random.Random(order["seed"])
    for number in range(order["turns"]):
        take_turn(history, memory, chooser, number)
    spill.close()
    history.close()


memory_chunkfile, memory_publish = memory.chunkfile, memory.publish


def take_turn(history: History, mind: Memory, chooser: random.Random, number: int) -> None:
    """One user turn and a reply, committed and acknowledged as the daemon does it."""
    name = chooser.choice(CONVERSATIONS)
    if sum(len(turn.token_ids or ()) for turn in known(history, name)) > LONGEST:
        mind.forget(history.find(name))
        history.remove(name)
        print(json.dumps({"removed": name}), flush=True)
    text = f"{name} {number} {chooser.random()}"
    begun = history.begin(name, text)
    print(json.dumps({"asked": begun.turn_id, "text": text}), flush=True)
    asked = [chooser.randrange(VOCABULARY) for _ in range(chooser.randint(5, 90))]
    ids = [token for turn in known(history, name) for token in turn.token_ids or []] + asked
    mind.open(begun.conversation_id)
    logits = mind.read(ids[mind.resume(ids).reused :])
    reply = list[int]()
    for _ in range(chooser.randint(1, 20)):
        reply.append(int(logits.argmax()))
        logits = mind.step(reply[-1])
    mind.seal()
    said = " ".join(map(str, reply))
    ids_of = {begun.turn_id: asked, begun.reply_id: reply}
    history.finish(begun.conversation_id, begun.reply_id, text=said, token_ids=ids_of, model=KIND)
    print(json.dumps({"done": begun.reply_id, "text": said, "conversation": name}), flush=True)


def verify(history: History, mind: Memory, name: str) -> dict[str, Any]:
    """What is left of a conversation: its turns, how much KV is reused, and whether going on equals a cold reading."""
    turns = known(history, name)
    ids = [token for turn in turns for token in turn.token_ids or []]
    found: dict[str, Any] = {"turns": {turn.id: turn.text for turn in turns}, "tokens": len(ids), "reused": 0}
    if not ids:
        return found
    mind.open(history.find(name))
    found["reused"] = mind.resume([*ids, 1, 2]).reused
    warm = mind.read([*ids, 1, 2][found["reused"] :])
    with torch.inference_mode():
        cold = model_pair(KIND)[1](torch.tensor([[*ids, 1, 2]])).logits[0, -1]
    found["difference"] = float((warm - cold).abs().max())
    mind.resume([*ids, 1])  # takes the two tokens back
    return found


def known(history: History, name: str) -> list[WorkerTurn]:
    """The turns of a conversation, none when there is none."""
    if not any(one.name == name for one in history.conversations(name)):
        return []
    return history.read(history.find(name), KIND)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The tour: `assistant chat` in tmux, on the default model, from a conversation that is resumed to its export.

    python docs/tour.py

Writes `docs/tour.md` and a picture of every stop under `docs/tour/`. It has a home of its own and needs tmux; the model
is fetched when it is not here. Nothing is posed: what the pictures show is what the program drew for the keys.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from inspect import getdoc
from pathlib import Path

from tmux import Tmux

HERE = Path(__file__).parent
PICTURES = HERE / "tour"
TALK = PICTURES / "talk.json"
MODEL = "smollm2-135m"
BUDGET, LARGER = "680MiB", "896MiB"
"""Without and with room for all of the talk and for the model that finds episodes."""
SIZE = (104, 32)
EMPTY = "Message"
"""What an empty prompt shows."""
ASSISTANT = str(Path(sys.executable).with_name("assistant"))

Stop = Callable[[Tmux], None]


def say(tmux: Tmux, text: str) -> None:
    """Type a message or a command and send it; the prompt is empty again."""
    tmux.type(text)
    tmux.until(text[-30:])
    tmux.press("Enter")
    tmux.until(EMPTY)


def ask(tmux: Tmux, question: str) -> None:
    """Ask and wait for the end of the reply: the line with what was read and written stands under it."""
    say(tmux, question)
    tmux.wait(lambda screen: "wrote" in screen.partition(question[-30:])[2], "the reply")


def back(tmux: Tmux) -> None:
    """Leave what lies over the chat."""
    tmux.press("Escape")
    tmux.gone("esc back")


def resume(tmux: Tmux) -> None:
    """A conversation of six evenings is opened again. What it takes to go on is told with the
    next reply: see the fork."""
    tmux.until("ready", "PLM-7731", "tokens resident")


def new_chat(tmux: Tmux) -> None:
    """`Ctrl+N`: a new conversation. It is stored with its first message."""
    tmux.press("C-n")
    tmux.gone("PLM-7731")


def stream(tmux: Tmux) -> None:
    """A reply as it is written, drawn as Markdown while it grows."""
    say(tmux, "Write a long letter to a friend about a journey by ship.")
    tmux.until("writing")
    tmux.wait(lambda screen: len(screen.split()) > 120, "a page of it")


def stop(tmux: Tmux) -> None:
    """`Esc` stops it. What was written stays, and counts as said."""
    tmux.press("Escape")
    tmux.until("TTFT", "ready")


def fork(tmux: Tmux) -> None:
    """`/fork NAME`: a copy of the conversation that goes its own way. It shares the stored KV: nothing is read twice,
    and the line under the reply says so."""
    say(tmux, "/set max_tokens 40")
    say(tmux, "/open household")
    tmux.until("PLM-7731")
    say(tmux, "/fork journey")
    tmux.until(" journey ")
    ask(tmux, "In one sentence: when do we leave, and with whom?")


def search(tmux: Tmux) -> None:
    """`Ctrl+F`: every conversation, while you type. `Enter` goes to the turn."""
    tmux.press("C-f")
    tmux.until("Search in all")
    tmux.type("sourdough")
    tmux.until("household")


def episodes(tmux: Tmux) -> None:
    """`F3`: the map. A row is a sitting, a cell a block of tokens, coloured by where it lies now."""
    back(tmux)
    say(tmux, "/open household")
    ask(tmux, "Which seeds did Ines give me?")
    tmux.press("F3")
    tmux.until("sitting")


def memory(tmux: Tmux) -> None:
    """`F2`: every byte. The parts add up to what was measured; what no part explains would be drawn as unaccounted."""
    back(tmux)
    tmux.press("F2")
    tmux.until("in use of a budget")


def budget(tmux: Tmux) -> None:
    """`Ctrl+B`: another budget, with what it comes to before it is applied."""
    back(tmux)
    tmux.press("C-b")
    tmux.until("Budget")
    tmux.until(BUDGET, "then")
    tmux.press("Up", "Up", "Up", "Up")
    tmux.until(LARGER, "then")


def why(tmux: Tmux) -> None:
    """`F4`: why this reply knew what it knew: the episode it was routed to, what was recalled, how much was missed."""
    tmux.press("Enter")
    tmux.gone("esc back")
    ask(tmux, "How did the sourdough get better?")
    tmux.press("F4")
    tmux.until("similarity")


def export(tmux: Tmux) -> None:
    """`/export md`: the conversation as a file. `json`, `jsonl` and `svg` (this picture, by the program itself) too."""
    back(tmux)
    say(tmux, "/export md household.md")
    tmux.until("Written")


STOPS: tuple[Stop, ...] = (resume, new_chat, stream, stop, fork, search, episodes, memory, budget, why, export)


def main() -> None:
    """Make a home, import the talk, go round, write the page."""
    if shutil.which("tmux") is None:
        raise SystemExit("The tour is driven in tmux, which is not here: apt-get install tmux")
    with tempfile.TemporaryDirectory(prefix="tour-") as folder:
        given = dict(os.environ) | {"ASSISTANT_HOME": f"{folder}/home", "COLORTERM": "truecolor"}
        _run(given, "models", "pull", MODEL)
        _run(given, "import", str(TALK), "--budget", LARGER)
        while not json.loads(_run(given, "map", "-c", "household", "--json"))["episodes"]:  # found while nobody waits
            time.sleep(1)
        try:
            with Tmux([ASSISTANT, "chat", "--budget", BUDGET], SIZE, given, Path(folder)) as tmux:
                for each in STOPS:
                    each(tmux)
                    (PICTURES / f"{each.__name__}.svg").write_text(tmux.picture("assistant chat"), encoding="utf-8")
        finally:
            _run(given, "daemon", "stop")
    (HERE / "tour.md").write_text(page(), encoding="utf-8")


def page() -> str:
    """`docs/tour.md`."""
    head = (
        "# A tour\n\nMade by `python docs/tour.py`, which drives `assistant chat` in tmux on the default model "
        f"({MODEL}, a budget of {BUDGET}) and records what is on the screen. The conversation is "
        "[talk.json](tour/talk.json), a ChatGPT export.\n"
    )
    parts = (
        f"\n## {each.__name__.replace('_', ' ').capitalize()}\n\n{getdoc(each)}\n\n"
        f"![{each.__name__.replace('_', ' ')}](tour/{each.__name__}.svg)\n"
        for each in STOPS
    )
    return head + "".join(parts)


def _run(environment: dict[str, str], *words: str) -> str:
    return subprocess.run([ASSISTANT, *words], env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()

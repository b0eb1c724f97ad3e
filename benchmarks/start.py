"""From nothing to the first token, page cache warm: the program's processes against a script with transformers.

    python -m benchmarks.start [MODEL_FOLDER] [--quick] [--json OUT]

`daemon_s`: until `assistant daemon start` returns; `first_token_s`: `assistant ask` in a fresh process until the first
word of the reply, with a daemon that has no model loaded; `from_nothing_s`: the same without a daemon; `read_s`:
reading the file of the weights; `script_s`: a Python script that imports transformers, loads the same folder and writes
one token. In turn, medians.

MODEL_FOLDER: default, the pulled smollm2-135m.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.models import options_of
from benchmarks.pairs import medians
from benchmarks.report import publish

ASSISTANT = Path(sys.executable).with_name("assistant")
SCRIPT = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
chat = [{"role": "user", "content": "Say hello."}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
model.generate(**ids, max_new_tokens=1, do_sample=False)
"""


def main() -> None:
    """Measure and publish."""
    options = options_of(__doc__)
    with home_of(options.model) as home:
        seconds = medians(
            {
                "daemon": partial(daemon, home),
                "first_token": partial(first_token, home, options.model),
                "from_nothing": partial(from_nothing, home, options.model),
                "script": partial(script, home, options.model),
                "read": partial(read, options.model),
            },
            1 if options.quick else 5,
        )
    row = {f"{name}_s": round(taken, 3) for name, taken in seconds.items()}
    publish("start", [row], quick=options.quick, json_path=options.json)


@contextmanager
def home_of(model: Path) -> Iterator[dict[str, str]]:
    """The environment of an empty home that knows the model."""
    home = Path(tempfile.mkdtemp(prefix="a", dir="/tmp"))  # short: socket paths are limited
    environment = os.environ | {"ASSISTANT_HOME": str(home), "ASSISTANT_MODELS": str(model.parent)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
    try:
        yield environment
    finally:
        stop(environment)
        shutil.rmtree(home, ignore_errors=True)


def daemon(home: dict[str, str]) -> float:
    """Seconds until a new daemon answers."""
    stop(home)
    started = time.perf_counter()
    subprocess.run([ASSISTANT, "daemon", "start"], env=home, capture_output=True, check=True)
    return time.perf_counter() - started


def first_token(home: dict[str, str], model: Path) -> float:
    """Seconds until `ask` says its first word; a daemon is there, no model is loaded."""
    daemon(home)
    while status(home)["worker_state"] != "ready":
        pass
    return asked(home, model)


def from_nothing(home: dict[str, str], model: Path) -> float:
    """Seconds until `ask` says its first word, when it has to start the daemon too."""
    stop(home)
    return asked(home, model)


def stop(home: dict[str, str]) -> None:
    subprocess.run([ASSISTANT, "daemon", "stop"], env=home, capture_output=True, check=False)


def status(home: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run([ASSISTANT, "daemon", "status", "--json"], env=home, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def asked(home: dict[str, str], model: Path) -> float:
    started = time.perf_counter()
    command = [ASSISTANT, "ask", "Say hello.", "--model", model.name, "--max-tokens", "4"]
    with subprocess.Popen(command, env=home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        taken = time.perf_counter() - started
        process.stdout.read()
    assert process.returncode == 0
    return taken


def script(home: dict[str, str], model: Path) -> float:
    """Seconds of a script with transformers alone."""
    stop(home)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", SCRIPT, model], capture_output=True, check=True)
    return time.perf_counter() - started


def read(model: Path) -> float:
    """Seconds to read the file of the weights."""
    started = time.perf_counter()
    for path in model.glob("*.safetensors"):
        with path.open("rb", buffering=0) as file:
            while file.read(16 * 1024 * 1024):
                pass
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

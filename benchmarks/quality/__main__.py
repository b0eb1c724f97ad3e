"""How close a reply under a memory budget comes to the full KV's.

    python -m benchmarks.quality --model ID --data FILE --policies a,b,c --budgets 1/16,1/8,1/4
        [--talks N] [--questions N] [--adversarial N] [--rag N] [--work FOLDER] [--json OUT] [--publish]

A policy is a name of `memory.policy.POLICIES` ("all": every one), "default" (what the program uses by itself) or "best"
(for every token the best choice there is); with "@sensitivity" and the like layers get different shares, with
":knob=value" a policy's knob is set, with "+bounded" it works over KV that was read in bounded mode. The full KV, sinks
and recent tokens, the generic patch, RAG over dated segments and the oracle are always measured.

What was measured is kept in FOLDER: a run that was stopped goes on, and one with more questions adds to it.
"""

from __future__ import annotations

import argparse
import json
from hashlib import blake2b
from pathlib import Path

from assistant.template import encode_text
from assistant.worker.loader import stop_tokens
from benchmarks.models import load_model
from benchmarks.quality import data, history
from benchmarks.quality.keep import Keeper
from benchmarks.quality.report import publish, tell
from benchmarks.quality.run import CONTROLS, Book, Run
from benchmarks.quality.source import Model
from memory.encoder import Encoder
from memory.episode import Episodes
from memory.layers import Profile, load_or_measure
from memory.layers.measure import calibration_text, measure
from memory.policy import POLICIES


def main() -> None:
    """Measure, print the table, write what was asked for."""
    options = _options()
    folder = options.work / blake2b(f"{options.model} {options.data.read_text()}".encode(), digest_size=6).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    book = Book(folder / "records.jsonl")
    causal, tokenizer = load_model(options.model)
    episodes = Episodes(None, Encoder.load())
    ends = stop_tokens(causal, tokenizer)

    def profile() -> Profile:
        ids = encode_text(tokenizer, calibration_text())
        return load_or_measure(folder, "profile", lambda: measure(causal, ids))

    policies = [*CONTROLS, *(name for name in options.policies if name not in CONTROLS)]
    for talk in data.read(options.data, tokenizer, options.questions, options.adversarial)[: options.talks]:
        own = folder / talk.id.replace("/", "-")
        own.mkdir(exist_ok=True)
        known, model = history.read(causal, talk, own), Model(causal)
        keeper = Keeper(model, tokenizer, known, episodes, profile)
        Run(model, causal, tokenizer, known, keeper, book, own, ends).measure(policies, options.budgets, options.rag)
    episodes.close()
    rows = tell(book.records, policies, options.budgets)
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
    if options.publish:
        publish(options.publish, book.records)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="id, alias or source of the catalogue")
    parser.add_argument("--data", required=True, type=Path, help="dialogue file with questions")
    parser.add_argument("--policies", type=_policies, default=["default"], help=", ".join(POLICIES))
    parser.add_argument("--budgets", type=lambda text: text.split(","), default=["1/8"])
    parser.add_argument("--talks", type=int, default=10**6, help="conversations (default: all)")
    parser.add_argument("--questions", type=int, default=10**6, help="of a conversation, with an answer (default: all)")
    parser.add_argument("--adversarial", type=int, default=10, help="of a conversation, without an answer")
    parser.add_argument("--rag", type=int, default=10**6, help="questions of a conversation that RAG reads anew for")
    parser.add_argument("--work", type=Path, default=Path("quality-work"), help="where what was measured is kept")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--publish", metavar="NAME", help="write tables and plots to benchmarks/results")
    return parser.parse_args()


def _policies(text: str) -> list[str]:
    return [name for given in text.split(",") for name in (POLICIES if given == "all" else [given])]


if __name__ == "__main__":
    main()

"""llama.cpp as a child process: requests on standard input, answers on standard output, one JSON object a line.

Runs in the environment that llama_cpp.sh makes, which has nothing of ours: `python llama_child.py GGUF THREADS TOKENS`.

    {"ids": [...], "known": n}  -> {"seconds": s}: keep the first n tokens that were read before, read the others,
                                   choose the next token
    {"write": n}                -> {"seconds": s}: write n tokens, each chosen greedily; they are taken back
"""

from __future__ import annotations

import json
import sys
import time

import llama_cpp


def main(path: str, threads: int, tokens: int) -> None:
    """Answer until the input ends."""
    model = llama_cpp.Llama(
        path, n_ctx=tokens, n_batch=512, n_threads=threads, n_threads_batch=threads, flash_attn=True, verbose=False
    )
    print(json.dumps({"version": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        if "write" in request:
            before = model.n_tokens
            for _ in range(request["write"]):
                model.eval([model.sample(temp=0.0)])
        else:
            model.n_tokens = before = request["known"]
            model.eval(request["ids"][before:])
            model.sample(temp=0.0)
            before = model.n_tokens
        seconds = time.perf_counter() - started
        model.n_tokens = before
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

"""`python -m assistant.worker`: requests on standard input, events on standard output, one JSON object a line.

Whatever libraries print goes to standard error. The worker ends when its input does, so it never outlives the daemon;
what waits to be written to disk is written first.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

from assistant.traces import keep_words_out


def main() -> None:
    """Serve requests until the input ends or a Quit comes, then write what waits to be written."""
    output = _claim_stdout()
    keep_words_out()
    _yield_processors()
    from assistant.worker.device import steady_heap

    steady_heap()
    from assistant.worker.engine import Engine
    from assistant.worker.lines import Lines

    engine = Engine()
    Lines(engine, output).serve(sys.stdin)
    engine.close()
    os._exit(0)


def _yield_processors() -> None:
    """Let threads that wait for one another sleep soon; read by OpenMP when torch loads it.

    A thread that spins takes the processor that the awaited one needs, where other programs keep all of them busy: two
    threads on two busy cores write 2.3 times as many tokens a second with this as with OpenMP's 300,000, on idle
    ones as many.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "8000")


def _claim_stdout() -> TextIO:
    """Keep the real standard output for events and point file descriptor 1 at standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


if __name__ == "__main__":
    main()

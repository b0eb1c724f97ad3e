"""What the helpers of a pull (conversion, hub download) share as children: JSON lines, and ending with the parent."""

from __future__ import annotations

import json
import os
import threading

from assistant.errors import Exit


def say(**line: object) -> None:
    """One JSON line for the parent (`assistant.child` reads it)."""
    print(json.dumps(line), flush=True)


def end_with_parent() -> None:
    """Standard input is held open by the parent: when it ends, nobody waits for us any more."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    while os.read(0, 1024):
        pass
    os._exit(Exit.SIGTERM)

"""The real daemon in the foreground with `fake_worker.py` as its worker, else like `assistant daemon run`.

DAEMON_LIMITS is a JSON object of `Limits` that are shorter than the real ones.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from assistant.daemon.lifecycle import run
from assistant.daemon.limits import Limits
from assistant.errors import AssistantError
from assistant.places import find_places
from assistant.settings import load_settings

# -P: the folder of these scripts holds tests of `assistant` under the same name.
WORKER = (sys.executable, "-P", str(Path(__file__).with_name("fake_worker.py")))


def main() -> int:
    places = find_places()
    limits = Limits(**json.loads(os.environ.get("DAEMON_LIMITS", "{}")))
    try:
        return run(places, load_settings(places=places), WORKER, limits)
    except AssistantError as error:
        print(f"assistant: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

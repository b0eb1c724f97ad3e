"""Replay of recorded agent runs under memory pressure: time to completion with and without pins.

    python -m benchmarks.agents --trace FILE [--programs N] [--rate R] [--loads L,...] [--seeds K]
                                [--costs gpu|MODEL|FILE] [--save-costs FILE] [--real] [--quick] [--json OUT]

The trace has one run a line (`benchmarks/agents/trace.py`). Costs: `gpu` by arithmetic; MODEL (of the catalogue) is
measured first, in this process, and sizes are scaled to its window; FILE is what --save-costs wrote. `--real` runs
programs of the trace on the real engine, with a tiny model, and in the simulator that was calibrated on it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from assistant.errors import AssistantError
from benchmarks.agents.agreement import WINDOW, agree, calibrate
from benchmarks.agents.compare import Load, Row, compare
from benchmarks.agents.device import BLOCK, GPU, Costs
from benchmarks.agents.trace import largest, load
from benchmarks.models import load_model
from benchmarks.report import parser_of, publish

TINY_SHARE = 0.4
"""The largest working set of a replay on the tiny model, of its window."""

REAL_LOAD = 0.6
"""Of what the tiny model could do; near its limit the smallest difference grows in the queue."""


def main() -> None:
    """Measure and publish."""
    options = _options()
    try:
        _run(options)
    except AssistantError as error:
        sys.exit(f"{error}")


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__, "two seeds, 30 programs, one load; nothing is recorded")
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--programs", type=int, default=80)
    parser.add_argument("--rate", type=float, help="programs a second (default: by --loads)")
    parser.add_argument("--loads", type=_numbers, default=[0.6, 0.9, 1.2], help="shares of what the device could do")
    parser.add_argument("--costs", default="gpu")
    parser.add_argument("--save-costs", type=Path)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.programs = min(options.seeds, 2), min(options.programs, 30)
        options.loads = options.loads[-1:]
    return options


def _run(options: argparse.Namespace) -> None:
    whole = largest(load(options.trace))
    if options.real:
        runs = load(options.trace, TINY_SHARE * WINDOW / whole)
        rows = agree(runs, Load(min(options.programs, 24), None, REAL_LOAD))
        publish("agents_real", rows, quick=options.quick, json_path=options.json)
        return
    costs, window = _costs(options)
    runs = load(options.trace, min(1.0, window / whole) if window else 1.0)
    name, rows = Path(options.costs).stem, list[Row]()
    for share in [0.0] if options.rate else options.loads:
        about: Row = {"costs": "arithmetic, 8B on a GPU" if costs is GPU else name}
        about |= {"rate": options.rate} if options.rate else {"load": share}
        arriving = Load(options.programs, options.rate, share)
        rows += [about | row for row in compare(runs, costs, arriving, options.seeds)]
    publish(f"agents_{name}", rows, quick=options.quick, json_path=options.json)


def _costs(options: argparse.Namespace) -> tuple[Costs, int]:
    """Prices, and the window that sizes are scaled to (0: they stay as recorded)."""
    if options.costs == "gpu":
        return GPU, 0
    if Path(options.costs).is_file():
        saved = json.loads(Path(options.costs).read_text(encoding="utf-8"))
        return Costs(**saved["costs"]), saved["window"]
    model, _ = load_model(options.costs)
    window = int(model.config.max_position_embeddings)
    costs = calibrate(model, window - BLOCK, 25 if options.quick else 90)
    if options.save_costs is not None:
        saved = {"costs": asdict(costs), "window": window}
        options.save_costs.write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")
    return costs, window


def _numbers(text: str) -> list[float]:
    return [float(one) for one in text.split(",")]


if __name__ == "__main__":
    main()

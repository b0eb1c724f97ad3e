"""How well a model calls tools: BFCL's single-turn rows, without constrained decoding and with it, row by row.

    python -m benchmarks.bfcl --data FOLDER --model ID [--categories simple_python,multiple,parallel,irrelevance]
        [--limit N] [--unconstrained] [--tokens N] [--work FILE] [--json OUT]

A reply is right when its calls are those of the row's ground truth: the same tools in any order, and each argument one
of the accepted values; an irrelevant tool must not be called. `unparsable` counts replies with a call that cannot be
made, `unparsable_cut_off` those of them that ran into the limit of tokens. `--unconstrained` leaves the constrained
runs out. With `--limit` nothing is published.

Replies are greedy. Where the grammar allows every token of the free reply, the constrained one is the same, and it is
written a second time in every tenth row only, to see that it is; `written_twice` counts the rows with two replies.

What was measured is kept in FILE: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from assistant.catalog import load_catalog
from assistant.orders import ModelSpec, Run, WorkerDone, WorkerTurn
from assistant.places import find_places
from assistant.protocol import Call, Calling, Sampling, ToolSpec
from assistant.worker.engine import Engine
from benchmarks.report import publish

CATEGORIES = ("simple_python", "multiple", "parallel", "irrelevance")
TYPES = {"dict": "object", "float": "number", "tuple": "array"}
TWICE = 10
_IGNORED = str.maketrans("", "", " ,./-_*^'\"")

Record = dict[str, Any]


def main() -> None:
    """Measure what is not measured yet, print the table, publish a full run."""
    options = _options()
    kept = options.work.read_text(encoding="utf-8").splitlines() if options.work.exists() else []
    ways = (False,) if options.unconstrained else (False, True)
    records = _complete([json.loads(line) for line in kept if line.endswith("}")], len(ways))
    done = {_key(record) for record in records}
    wanted = [(category, row) for category in options.categories for row in _rows(options, category)]
    engine, spec = Engine(), _spec(options)
    for number, (category, row) in enumerate(wanted):
        if (options.model, category, row["id"]) not in done:
            about = {"model": options.model, "category": category, "id": row["id"]}
            measured = _measure(engine, spec, row, ways, options.tokens, twice=number % TWICE == 0)
            records += [about | one for one in measured]
            with options.work.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(about | one) + "\n" for one in measured)
    engine.close()
    ids = {row["id"] for _, row in wanted}
    ours = [one for one in records if one["model"] == options.model and one["id"] in ids]
    rows = list(_table(ours, options.categories, ways))
    publish("bfcl", rows, quick=options.limit < 10**6, json_path=options.json)


def tools_of(row: Record) -> list[ToolSpec]:
    """The tools of a row, their types as JSON schema names them."""
    return [
        ToolSpec(name=one["name"], description=one["description"], parameters=_schema(one["parameters"]))
        for one in row["function"]
    ]


def matches(calls: list[Call], truth: list[Record]) -> bool:
    """Whether the calls are the accepted ones, in any order."""
    if len(calls) != len(truth):
        return False
    if not truth:
        return True
    first, rest = calls[0], calls[1:]
    return any(
        _call_matches(first, accepted) and matches(rest, [*truth[:at], *truth[at + 1 :]])
        for at, accepted in enumerate(truth)
    )


def _call_matches(call: Call, accepted: Record) -> bool:
    (name, parameters), *_ = accepted.items()
    return call.name == name and _object_matches(call.arguments, parameters)


def _object_matches(value: Record, accepted: dict[str, list[Any]]) -> bool:
    """Every value is accepted; what is left out is optional, which an empty string among the accepted ones says."""
    if value.keys() - accepted.keys():
        return False
    return all(
        any(_value_matches(value[key], one) for one in choices) if key in value else "" in choices
        for key, choices in accepted.items()
    )


def _value_matches(value: Any, accepted: Any) -> bool:
    if isinstance(accepted, dict):
        return isinstance(value, dict) and _object_matches(value, accepted)
    if isinstance(accepted, list):
        if not isinstance(value, list) or len(value) != len(accepted):
            return False
        return all(_value_matches(one, other) for one, other in zip(value, accepted, strict=True))
    if isinstance(accepted, str) and isinstance(value, str):
        return value.translate(_IGNORED).casefold() == accepted.translate(_IGNORED).casefold()
    if isinstance(accepted, bool) or isinstance(value, bool):
        return value is accepted
    return bool(value == accepted)


def _schema(value: Any) -> Any:
    if isinstance(value, list):
        return [_schema(one) for one in value]
    if not isinstance(value, dict):
        return value
    result = {key: _schema(one) for key, one in value.items()}
    if isinstance(result.get("type"), str):
        result["type"] = TYPES.get(result["type"], result["type"])
    return {key: one for key, one in result.items() if (key, one) != ("type", "any")}


def _measure(
    engine: Engine, spec: ModelSpec, row: Record, ways: Sequence[bool], tokens: int, *, twice: bool
) -> list[Record]:
    """One row, each way; the second way finds the prompt read already."""
    free = _reply(engine, spec, row, tokens, constrained=False)
    records = [_judged(row, free) | {"constrained": False}]
    if True in ways:
        same = _allowed(engine, row, free)
        held = _reply(engine, spec, row, tokens, constrained=True) if twice or not same else free
        assert not same or held.text == free.text, f"{row['id']}: the grammar changed a reply that it allows"
        records.append(_judged(row, held) | {"constrained": True, "twice": held is not free})
    return records


def _reply(engine: Engine, spec: ModelSpec, row: Record, tokens: int, *, constrained: bool) -> WorkerDone:
    (message,) = row["question"][0]
    return engine.run(
        Run(
            id=row["id"],
            spec=spec,
            conversation=row["id"],
            turns=[WorkerTurn(id=1, role=message["role"], text=message["content"])],
            reply_id=2,
            sampling=Sampling(temperature=0, repetition_penalty=1, max_tokens=tokens),
            calling=Calling(tools=tools_of(row), constrained=constrained),
        ),
        lambda _: None,
    )


def _allowed(engine: Engine, row: Record, done: WorkerDone) -> bool:
    """Whether the grammar of a row allows a reply that was written without it, its end included."""
    assert engine.loaded is not None
    constraint = engine.loaded.caller.constraint(Calling(tools=tools_of(row)))
    assert constraint is not None
    ids = done.token_ids[2][-done.usage.completion_tokens :] if done.usage.completion_tokens else []
    like = torch.zeros(len(engine.loaded.tokenizer))
    for token in ids:
        if not constraint.mask(like)[token].isfinite():
            return False
        constraint.take(token)
    ends = constraint.mask(like)[sorted(engine.loaded.stops)].isfinite()
    return done.finish == "length" or bool(ends.any())


def _judged(row: Record, done: WorkerDone) -> Record:
    assert done.written is not None
    written = done.written
    truth = row.get("ground_truth", [])
    return {
        "right": matches(written.calls, truth) and not written.problems,
        "calls": [call.model_dump() for call in written.calls],
        "problems": written.problems,
        "finish": done.finish,
        "text": done.text,
        "tokens": done.usage.completion_tokens,
        "tok_s": done.usage.decode_tok_s,
    }


def _complete(records: list[Record], ways: int) -> list[Record]:
    """The records of rows that were measured in as many ways."""
    counts = Counter(map(_key, records))
    return [record for record in records if counts[_key(record)] >= ways]


def _key(record: Record) -> tuple[str, str, str]:
    return record["model"], record["category"], record["id"]


def _table(records: list[Record], categories: list[str], ways: tuple[bool, ...]) -> Iterator[Record]:
    for category in categories:
        for constrained in ways:
            own = [one for one in records if (one["category"], one["constrained"]) == (category, constrained)]
            timed = [one for one in own if one.get("twice", not constrained)]
            speeds = sorted(one["tok_s"] for one in timed if one["tok_s"] is not None)
            yield {
                "model": own[0]["model"].rpartition("/")[2],
                "category": category,
                "decoding": "constrained" if constrained else "free",
                "rows": len(own),
                "right": sum(one["right"] for one in own),
                "accuracy": f"{sum(one['right'] for one in own) / len(own):.3f}",
                "unparsable": sum(bool(one["problems"]) for one in own),
                "unparsable_cut_off": sum(bool(one["problems"]) and one["finish"] == "length" for one in own),
                "no_call": sum(not one["calls"] and not one["problems"] for one in own),
                "written_twice": sum(one.get("twice", False) for one in own),
                "cut_off": sum(one["finish"] == "length" for one in own),
                "median_tok_s": speeds[len(speeds) // 2] if speeds else None,
            }


def _rows(options: argparse.Namespace, category: str) -> list[Record]:
    lines = (options.data / f"{category}_dev.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines][: options.limit]


def _spec(options: argparse.Namespace) -> ModelSpec:
    places = find_places()
    catalog = load_catalog(places)
    path = catalog.require(catalog.find(options.model), places)
    return ModelSpec(id=options.model, path=str(path), quant="none", budget=options.budget, mode="exact")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder with CATEGORY_dev.jsonl")
    parser.add_argument("--model", required=True, help="id, alias or source of the catalogue")
    parser.add_argument("--categories", type=lambda text: text.split(","), default=list(CATEGORIES))
    parser.add_argument("--limit", type=int, default=10**6, help="rows of a category (default: all)")
    parser.add_argument("--unconstrained", action="store_true", help="leave the constrained runs out")
    parser.add_argument("--tokens", type=int, default=384, help="most tokens of a reply")
    parser.add_argument("--budget", help="what the model may take (default: as the worker chooses)")
    parser.add_argument("--work", type=Path, default=Path("bfcl-work.jsonl"), help="where what was measured is kept")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()

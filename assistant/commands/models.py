"""`assistant models`: the catalogue, what fits this machine, pulling and removing."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from assistant import machine
from assistant.catalog import load_catalog
from assistant.commands.progress import plain_console, progress_reporter
from assistant.commands.terminal import say
from assistant.entry import PROVENANCE, ModelEntry, read_json
from assistant.errors import UsageError
from assistant.fetch import folder_size
from assistant.fit import GGUF_NOTE, Fit, fits, verdict
from assistant.places import Places, find_places
from assistant.pull import pull as fetch
from assistant.pull import remove
from assistant.settings import load_settings
from memory.budget import format_size, parse_size
from memory.geometry import Geometry

app = typer.Typer(help="List, show, pull and remove models.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="ID", help="An id, an alias or a source (file:..., hf:..., pypi:...).")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


@app.command("list", epilog="Example: assistant models list --json")
def list_models(as_json: AsJson = False) -> None:
    """List the models of the catalogue and those pulled from a source."""
    places = find_places()
    rows = [_row(entry, places) for entry in load_catalog(places).everything(places)]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("id", "present", "download", "licence", "tested"):
        table.add_column(column, overflow="fold")
    for row in rows:
        size = format_size(row["download_bytes"]) if row["download_bytes"] else "unknown"
        table.add_row(row["id"], _yes(row["present"]), size, row["licence"], _yes(row["tested"]))
    plain_console().print(table)


@app.command(epilog="Example: assistant models show qwen3-8b --budget 12GiB")
def show(
    model: Name,
    budget: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory to fit into, for example 6GiB.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a model's source, licence and geometry, and whether it fits this machine. All sizes are estimates."""
    places = find_places()
    entry = load_catalog(places).find(model)
    facts = _row(entry, places) | _facts(entry, places) | _fit(entry, places, budget)
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    _print_facts(entry, facts)


@app.command(epilog="Example: assistant models pull smollm2-135m")
def pull(model: Name, as_json: AsJson = False) -> None:
    """Download a model, verify it, convert it if it is a GGUF, and keep it. Interrupted pulls can be run again.

    The folder of the model is printed at the end; with --json, progress is one JSON object a line.
    """
    places = find_places()
    entry = load_catalog(places).find(model)
    if not as_json and not entry.present(places):
        say(f"fetching {entry.id} ({entry.size})")
    with progress_reporter(entry, as_json=as_json) as report:
        folder = fetch(entry, places, report, say)
    if not as_json:
        print(folder)


@app.command(epilog="Example: assistant models rm smollm2-135m")
def rm(model: Name, as_json: AsJson = False) -> None:
    """Remove a pulled model, and what an interrupted pull of it left. Asks nothing: it can be pulled again."""
    places = find_places()
    entry = load_catalog(places).find(model)
    freed = remove(entry, places, say)
    if as_json:
        print(json.dumps({"id": entry.id, "freed_bytes": freed}))
    else:
        print(f"Removed {entry.id}: {freed:,} bytes ({format_size(freed)}) are free again.")


def _row(entry: ModelEntry, places: Places) -> dict[str, Any]:
    present = entry.present(places)
    return {
        "id": entry.id,
        "present": present,
        "path": entry.where(places) if present else None,
        "disk_bytes": folder_size(entry.folder(places)) if present and not entry.server else None,
        "download_bytes": entry.download_bytes,
        "licence": entry.licence,
        "tested": entry.tested,
    }


def _facts(entry: ModelEntry, places: Places) -> dict[str, Any]:
    made = read_json(entry.folder(places) / PROVENANCE)
    return {
        "aliases": list(entry.aliases),
        "source": entry.source,
        "sha256": entry.sha256,
        "sha256_found": made.get("sha256"),
        "parameters": entry.parameters,
        "context": entry.context,
        "quantisations": list(entry.quantisations),
        "quirks": list(entry.quirks),
        "tool_capable": entry.tool_capable,
        "measured_mib": entry.measured_mib,
    }


def _fit(entry: ModelEntry, places: Places, budget: str | None) -> dict[str, Any]:
    geometry = entry.shape(places)
    if geometry is None:
        return {"geometry": None, "fit": None}
    here = machine.look()
    settings = load_settings(budget=budget)
    size = _size(settings.budget) if settings.budget else here.budget
    found = fits(geometry, size, here.itemsize, settings.block, stores=settings.spill, encoder=here.encoder)
    return {
        "geometry": _geometry(geometry),
        "fit": {
            "estimate": True,
            "device": here.device,
            "budget_bytes": size,
            "budget_origin": settings.origin("budget") if settings.budget else f"default for this {here.device}",
            "kv_bytes_per_token": geometry.kv_bytes_per_token(here.itemsize),
            "quantisations": [one.model_dump() | {"sum": one.sum} for one in found],
            "verdict": verdict(found, size),
        },
    }


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _geometry(geometry: Geometry) -> dict[str, Any]:
    first = geometry.layers[0]
    return {
        "layers": len(geometry.layers),
        "sliding_layers": len(geometry.sliding_layers),
        "query_heads": geometry.query_heads,
        "kv_heads": first.kv_heads,
        "head_dim": first.head_dim,
        "hidden": geometry.hidden,
        "intermediate": geometry.intermediate,
        "vocab": geometry.vocab,
        "window": geometry.window,
        "tied": geometry.tied,
    }


def _print_facts(entry: ModelEntry, facts: dict[str, Any]) -> None:
    console = plain_console()
    checksum = entry.sha256 or "no checksum recorded"
    if not entry.sha256 and facts["sha256_found"]:
        checksum = f"no checksum recorded; what was pulled has {facts['sha256_found']}"
    lines = {
        "id": entry.id + (f" (also {', '.join(entry.aliases)})" if entry.aliases else ""),
        "source": entry.source,
        "sha256": checksum,
        "download": entry.size,
        "licence": entry.licence,
        "here": facts["path"] or f"no; to get it run: {entry.pull_command}",
        "tested": _yes(entry.tested),
        "tools": _yes(entry.tool_capable),
        "quirks": " ".join(entry.quirks) or "none recorded",
        "geometry": _shape_line(facts["geometry"]) if facts["geometry"] else _unknown_shape(entry),
    }
    if entry.measured_mib:
        lines["measured"] = ", ".join(f"{name} {size} MiB" for name, size in entry.measured_mib.items())
    for name, text in lines.items():
        console.print(f"{name:<9} {text}")
    if facts["fit"]:
        _print_fit(console, entry, facts["fit"])


def _unknown_shape(entry: ModelEntry) -> str:
    return "not told by a server" if entry.server else "not known before it is pulled"


def _shape_line(shape: dict[str, Any]) -> str:
    sliding = f" ({shape['sliding_layers']} sliding)" if shape["sliding_layers"] else ""
    return (
        f"{shape['layers']} layers{sliding}, {shape['query_heads']} query heads, {shape['kv_heads']} KV heads x "
        f"{shape['head_dim']}, hidden {shape['hidden']}, MLP {shape['intermediate']}, vocabulary {shape['vocab']}, "
        f"{shape['window']} positions"
    )


def _print_fit(console: Console, entry: ModelEntry, fit: dict[str, Any]) -> None:
    budget = f"{format_size(fit['budget_bytes'])} ({fit['budget_origin']})"
    console.print(f"\nFit for this machine (estimates), budget {budget}:")
    console.print(f"KV        {fit['kv_bytes_per_token']:,} bytes per token")
    for row in fit["quantisations"]:
        one = Fit.model_validate({name: value for name, value in row.items() if name != "sum"})
        outcome = f"{one.kv_tokens:,} tokens of KV" if one.fits else f"needs {format_size(one.smallest_budget)}"
        elsewhere = "" if one.here else f"  (not how this {fit['device']} computes)"
        console.print(f"{one.quantisation:<9} {outcome}: {one.sum}{elsewhere}")
    console.print(f"verdict   {fit['verdict']}")
    if entry.origin.is_gguf:
        console.print(f"note      {GGUF_NOTE}")


def _yes(value: bool) -> str:
    return "yes" if value else "no"

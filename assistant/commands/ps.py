"""`assistant ps`: which model is loaded, who is resident, and until when."""

from __future__ import annotations

import typer

from assistant.commands.asked import asked
from assistant.commands.options import AsJson
from assistant.reports import LoadedModel, PsReport, ResidentSet
from memory.budget import format_size

app = typer.Typer()


@app.command(epilog="Example: assistant ps --json")
def ps(as_json: AsJson = False) -> None:
    """Show the loaded model, its bytes, the conversations on its device, and how long it stays. Starts no daemon."""
    report = asked(lambda client: client.ps(), start=False)
    print(report.model_dump_json() if as_json else "\n".join(lines(report)))


def lines(report: PsReport) -> list[str]:
    """The report for people."""
    shown = [line for model in report.models for line in _model(model)] or ["No model is loaded."]
    waiting = [f"waiting: {report.queue}"] if report.queue else []
    return shown + waiting + ([report.notice] if report.notice else [])


def _model(model: LoadedModel) -> list[str]:
    if model.model is None:
        doing = "is starting" if model.state == "starting" else "waits"
        return [f"No model is loaded; worker {model.worker_pid} {doing}, {_until(model)}"]
    split = model.memory
    if split.elsewhere:
        return [f"{model.model}: on a server, worker {model.worker_pid}, {_until(model)}"]
    parts = {"weights": split.weights, "KV": split.kv, "staging": split.staging, "activations": split.activations}
    sizes = ", ".join(f"{name} {format_size(size)}" for name, size in parts.items() if size)
    return [
        f"{model.model}: {model.quant} on {model.device}, worker {model.worker_pid}, {_until(model)}",
        f"  budget {format_size(split.budget)}: {sizes}",
        *(f"  {_resident(one)}" for one in model.resident),
    ]


def _until(model: LoadedModel) -> str:
    if model.for_ever:
        return "stays until it is unloaded"
    if model.expires_s is None:
        return "at work"
    minutes, seconds = divmod(round(model.expires_s), 60)
    return f"stays for {minutes} min {seconds} s more"


def _resident(one: ResidentSet) -> str:
    left = "" if one.pinned_s is None else f" for {one.pinned_s:.0f} s"
    pinned = f", pinned by {one.pinned_by}{left}" if one.pinned_by else ""
    return f"{one.conversation}: {one.entries:,} of {one.tokens:,} tokens, {format_size(one.bytes)}{pinned}"

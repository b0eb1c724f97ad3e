"""`assistant mem`: where every byte lies, by tier and by purpose. The text twin of the app's memory panel."""

from __future__ import annotations

import asyncio
import json

import typer
from rich.table import Table

from assistant.client import Client
from assistant.commands.options import AsJson
from assistant.commands.progress import plain_console
from assistant.commands.terminal import without_controls
from assistant.protocol import KvStatus, MemoryReport, TierUse
from memory.budget import format_size

app = typer.Typer()


@app.command(epilog="Example: assistant mem --json")
def mem(as_json: AsJson = False) -> None:
    """Show bytes by tier (device, RAM, disk) and by purpose; what the parts do not account for has its own line."""
    report = asyncio.run(_report())
    if as_json:
        print(json.dumps(as_record(report)))
    else:
        show(report)


def show(report: MemoryReport) -> None:
    """The report as tables."""
    console = plain_console()
    loaded = f"{report.model} ({report.memory.device}, weights {report.memory.quant})"
    console.print(f"Model: {loaded if report.model else 'none loaded'}")
    console.print(_tiers(report.kv))
    if report.kv.sets:
        console.print(_sets(report.kv))
    if report.kv.layers:
        limits = " ".join(str(count) for count in report.kv.layers)
        console.print(f"A layer holds at most (entries, first layer to last): {limits}", soft_wrap=True)
    if report.kv.counters:
        counted = (f"{name.replace('_', ' ')} {count:,}" for name, count in report.kv.counters.items())
        console.print(f"Since the model was loaded: {', '.join(counted)}")
    if report.kv.notice:
        console.print(without_controls(report.kv.notice))


def as_record(report: MemoryReport) -> dict[str, object]:
    """The report with each tier's gap written out."""
    record = report.model_dump()
    for name in ("device", "ram", "disk"):
        record["kv"][name]["gap"] = getattr(report.kv, name).gap
    return record


async def _report() -> MemoryReport:
    async with await Client.connect() as client:
        return await client.memory()


def _tiers(kv: KvStatus) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("tier", "purpose", "size", ""):
        table.add_column(column, justify="right" if column == "size" else "left")
    _tier(table, "device", kv.device, ("planned", "measured now"), "budget")
    _tier(table, "RAM", kv.ram, ("counted", "allocated"), "limit")
    _tier(table, "disk", kv.disk, ("counted", "measured now"), "limit")
    return table


def _tier(table: Table, name: str, use: TierUse, known: tuple[str, str], limit: str) -> None:
    """The tier's parts, the gap to its total, that total, and its limit; `known`: how parts and total are known."""
    if not use.total and not any(use.parts.values()):
        table.add_row(name, "not used", "", "")
        return
    for purpose, size in use.parts.items():
        table.add_row(name, purpose, format_size(size), known[0])
    if use.gap:
        what = "not accounted for" if use.gap > 0 else "planned, not in use"
        table.add_row(name, what, format_size(use.gap), "difference")
    table.add_row(name, "total", format_size(use.total), known[1])
    if use.limit is not None:
        table.add_row(name, limit, format_size(use.limit), "as set")
    table.add_section()


def _sets(kv: KvStatus) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("resident conversation", "state", "tokens", "entries", "size"):
        table.add_column(column, justify="left" if column in ("resident conversation", "state") else "right")
    for one in kv.sets:
        name = without_controls(one.conversation)
        table.add_row(name, one.state, f"{one.tokens:,}", _span(one.least, one.entries), format_size(one.bytes))
    return table


def _span(least: int | None, most: int) -> str:
    return f"{most:,}" if least in (None, most) else f"{least:,}-{most:,}"

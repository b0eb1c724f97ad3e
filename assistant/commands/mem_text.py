"""What `assistant mem` prints for people: the meter, the tiers, the ledger, and a plan against the one in force."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from assistant.commands.progress import plain_console
from assistant.controls import without_controls
from assistant.reports import KvStatus, MemoryReport, MemorySplit, ResidentSet, StoredUse, TierUse
from assistant.views.forecast import Forecast
from assistant.views.held import Held
from assistant.views.ledger import BYTES, Entry, counted, hit_rate
from assistant.views.meter import Meter, Surroundings, cells, meter, surroundings
from assistant.views.plan import Line, compare, consequence, written
from memory.budget import format_size

BAR = 64
"""Characters of the meter."""


def show(report: MemoryReport, expected: Forecast | None = None, parts: Sequence[Held] = ()) -> None:
    """The report: the meter, a table of the tiers, what conversations and episodes hold, what was counted."""
    console = plain_console()
    console.print(f"Model: {f'{report.model} ({report.memory.where})' if report.model else 'none loaded'}")
    if (drawn := meter(report)) is not None:
        for line in meter_lines(drawn, surroundings(report)):
            console.print(line, soft_wrap=True)
    console.print(_tiers(report.kv))
    if report.kv.sets:
        console.print(_sets(report.kv))
    if report.kv.ram.conversations or report.kv.disk.conversations:
        console.print(_conversations(report.kv))
    if parts:
        console.print(_episodes(parts))
    for line in fork_lines(report.kv):
        console.print(line, soft_wrap=True)
    if report.kv.layers:
        limits = " ".join(str(count) for count in report.kv.layers)
        console.print(f"A layer holds at most (entries, first layer to last): {limits}", soft_wrap=True)
    if expected is not None:
        console.print(expected.sentence(), soft_wrap=True)
    if report.kv.notice:
        console.print(without_controls(report.kv.notice))
    if report.kv.counters:
        console.print(_counters(report.kv), soft_wrap=True)


def meter_lines(drawn: Meter, outside: Surroundings | None) -> list[str]:
    """The bar, what its shapes stand for, and how it compares with what was measured."""
    widths = cells(drawn.parts, BAR)
    bar = "".join(part.shape * width for part, width in zip(drawn.parts, widths, strict=True))
    lines = [f"Budget {format_size(drawn.budget)}, {format_size(drawn.measured)} in use", f"[{bar}]"]
    lines.append("  ".join(f"{part.shape} {part.name} {format_size(part.bytes)}" for part in drawn.parts))
    if drawn.unused:
        lines.append(f"{format_size(drawn.unused)} of what is set aside is not in use now.")
    if drawn.over:
        lines.append(f"{format_size(drawn.over)} more than the budget.")
    if outside is not None:
        beside = "".join(f" + {part.name} {format_size(part.bytes)}" for part in outside.parts)
        gap = f", {format_size(outside.gap)} unaccounted" if outside.gap else ""
        lines.append(f"The system sees {format_size(outside.seen)}: in use {format_size(outside.ours)}{beside}{gap}")
    return lines


def fork_lines(kv: KvStatus) -> list[str]:
    """A line for every conversation that was forked from another one, or begins with rows of one."""
    return [_fork(one) for one in kv.stored if one.shared or one.origin is not None]


def show_ledger(name: str | None, entries: Sequence[Entry]) -> None:
    """What happened to the tokens of a conversation, the latest last."""
    console = plain_console()
    if not entries:
        console.print("Nothing has left the working set, and nothing was read again.")
        return
    table = Table(box=None, pad_edge=False, title=without_controls(name or ""), title_justify="left")
    for column in ("turn", "when", "what"):
        table.add_column(column, justify="right" if column == "turn" else "left", no_wrap=column != "what")
    for one in entries:
        table.add_row(str(one.turn), one.created[:16].replace("T", " "), without_controls(one.text))
    console.print(table)


def show_plan(report: MemoryReport, planned: MemorySplit, stored: int | None) -> None:
    """The plan in force and the other one, side by side."""
    console = plain_console()
    table = Table(box=None, pad_edge=False)
    for column in ("", "now", f"with {format_size(planned.budget)}"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    table.add_row("budget", format_size(report.memory.budget) if report.memory.budget else "-", _size(planned.budget))
    for line in compare(report.memory, planned, stored):
        table.add_row(line.what, figure(line, line.now), figure(line, line.then))
    console.print(table)
    console.print(consequence(report.memory, planned), soft_wrap=True)
    console.print(f"Nothing was changed. To use it: assistant chat --budget {written(planned.budget)}", soft_wrap=True)


def figure(line: Line, value: float | str | None) -> str:
    """A figure as its unit is written."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return {"bytes": _size(int(value)), "share": f"{value:.0%}"}.get(line.unit, f"{value:,.0f}")


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
        what = "not accounted for" if use.gap > 0 else "set aside, not in use"
        table.add_row(name, what, format_size(use.gap), "difference")
    table.add_row(name, "total", format_size(use.total), known[1])
    if use.limit is not None:
        table.add_row(name, limit, format_size(use.limit), "as set")
    table.add_section()


def _sets(kv: KvStatus) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("resident conversation", "state", "tokens", "entries", "size", "pinned"):
        table.add_column(column, justify="right" if column in ("tokens", "entries", "size") else "left")
    for one in kv.sets:
        name = without_controls(one.conversation)
        size = format_size(one.bytes)
        table.add_row(name, one.state, f"{one.tokens:,}", _span(one.least, one.entries), size, _pin(one))
    return table


def _pin(one: ResidentSet) -> str:
    """Who is waited for, and how long the pin lasts."""
    if one.pinned_by is None:
        return ""
    left = "" if one.pinned_s is None else f", {one.pinned_s:.1f} s"
    return f"for {without_controls(one.pinned_by)}{left}"


def _conversations(kv: KvStatus) -> Table:
    """What each conversation holds in every tier."""
    table = Table(box=None, pad_edge=False)
    for column in ("conversation", "device", "RAM", "disk"):
        table.add_column(column, justify="left" if column == "conversation" else "right")
    tiers = (kv.device.conversations, kv.ram.conversations, kv.disk.conversations)
    for name in dict.fromkeys(name for tier in tiers for name in tier):
        table.add_row(without_controls(name), *(_size(tier.get(name, 0)) for tier in tiers))
    return table


def _episodes(parts: Sequence[Held]) -> Table:
    """What the episodes of one conversation hold."""
    table = Table(box=None, pad_edge=False)
    table.add_column("episode", overflow="ellipsis", no_wrap=True)
    for column in ("tokens", "device", "disk"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in parts:
        name = "belongs to none yet" if one.episode is None else f"{one.episode} {without_controls(one.title)}"
        table.add_row(name, f"{one.tokens:,}", _size(one.device), _size(one.disk))
    return table


def _fork(one: StoredUse) -> str:
    name, origin = without_controls(one.conversation), without_controls(one.origin or "another conversation")
    if not one.own:
        return f"{name}, forked from {origin}: 0 B of its own until it diverges"
    return f"{name}, forked from {origin}: {format_size(one.own)} of its own, {format_size(one.shared)} shared"


def _counters(kv: KvStatus) -> str:
    told = [f"{words} {_size(count) if words == BYTES else f'{count:,}'}" for words, count in counted(kv.counters)]
    rate = hit_rate(kv.counters)
    hits = [] if rate is None else [f"of the rows read {rate:.0%} were in RAM"]
    return f"Since the model was loaded: {', '.join([*hits, *told])}"


def _size(size: int) -> str:
    return format_size(size) if size else "0"


def _span(least: int | None, most: int) -> str:
    return f"{most:,}" if least in (None, most) else f"{least:,}-{most:,}"

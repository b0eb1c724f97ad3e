"""What the memory screen shows: meter, forecast, tiers, conversations, counters and ledger. Pure: no Textual."""

from __future__ import annotations

from collections.abc import Sequence

from assistant.protocol import Episodes, Turn
from assistant.reports import KvStatus, MemoryReport, StoredUse, TierUse
from assistant.views.forecast import forecast
from assistant.views.held import Held, held
from assistant.views.ledger import BYTES, counted, hit_rate, ledger
from assistant.views.meter import Meter, Surroundings, cells, meter, surroundings
from tui.figures import count, size
from tui.panels.lines import QUIET, Line, heading, table, wrapped

NEWEST = 40
"""Entries of the ledger that are shown, the latest first."""

LARGEST = 12
"""Episodes that are shown, the largest first."""

STYLES = {
    "weights": "$primary",
    "working sets": "$success",
    "free KV": "$success 65%",
    "staging": "$secondary",
    "activations": "$warning",
    "process": "$foreground 45%",
    "RAM tier": "$accent",
    "unaccounted": "bold $error",
    "free": "$foreground 45%",
}


def memory_lines(
    report: MemoryReport, turns: Sequence[Turn], name: str | None, width: int, found: Episodes | None = None
) -> list[Line]:
    """All of it, for a screen `width` cells wide; `turns` and `found` are of the open conversation."""
    drawn = meter(report)
    lines = [[(_unloaded(report), QUIET)]] if drawn is None else _meter(drawn, width)
    if (outside := surroundings(report)) is not None:
        lines.append(_outside(outside))
    if name is not None:
        lines += [*heading(f"Forecast for {name}"), [(forecast(turns, report.memory).sentence(), "")]]
    lines += [*heading("Tiers"), *_tiers(report.kv, width)]
    if rows := _conversations(report.kv):
        lines += [
            *heading("Conversations, bytes"),
            *table(rows, (1, 2, 3), width, ("", "", "", "")),
            *_forks(report.kv),
        ]
    if name is not None and found is not None and (parts := held(found, report.kv, name)):
        lines += [*heading(f"Episodes of {name}, bytes"), *_episodes(parts, width)]
    if report.kv.notice:
        lines += [[], [(report.kv.notice, "$warning")]]
    if report.kv.counters:
        lines += [*heading("Counted since the model was loaded"), *_counters(report.kv, width)]
    return lines + _ledger(turns)


def _unloaded(report: MemoryReport) -> str:
    if report.memory.elsewhere:
        return "The model runs on a server: nothing of it is in memory here."
    return "No model is loaded: it is, with the next message."


def _meter(drawn: Meter, width: int) -> list[Line]:
    room = max(width - 2, 8)
    widths = cells(drawn.parts, room)
    bar = [(part.shape * many, STYLES.get(part.name, "")) for part, many in zip(drawn.parts, widths, strict=True)]
    legend = [(f"{part.shape} {part.name} {size(part.bytes)}", STYLES.get(part.name, "")) for part in drawn.parts]
    used = f"{size(drawn.measured)} in use of a budget of {size(drawn.budget)}"
    lines: list[Line] = [[(used, "bold")], [("[", "dim"), *bar, ("]", "dim")], *wrapped(legend, width)]
    if drawn.unused:
        lines.append([(f"{size(drawn.unused)} of what is set aside is not in use now.", QUIET)])
    if drawn.over:
        lines.append([(f"{size(drawn.over)} more than the budget.", "bold $error")])
    return lines


def _outside(outside: Surroundings) -> Line:
    beside = "".join(f" + {part.name} {size(part.bytes)}" for part in outside.parts)
    gap = f", {size(outside.gap)} unaccounted" if outside.gap else ""
    return [(f"The system sees {size(outside.seen)}: in use {size(outside.ours)}{beside}{gap}", QUIET)]


def _tiers(kv: KvStatus, width: int) -> list[Line]:
    rows = [("tier", "purpose", "size", "")]
    rows += _tier("device", kv.device, ("planned", "measured now"), "budget")
    rows += _tier("RAM", kv.ram, ("counted", "allocated"), "limit")
    rows += _tier("disk", kv.disk, ("counted", "measured now"), "limit")
    return table(rows, (2,), width, ("", "", "", QUIET))


def _tier(name: str, use: TierUse, known: tuple[str, str], limit: str) -> list[tuple[str, str, str, str]]:
    """`known`: how the parts and the total are known."""
    if not use.total and not any(use.parts.values()):
        return [(name, "not used", "", "")]
    rows = [(name, purpose, size(held), known[0]) for purpose, held in use.parts.items() if held]
    if use.gap:
        rows.append((name, "unaccounted" if use.gap > 0 else "set aside, not in use", _signed(use.gap), "difference"))
    rows.append((name, "total", size(use.total), known[1]))
    return rows if use.limit is None else [*rows, (name, limit, size(use.limit), "as set")]


def _signed(number: int) -> str:
    return size(number) if number >= 0 else f"-{size(-number)}"


def _conversations(kv: KvStatus) -> list[tuple[str, str, str, str]]:
    tiers = (kv.device.conversations, kv.ram.conversations, kv.disk.conversations)
    names = dict.fromkeys(name for tier in tiers for name in tier)
    if not names:
        return []
    held = [(name, *(size(tier[name]) if name in tier else "-" for tier in tiers)) for name in names]
    return [("", "device", "RAM", "disk"), *held]  # type: ignore[list-item]


def _forks(kv: KvStatus) -> list[Line]:
    """What forks share with where they come from."""
    return [[(_fork(one), QUIET)] for one in kv.stored if one.shared or one.origin is not None]


def _fork(one: StoredUse) -> str:
    origin = one.origin or "another conversation"
    if not one.own:
        return f"{one.conversation}, forked from {origin}: 0 B of its own until it diverges"
    return f"{one.conversation}, forked from {origin}: {size(one.own)} of its own, {size(one.shared)} shared"


def _episodes(parts: Sequence[Held], width: int) -> list[Line]:
    rows = [("", "tokens", "device", "disk")]
    for one in parts[:LARGEST]:
        named = "belongs to none yet" if one.episode is None else f"{one.episode} {one.title}"
        rows.append(
            (named, count(one.tokens), size(one.device) if one.device else "-", size(one.disk) if one.disk else "-")
        )
    lines = table(rows, (1, 2, 3), width)
    return [*lines, [(f"{count(len(parts) - LARGEST)} smaller ones", QUIET)]] if len(parts) > LARGEST else lines


def _counters(kv: KvStatus, width: int) -> list[Line]:
    rate = hit_rate(kv.counters)
    rows = [] if rate is None else [("of the rows read, in RAM", f"{rate:.0%}")]
    rows += [(words, size(many) if words == BYTES else count(many)) for words, many in counted(kv.counters)]
    return table(rows, (1,), width)


def _ledger(turns: Sequence[Turn]) -> list[Line]:
    entries = ledger(turns)
    if not entries:
        return [*heading("Ledger"), [("Nothing has left the working set, and nothing was read again.", QUIET)]]
    lines = heading("Ledger, the latest first")
    for one in list(reversed(entries))[:NEWEST]:
        lines.append([(f"turn {one.turn}  ", QUIET), (one.text, "$warning" if one.kind == "recomputed" else "")])
    if len(entries) > NEWEST:
        lines.append([(f"{count(len(entries) - NEWEST)} earlier ones: assistant mem --ledger", QUIET)])
    return lines

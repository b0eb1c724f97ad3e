"""`assistant mem`: where every byte lies, by tier and by purpose. The text twin of the app's memory panel."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from assistant.client import Client
from assistant.commands.asked import In, asked, latest
from assistant.commands.mem_text import show, show_ledger, show_plan
from assistant.commands.options import AsJson
from assistant.protocol import Episodes, Turn
from assistant.reports import MemoryReport, MemorySplit
from assistant.views.forecast import forecast
from assistant.views.held import held
from assistant.views.ledger import ledger
from assistant.views.meter import meter, surroundings
from assistant.views.plan import compare, consequence

app = typer.Typer()

Ledger = Annotated[bool, typer.Option("--ledger", help="What left the working set, came back, was read again.")]
Planned = Annotated[str | None, typer.Option("--plan", metavar="SIZE", help="What this budget would come to.")]


@app.command(epilog="Example: assistant mem --plan 700MiB")
def mem(conversation: In = None, with_ledger: Ledger = False, budget: Planned = None, as_json: AsJson = False) -> None:
    """Show bytes by tier (device, RAM, disk) and by purpose; what the parts do not account for has its own line.

    With --ledger, what happened to the tokens of a conversation, reply by reply. With --plan, what another budget would
    come to, before it is used; exit code 5 when it would not hold the model.
    """
    name, report, turns, found, planned = asked(lambda client: _ask(client, conversation, budget))
    if planned is not None:
        _out(plan_record(report, planned, turns)) if as_json else show_plan(report, planned, _stored(turns))
    elif as_json:
        episodes = [asdict(one) for one in held(found, report.kv, name or "")]
        _out(as_record(report) | of_conversation(name, report, turns) | {"episodes": episodes})
    elif with_ledger:
        show_ledger(name, ledger(turns))
    else:
        show(report, forecast(turns, report.memory) if name is not None else None, held(found, report.kv, name or ""))


def as_record(report: MemoryReport) -> dict[str, Any]:
    """The report with each tier's gap written out, and the meter."""
    record = report.model_dump()
    for name in ("device", "ram", "disk"):
        record["kv"][name]["gap"] = getattr(report.kv, name).gap
    drawn, outside = meter(report), surroundings(report)
    record["meter"] = None if drawn is None else asdict(drawn)
    record["outside"] = None if outside is None else asdict(outside)
    return record


def of_conversation(name: str | None, report: MemoryReport, turns: list[Turn]) -> dict[str, Any]:
    """What is known of the conversation that was asked about."""
    expected = forecast(turns, report.memory)
    return {
        "conversation": name,
        "forecast": asdict(expected) | {"estimate": True, "sentence": expected.sentence()},
        "ledger": [asdict(entry) for entry in ledger(turns)],
    }


def plan_record(report: MemoryReport, planned: MemorySplit, turns: list[Turn]) -> dict[str, Any]:
    """The plan in force, the one that was asked about, and the two line by line."""
    lines = compare(report.memory, planned, _stored(turns))
    plans = {"now": report.memory.model_dump(), "then": planned.model_dump()}
    return plans | {"lines": [asdict(one) for one in lines], "consequence": consequence(report.memory, planned)}


def _stored(turns: list[Turn]) -> int | None:
    """Tokens of the conversation, as its last reply counted them."""
    return next((turn.usage.stored_tokens for turn in reversed(turns) if turn.usage is not None), None)


def _out(record: dict[str, Any]) -> None:
    print(json.dumps(record, ensure_ascii=False))


async def _ask(
    client: Client, conversation: str | None, budget: str | None
) -> tuple[str | None, MemoryReport, list[Turn], Episodes, MemorySplit | None]:
    planned = None if budget is None else await client.plan(budget)
    name = conversation or await latest(client)
    turns = [] if name is None else await client.all_turns(name)
    found = Episodes() if name is None else await client.episodes(name)
    return name, await client.memory(), turns, found, planned

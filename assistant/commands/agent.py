"""`assistant agent`: a task, tools, and a model that uses them until it has an answer."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel

from assistant.agent.arguments import check_schema
from assistant.agent.events import Ending, Message, Note, line
from assistant.agent.limits import Limits
from assistant.agent.loop import Terms
from assistant.agent.mcp import servers
from assistant.agent.policy import load_policy
from assistant.agent.run import Wanted, failed, mcp_of, run, start, toolbox_of
from assistant.agent.sandbox import find_sandbox
from assistant.catalog import load_catalog
from assistant.client import Client
from assistant.commands import options as opt
from assistant.commands.approver import approver_at_terminal
from assistant.commands.asked import asked
from assistant.commands.supply import supply_model
from assistant.commands.terminal import checked_name, read_prompt, say, show
from assistant.errors import AssistantError, Exit, UsageError
from assistant.places import find_places
from assistant.protocol import Sampling
from assistant.settings import Settings, load_settings

app = typer.Typer()

Output = Literal["text", "json", "stream-json"]

Task = Annotated[str | None, typer.Argument(metavar="TASK", help="What to do; also from standard input.")]
Tools = Annotated[Path | None, typer.Option(metavar="FILE", help="A Python file whose typed functions are the tools.")]
Mcp = Annotated[
    Path | None, typer.Option("--mcp", metavar="FILE", help="MCP servers whose tools are offered too, as JSON.")
]
Builtin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A built-in tool beside those of the files; may be given again. Without a file: all but shell.",
    ),
]
As = Annotated[
    Output, typer.Option("--output", metavar="FORM", help="text, json (the result) or stream-json (every event).")
]
Deltas = Annotated[bool, typer.Option("--deltas", help="stream-json tells pieces of messages too.")]
Schema = Annotated[Path | None, typer.Option(metavar="FILE", help="JSON schema that the answer must follow.")]
Into = Annotated[Path | None, typer.Option("-o", "--output-file", metavar="FILE", help="Write the answer there too.")]
Resume = Annotated[str | None, typer.Option(metavar="RUN", help="Go on with this run, or with the `last`.")]
Fork = Annotated[str | None, typer.Option(metavar="RUN", help="Begin a run with all that this one has done.")]
Approve = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Allow this tool; may be given again.")]
Rules = Annotated[Path | None, typer.Option("--rules", metavar="FILE", help="A policy of calls, beside your own.")]
Headless = Annotated[bool, typer.Option("--headless", help="Ask nobody, even at a terminal.")]
Turns = Annotated[int, typer.Option("--max-turns", metavar="N", min=1, max=1000, help="At most this many replies.")]
Timeout = Annotated[float | None, typer.Option(metavar="S", min=0.001, help="Seconds that the whole run may take.")]
ToolTimeout = Annotated[float, typer.Option(metavar="S", min=0.001, help="Seconds that one call may take.")]
Sandboxed = Annotated[
    str | None, typer.Option("--sandbox", metavar="KIND", help="bubblewrap, landlock or none; else the best.")
]
Dry = Annotated[bool, typer.Option("--dry-run", help="Say what there is to work with, and do nothing.")]
Listed = Annotated[bool, typer.Option("--list", help="List the runs, and do nothing.")]
Batch = Annotated[bool, typer.Option("--batch", help="Let everything else go first.")]
Free = Annotated[bool, typer.Option("--unconstrained", help="Let the model write calls that cannot be read.")]
Named = Annotated[str | None, typer.Option(metavar="NAME", help="Name of the run's conversation.")]


@app.command(epilog='Example: assistant agent --tools examples/tools.py "What is 17 * 23?"')
@opt.with_flags(opt.ENGINE | opt.DECODING)
def agent(
    flags: dict[str, Any],
    task: Task = None,
    tools: Tools = None,
    mcp: Mcp = None,
    builtin: Builtin = None,
    output: As = "text",
    deltas: Deltas = False,
    output_schema: Schema = None,
    into: Into = None,
    resume: Resume = None,
    fork: Fork = None,
    approve: Approve = None,
    rules: Rules = None,
    headless: Headless = False,
    max_turns: Turns = 20,
    timeout: Timeout = None,
    tool_timeout: ToolTimeout = 30.0,
    sandbox: Sandboxed = None,
    dry_run: Dry = False,
    listed: Listed = False,
    batch: Batch = False,
    unconstrained: Free = False,
    name: Named = None,
    system: opt.System = None,
) -> int:
    """Give a task to a model with tools. A call that it may not make by itself ends the run, which can be resumed."""
    if listed:
        _list(output)
        return 0
    teller = Teller(output, into)
    try:
        settings = load_settings(**flags)
        places = find_places()
        wanted = Wanted(
            task=_task(task, resume, fork),
            terms=Terms(
                sampling=_sampling(settings),
                engine=opt.engine_of(settings),
                turns=max_turns,
                constrained=not unconstrained,
                answer=None if output_schema is None else _schema(output_schema),
                urgency="batch" if batch else "agent",
                deltas=deltas,
            ),
            places=places,
            policy=load_policy(places, rules),
            tools=tools,
            mcp=mcp,
            builtin=None if builtin is None else tuple(builtin),
            resume=resume,
            fork=fork,
            name=None if name is None else checked_name(name),
            system=system,
            **_model(settings),
            approved=frozenset(approve or ()),
            approver=None if headless or output != "text" else approver_at_terminal(),
            sandbox=find_sandbox(sandbox),
            limits=Limits(seconds=tool_timeout),
            timeout_s=timeout,
        )
        if dry_run:
            show(asyncio.run(_dry(wanted)))
            return 0
        return asyncio.run(_run(settings, wanted, teller)).exit_code
    except AssistantError as error:
        if output == "text":
            raise
        teller.tell(failed(error))
        return error.exit_code


class Teller:
    """Events as the user wants them: the answer alone, the result alone, or every event as a line."""

    def __init__(self, output: Output, into: Path | None) -> None:
        self._output = output
        self._into = into

    def tell(self, event: BaseModel) -> None:
        """Say an event on standard output, or what is of use beside it on standard error."""
        if isinstance(event, Ending) and event.ok and self._into is not None:
            _write(self._into, event.text)
        if self._output == "stream-json" or (self._output == "json" and isinstance(event, Ending)):
            print(line(event), flush=True)
        elif self._output == "text":
            self._aloud(event)

    def _aloud(self, event: BaseModel) -> None:
        match event:
            case Ending(ok=True):
                show(event.text)
            case Ending():
                resumable = event.run and event.exit_code != Exit.USAGE
                say(event.text + (f" Resume it with: assistant agent --resume {event.run}" if resumable else ""))
            case Message(calls=0):
                pass
            case Message():
                if event.text.strip():
                    say(event.text.strip())
            case Note():
                say(event.text)
            case _ if (told := getattr(event, "state", None)) in ("running", "failed", "timeout", "denied"):
                say(_call_line(event, told))


def _call_line(event: Any, told: str) -> str:
    arguments = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in event.arguments.items())
    return f"{event.tool}({arguments})" + ("" if told == "running" else f" {told}: {event.result}")


async def _run(settings: Settings, wanted: Wanted, teller: Teller) -> Ending:
    async with await Client.connect() as client:
        await supply_model(client, settings)
        if wanted.old is None:
            _warn(wanted.model)
        return await run(client, wanted, teller.tell)


def _warn(model: str) -> None:
    """Say it of a model that is known to call tools badly, and which ones are better."""
    listed = load_catalog(find_places()).entries
    if model in listed and not listed[model].tool_capable:
        better = ", ".join(entry.id for entry in listed.values() if entry.tool_capable)
        say(f"{model} calls tools badly, so that its answers may be wrong; made for tools: {better} (--model)")


def _list(output: Output) -> None:
    programs = asked(lambda client: client.programs())
    if output != "text":
        print(json.dumps([program.model_dump(exclude={"tools", "about"}) for program in programs]))
        return
    for one in programs:
        first = one.task.splitlines()[0]
        show(f"{one.id} · {one.state} · {one.updated[:16]} · {one.steps} step{'s' * (one.steps != 1)} · {first}")


async def _dry(wanted: Wanted) -> str:
    async with servers(mcp_of(wanted, {})) as more:
        return line(start(wanted, None, toolbox_of(wanted, {}, more)))


def _task(task: str | None, resume: str | None, fork: str | None) -> str | None:
    if resume and fork:
        raise UsageError("Give --resume or --fork, not both.")
    if not (resume or fork):
        return read_prompt(task, 'assistant agent "What is 17 * 23?"')
    if task:
        raise UsageError("A run that goes on has its task already; leave it out.")
    return None


def _sampling(settings: Settings) -> Sampling:
    """A call repeats names and punctuation: only who asks for a penalty gets one."""
    sampling = opt.sampling_of(settings, None)
    return (
        sampling
        if opt.is_set(settings, "repetition_penalty")
        else sampling.model_copy(update={"repetition_penalty": 1.0})
    )


def _model(settings: Settings) -> dict[str, Any]:
    entry = load_catalog(find_places()).find(settings.model)
    return {"model": entry.id, "source": entry.source}


def _schema(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"The schema {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"The schema {path} is no JSON: {error}.") from None
    if not isinstance(schema, dict):
        raise UsageError(f"The schema {path} is no JSON schema of an answer: it must be an object.")
    check_schema(schema, f"the answer ({path})")
    return schema


def _write(path: Path, text: str) -> None:
    """The whole answer or the file as it was."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text + "\n")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        say(f"the answer could not be written to {path}: {error.strerror}")

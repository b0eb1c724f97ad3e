"""The command line: finds the command, runs it, turns how it ended into an exit code.

`chat` belongs to the floor above and is found through its entry point before anything else is imported, so that its
first frame waits for nothing; every other command is a module of `assistant.commands`, imported when it is called.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from importlib.metadata import distribution
from typing import TYPE_CHECKING, Any

from assistant.errors import AssistantError, Exit, UsageError, VersionSkew

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    import typer
    from typer.exceptions import TyperException

DISTRIBUTION = "on-device-assistant"
COMPLETE = "_ASSISTANT_COMPLETE"
"""Set by the script of `assistant completions`: a shell asks what could come next."""
COMMANDS = {
    "chat": "assistant.commands.plain",
    "ask": "assistant.commands.ask",
    "agent": "assistant.commands.agent",
    "import": "assistant.commands.bring",
    "export": "assistant.commands.export",
    "conversations": "assistant.commands.conversations",
    "search": "assistant.commands.search",
    "tools": "assistant.commands.tools",
    "models": "assistant.commands.models",
    "daemon": "assistant.commands.daemon",
    "ps": "assistant.commands.ps",
    "mem": "assistant.commands.mem",
    "map": "assistant.commands.map",
    "why": "assistant.commands.why",
    "bench": "assistant.commands.bench",
    "doctor": "assistant.commands.doctor",
    "config": "assistant.commands.config",
    "completions": "assistant.commands.completions",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    os.umask(0o077)
    args = sys.argv[1:] if argv is None else argv
    ending = _Ending()
    try:
        if COMPLETE in os.environ:
            return _complete()
        if args[:1] == ["chat"] and _wants_app(args):
            return _chat(args[1:])
        signal.signal(signal.SIGTERM, ending.terminate)
        return ending.named(_finished(_run(args)))
    except AssistantError as error:
        print(f"assistant: {error}", file=sys.stderr)
        return _renewed(error, args, ending)
    except KeyboardInterrupt:
        return ending.code
    except BrokenPipeError:
        return _hang_up()


def _wants_app(args: list[str]) -> bool:
    """Whether the terminal app is wanted: on a terminal, with `--web`, which brings its own, and for its flags."""
    if "--plain" in args:
        return False
    return bool({"--web", "--help"} & set(args)) or (sys.stdin.isatty() and sys.stdout.isatty())


def _chat(args: list[str]) -> int:
    """The chat that this program's own distribution registers; looking through all installed ones takes longer."""
    for found in distribution(DISTRIBUTION).entry_points.select(group="assistant.commands", name="chat"):
        return int(found.load()(args))
    if "--help" in args:
        return _run(["chat", *args])
    raise UsageError("No terminal app is installed with this program. Run: assistant chat --plain")


def _renewed(error: AssistantError, args: list[str], ending: _Ending) -> int:
    """The exit code after an error; a daemon of another version is replaced, and the command run again, if wanted."""
    if not isinstance(error, VersionSkew):
        return error.exit_code
    import asyncio

    from assistant.connection import restart

    try:
        if not _wants_restart(args):
            return error.exit_code
        asyncio.run(restart())
    except AssistantError as failed:
        print(f"assistant: {failed}", file=sys.stderr)
        return failed.exit_code
    except KeyboardInterrupt:
        return ending.code
    return main(args)


def _wants_restart(args: list[str]) -> bool:
    """Ask somebody who can answer."""
    if "--json" in args or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print("Restart it now? A reply that it writes is stopped and kept. [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _run(args: list[str]) -> int:
    from asyncio import CancelledError

    from typer.exceptions import Abort, TyperException

    name = args[0] if args and args[0] in COMMANDS else None
    try:
        if name is None:
            result = _command(_all()).main(args, prog_name="assistant", standalone_mode=False)
        else:
            result = _command(_app(name)).main(args[1:], prog_name=f"assistant {name}", standalone_mode=False)
    except TyperException as error:
        if not (what := error.format_message().rstrip(".")):  # the help was printed instead
            return Exit.USAGE
        stop = "" if what.endswith("?") else "."
        raise UsageError(f"{what}{stop} See: {_path_of(error, name)} --help") from None
    except (Abort, CancelledError):
        raise KeyboardInterrupt from None
    return result if isinstance(result, int) else Exit.OK


def _path_of(error: TyperException, name: str | None) -> str:
    """The command whose help explains an error: that of a group, where the error is one of its own."""
    found = getattr(getattr(error, "ctx", None), "command_path", None)
    return found or f"assistant {name or ''}".rstrip()


def _complete() -> int:
    """Answer a shell: the words that could come next."""
    from typer._completion_classes import completion_init

    completion_init()
    words = (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()
    named = [word for word in words[1:2] if word in COMMANDS]
    return int(_command(_all(named or list(COMMANDS))).main([], prog_name="assistant", complete_var=COMPLETE))


def _all(names: Iterable[str] = tuple(COMMANDS)) -> typer.Typer:
    """The whole tree, for the general help and for words that are no command; or the commands that are named."""
    import typer

    from assistant import __version__

    app = typer.Typer(help="An on-device assistant that remembers.", no_args_is_help=True, add_completion=False)

    @app.callback(invoke_without_command=True)
    def options(
        version: bool = typer.Option(False, "--version", help="Print the version and exit."),
    ) -> None:
        """An on-device assistant that remembers everything you told it, in the memory you gave it."""
        if version:
            print(__version__)
            raise typer.Exit

    for name in names:
        part = _app(name)
        if len(part.registered_commands) == 1 and not part.registered_callback:
            command = part.registered_commands[0]
            command.name = name
            app.registered_commands.append(command)
        else:
            app.add_typer(part, name=name)
    return app


def _app(name: str) -> typer.Typer:
    app: typer.Typer = importlib.import_module(COMMANDS[name]).app
    return app


def _command(app: typer.Typer) -> Any:
    from typer.main import get_command

    app._add_completion = False
    return get_command(app)


def _finished(code: int) -> int:
    """Hand over what is still buffered while a broken pipe can be answered."""
    sys.stdout.flush()
    return code


def _hang_up() -> int:
    """Whoever read our output is gone: end without a word, also at interpreter exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.FAILED


class _Ending:
    """How an interrupted program ends: SIGTERM goes the way of Ctrl+C, and is told apart by its exit code.

    What is asynchronous is cancelled that way. An exception raised wherever the loop happened to be would leave it
    cancelling for ever.
    """

    def __init__(self) -> None:
        self.code = Exit.SIGINT

    def named(self, code: int) -> int:
        """`code`, or what an interrupt is really called: typer knows Ctrl+C alone."""
        return self.code if code == Exit.SIGINT else code

    def terminate(self, _number: int, frame: FrameType | None) -> None:
        """The handler of SIGTERM."""
        self.code = Exit.SIGTERM
        interrupt = signal.getsignal(signal.SIGINT)
        if callable(interrupt):
            interrupt(signal.SIGINT, frame)
        elif not _cancelled():  # a shell's background job ignores SIGINT
            raise KeyboardInterrupt


def _cancelled() -> bool:
    """Cancel what is asynchronous, as `asyncio.run` does with Ctrl+C; False when nothing is."""
    import asyncio

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    for task in asyncio.all_tasks(loop):
        loop.call_soon_threadsafe(task.cancel)
    return True


if __name__ == "__main__":
    sys.exit(main())

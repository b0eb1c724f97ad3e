"""`assistant config`: the settings in force, and where each comes from."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from assistant.commands.progress import plain_console
from assistant.settings import Settings, load_settings

app = typer.Typer(help="Show the settings and where they come from.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Show the settings and where they come from."""


@app.command(epilog="Example: assistant config show --origin")
def show(
    origin: Annotated[bool, typer.Option("--origin", help="Also show where each value comes from.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Show every setting: its value and, with --origin, the flag, variable, file or default it comes from.

    Order: flag > environment ASSISTANT_<FIELD> > ./assistant.toml > the user's config.toml > default.
    """
    settings = load_settings()
    rows = {name: _row(settings, name, origin=origin) for name in Settings.model_fields}
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False, show_header=True)
    for column in ("setting", "value", *(["origin"] if origin else []), "meaning"):
        table.add_column(column, overflow="fold")
    for name, row in rows.items():
        table.add_row(name, _plain(row["value"]), *([str(row["origin"])] if origin else []), str(row["description"]))
    plain_console().print(table)


def _row(settings: Settings, name: str, *, origin: bool) -> dict[str, object]:
    row: dict[str, object] = {"value": getattr(settings, name)}
    if origin:
        row["origin"] = settings.origin(name)
    return row | {"description": Settings.model_fields[name].description}


def _plain(value: object) -> str:
    return "unset" if value in (None, (), {}) else str(value)

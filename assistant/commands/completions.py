"""`assistant completions`: the script that makes a shell complete our commands, from the commands themselves."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer()


class Shell(StrEnum):
    """Shells we can be completed in."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


Which = Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]


@app.command(epilog="Example: assistant completions bash >> ~/.bashrc")
def completions(shell: Which) -> None:
    """Print the script that completes commands and options in a shell.

    bash: append it to ~/.bashrc. zsh: append it to ~/.zshrc, after compinit. fish: write it to
    ~/.config/fish/completions/assistant.fish.
    """
    from typer._completion_shared import get_completion_script

    from assistant.cli import COMPLETE

    print(get_completion_script(prog_name="assistant", complete_var=COMPLETE, shell=shell))

"""Hold a real conversation in `assistant chat`, without a terminal, and save what the screen shows as an SVG.

python docs/screenshot.py docs/chat.svg --conversation demo "My dog is called Biscuit." "What is my dog called?"
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path

from tui.options import Options
from tui.program import ChatApp
from tui.screens.chat import ChatScreen
from tui.widgets.prompt import Prompt

PATIENCE_S = 600.0


async def record(options: Options, messages: list[str], size: tuple[int, int]) -> str:
    """Send the messages one after the other; the SVG of the end."""
    app = ChatApp(options)
    async with app.run_test(size=size) as pilot:
        screen = app.screen
        assert isinstance(screen, ChatScreen)
        await _until(lambda: screen.view.phase == "ready" and screen.desk.idle)
        for message in messages:
            screen.query_one(Prompt).insert(message)
            await pilot.press("enter")
            await _until(lambda: screen.desk.idle)
        await pilot.pause()
        return app.export_screenshot(title="assistant chat")


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.05)


def main() -> None:
    """Read the command line, talk, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("messages", nargs="+")
    parser.add_argument("--conversation", default="demo")
    parser.add_argument("--budget")
    parser.add_argument("--size", default="96x30", help="columns x rows")
    given = parser.parse_args()
    columns, rows = (int(number) for number in given.size.split("x"))
    options = Options(conversation=given.conversation, budget=given.budget)
    svg = asyncio.run(record(options, given.messages, (columns, rows)))
    given.out.write_text(svg, encoding="utf-8")
    print(f"saved {given.out}")


if __name__ == "__main__":
    main()

"""`assistant chat`: the command line, and a start that is as quick as a bare Textual app's.

Textual is imported by `tui.program`, inside `main`, with the garbage collector off: tens of thousands of objects are
made until the first paint, none of them is garbage, and looking for some would take a tenth of the time.
"""

from __future__ import annotations

import gc

from assistant.errors import Exit
from tui.options import Options
from tui.preferences import Preferences, load_preferences


def main(argv: list[str]) -> int:
    """Run the chat and return the exit code: 0 after Ctrl+Q, 130 after Ctrl+C twice, 130 and 143 after a signal."""
    try:
        options = _parse(argv) if argv else Options()
        preferences = _preferences()
    except SystemExit:  # argparse has printed the help
        return Exit.OK
    if options.web:
        return _serve(argv, options.port)
    gc.disable()
    try:
        from tui.program import ChatApp

        app = ChatApp(options, preferences)
        app.run()
    except KeyboardInterrupt:
        return Exit.SIGINT
    finally:
        gc.enable()
    return app.return_code or Exit.OK


def _parse(argv: list[str]) -> Options:
    from tui.flags import parse

    return parse(argv)


def _preferences() -> Preferences:
    """Theme and keys of the settings; what they name is looked for only where they name something."""
    found = load_preferences()
    if found.theme is not None:
        from tui.themes import checked

        checked(found.theme, found.theme_from)
    if found.keys:
        from tui.keys import check_keys

        check_keys(found.keys)
    return found


def _serve(argv: list[str], port: int) -> int:
    from tui.flags import without_web
    from tui.web import serve

    return serve(without_web(argv), port)

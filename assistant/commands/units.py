"""What a service manager reads to run the daemon: systemd's units for a user, and a property list for launchd."""

from __future__ import annotations

import plistlib
from collections.abc import Mapping, Sequence

from assistant.daemon.spawn import COMMAND
from assistant.places import Places

LABEL = "on-device-assistant"


def systemd_service(environment: Mapping[str, str], stop_s: float) -> str:
    """The unit of the daemon; `stop_s`: seconds it may take to end."""
    lines = [
        "[Unit]",
        "Description=On-device assistant",
        "Requires=assistant.socket",
        "After=assistant.socket",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={_words(COMMAND)}",
        *(f"Environment={_word(f'{name}={value}')}" for name, value in environment.items()),
        "WorkingDirectory=/",
        f"TimeoutStopSec={stop_s:.0f}",
        "SuccessExitStatus=143",
        "Restart=on-failure",
        "NoNewPrivileges=yes",
        "",
        "[Install]",
        "WantedBy=default.target",
        "Also=assistant.socket",
    ]
    return "\n".join(lines)


def systemd_socket(places: Places) -> str:
    """The unit of its socket: who connects starts the daemon."""
    lines = [
        "[Unit]",
        "Description=Socket of the on-device assistant",
        "",
        "[Socket]",
        f"ListenStream={_specifiers(str(places.socket))}",
        "SocketMode=0600",
        "DirectoryMode=0700",
        "",
        "[Install]",
        "WantedBy=sockets.target",
    ]
    return "\n".join(lines)


def launchd(places: Places, environment: Mapping[str, str], stop_s: float) -> str:
    """The property list of an agent that runs while its user is logged in."""
    values = {
        "Label": LABEL,
        "ProgramArguments": list(COMMAND),
        "EnvironmentVariables": dict(environment),
        "WorkingDirectory": "/",
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ExitTimeOut": round(stop_s),
        "StandardErrorPath": str(places.log),
    }
    return plistlib.dumps(values, sort_keys=False).decode().rstrip("\n")


def _words(words: Sequence[str]) -> str:
    """A command line; only there systemd would replace what begins with a $."""
    return " ".join(_word(word).replace("$", "$$") for word in words)


def _word(text: str) -> str:
    """One word for systemd: quoted, with nothing in it that it would replace."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_specifiers(escaped)}"'


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")

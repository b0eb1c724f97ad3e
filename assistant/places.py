"""Where files live: XDG folders, all moved by ASSISTANT_HOME, the model store alone by ASSISTANT_MODELS."""

from __future__ import annotations

import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

from assistant.errors import UsageError


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one installation. `private()` creates one with mode 0700."""

    config: Path
    data: Path
    state: Path
    cache: Path
    runtime: Path
    models: Path

    @property
    def history(self) -> Path:
        return self.data / "history.db"

    @property
    def socket(self) -> Path:
        return self.runtime / "daemon.sock"

    @property
    def lock(self) -> Path:
        return self.runtime / "daemon.lock"

    @property
    def log(self) -> Path:
        return self.state / "daemon.log"

    @property
    def token(self) -> Path:
        return self.state / "token"

    @property
    def kv(self) -> Path:
        return self.state / "kv"

    @property
    def user_settings(self) -> Path:
        return self.config / "config.toml"

    @property
    def user_catalog(self) -> Path:
        return self.config / "models.toml"


def working_folder() -> Path:
    """The folder that the program was started in.

    Raises:
        UsageError: it was deleted meanwhile.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise UsageError("The folder that this was started in is gone. Change to another one: cd ~") from None


def find_places(environ: dict[str, str] | None = None) -> Places:
    """Places for the given environment (default: the process's own)."""
    env = os.environ if environ is None else environ
    home = env.get("ASSISTANT_HOME")
    places = _under(Path(home).expanduser().absolute()) if home else _xdg()
    if models := env.get("ASSISTANT_MODELS"):
        return Places(**{**_fields(places), "models": Path(models).expanduser().absolute()})
    return places


def moved(environ: dict[str, str] | None = None) -> dict[str, str]:
    """The variables that move the places, as they are set: what another process needs to find the same ones."""
    env = os.environ if environ is None else environ
    return {name: env[name] for name in ("ASSISTANT_HOME", "ASSISTANT_MODELS") if env.get(name)}


def private(folder: Path) -> Path:
    """Create `folder` (mode 0700, whatever the umask) and return it. Tightens one of ours that is open to others.

    Raises:
        UsageError: it belongs to another user.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.geteuid():
        raise UsageError(f"The folder {folder} belongs to another user. Set ASSISTANT_HOME to a folder of your own.")
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        folder.chmod(0o700)
    return folder


def _under(home: Path) -> Places:
    return Places(
        config=home / "config",
        data=home / "data",
        state=home / "state",
        cache=home / "cache",
        runtime=home / "run",
        models=home / "models",
    )


def _xdg() -> Places:
    from platformdirs import PlatformDirs

    dirs = PlatformDirs("assistant", appauthor=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is unset; the folder is made 0700 all the same
        runtime = dirs.user_runtime_path
    return Places(
        config=dirs.user_config_path,
        data=dirs.user_data_path,
        state=dirs.user_state_path,
        cache=dirs.user_cache_path,
        runtime=runtime,
        models=dirs.user_data_path / "models",
    )


def _fields(places: Places) -> dict[str, Path]:
    return {name: getattr(places, name) for name in ("config", "data", "state", "cache", "runtime", "models")}

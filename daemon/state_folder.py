"""Whose the state folder is: one daemon's at a time, or a restore's."""

from contextlib import ExitStack
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from ..adapters.durable import make_folder, remove_unfinished
from .errors import AlreadyRunning, ConfigError

# Where the daemon and its processes write for themselves; the store sweeps its own folder, and bases are fetched by
# others too.
_SWEPT: Final = ("corrections", "data", "jobs", "quarantine", "transfer")


def own_state(state: Path, cleanup: ExitStack) -> None:
    """Create the state folder and lock it. Raises `AlreadyRunning`, `ConfigError`."""
    try:
        make_folder(state, 0o750)
        lock = FileLock(state / "adapterd.lock", timeout=0)
        cleanup.enter_context(lock.acquire())
    except Timeout as error:
        raise AlreadyRunning(
            f"another adapterd works on {state}", hint="stop it, or choose another folder with ADAPTERD_STATE"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"cannot use the state folder {state}: {error}", hint="set ADAPTERD_STATE to a folder that you may write"
        ) from error


def sweep_state(state: Path) -> list[Path]:
    """Remove what a kill left unfinished, and return it; to be called at the start, before anything writes."""
    return [path for name in _SWEPT for path in remove_unfinished(state / name)]

"""What can be wrong with a machine, a folder or a base before the daemon runs into it: pure checks.

Each takes what was measured (`examination.py` measures) and returns a `Check`: `fail` for what keeps the daemon from
working, `warn` for what will hurt one day, always with what to do.
"""

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from .render import duration, size

Status = Literal["ok", "warn", "fail"]

PYTHON: Final = (3, 11)

WARN_FREE_BYTES: Final = 2_000_000_000
"""Some hundred versions with their Fisher information, or one base being converted."""

FAIL_FREE_BYTES: Final = 200_000_000
"""Less does not hold one training's checkpoints and the ledger's log."""

RUNTIME_BYTES: Final = 1_500_000_000
"""Two Python processes with torch (0.4 GB each), and one training step's activations and optimizer state."""

HELD_SHARE: Final[Mapping[str, float]] = {"nf4": 0.45, "int8": 0.65, "bfloat16": 1.0, "float32": 2.0}
"""A base's memory beside its bf16 file, by how it is held: NF4 keeps embeddings in 16 bits."""

RELEASED: Final = 1_767_225_600.0
"""2026-01-01 in unix seconds: a clock that shows less has lost its battery."""

_SKEW_S: Final = 300.0  # files of a network file system may be a little ahead
_INOTIFY_SHARE: Final = 0.8


@dataclass(frozen=True)
class Check:
    """One finding: `message` says what was found, `hint` what to do about it (empty if nothing)."""

    name: str
    status: Status
    message: str
    hint: str = ""


def check_python(version: tuple[int, int, int]) -> Check:
    """The interpreter."""
    text = ".".join(map(str, version))
    if version[:2] < PYTHON:
        return Check("python", "fail", f"Python {text} is too old", "install Python 3.11 or newer")
    return Check("python", "ok", f"Python {text}")


def check_libraries(found: Sequence[tuple[str, str, str | None, bool]]) -> Check:
    """Libraries as (name, wanted, installed version or None, whether that fits)."""
    missing = [name for name, _, version, _ in found if version is None]
    if missing:
        return Check("libraries", "fail", f"not installed: {', '.join(missing)}", "install adapterd again with pip")
    unfit = [f"{name} {version} (wanted {wanted})" for name, wanted, version, fits in found if not fits]
    if unfit:
        return Check(
            "libraries", "warn", f"other versions than wanted: {', '.join(unfit)}", "install adapterd again with pip"
        )
    if not found:
        return Check("libraries", "warn", "adapterd is not installed, so nothing says which libraries it wants")
    return Check("libraries", "ok", f"{len(found)} libraries, all of a wanted version")


def check_base(name: str, folder: Path | None, problem: str) -> Check:
    """The base: where it lies (None: nowhere), and what is wrong with it ("" for nothing)."""
    if folder is None:
        return Check("base", "warn", f"{name} is not here yet", "`adapterd base pull` fetches it, or `adapterd serve`")
    if problem:
        return Check("base", "fail", f"{name} in {folder}: {problem}", "`adapterd base pull` makes it anew")
    return Check("base", "ok", f"{name} in {folder}")


def check_folder(name: str, folder: Path, *, exists: bool, writable: bool) -> Check:
    """A folder that the daemon writes to; where it does not exist, `writable` says whether it can be made."""
    if not writable:
        what = "cannot be written to" if exists else "does not exist and cannot be made"
        return Check(name, "fail", f"{folder} {what}", "give it to the user who runs adapterd, or set another")
    if not exists:
        return Check(name, "ok", f"{folder} does not exist yet; `adapterd serve` makes it")
    return Check(name, "ok", f"{folder} can be written to")


def check_visible(name: str, folder: Path) -> Check:
    """A folder that whoever asks may not look into, so that nothing can be said of what is in it."""
    hint = "run `adapterd doctor` as the user who runs the daemon, too"
    return Check(name, "warn", f"{folder} is closed to this user, so its content was not looked at", hint)


def check_same_device(inbox: int, state: int) -> Check:
    """Device numbers of both folders: a rename between them is atomic on one device only."""
    if inbox != state:
        return Check(
            "device",
            "warn",
            "inbox and state folder lie on different file systems, so each file is copied where it is claimed",
            "put both on one file system, or leave it: it is slower and takes room twice for a moment",
        )
    return Check("device", "ok", "inbox and state folder lie on one file system")


def check_disk(free: int, folder: Path) -> Check:
    """Free bytes where `folder` lies."""
    hint = "free some space; `adapterd delete` and retention.keep_newest make room among the versions"
    if free < FAIL_FREE_BYTES:
        return Check("disk", "fail", f"{size(free)} free at {folder}, too little for a training", hint)
    if free < WARN_FREE_BYTES:
        return Check("disk", "warn", f"{size(free)} free at {folder}", hint)
    return Check("disk", "ok", f"{size(free)} free at {folder}")


def check_privacy(state: Path, mode: int) -> Check:
    """Who but owner and group may get at the state folder, where people's data lie."""
    shown = f"{stat.S_IMODE(mode):04o}"
    if mode & stat.S_IWOTH:
        return Check("privacy", "fail", f"everybody may write to {state} (mode {shown})", f"chmod o-rwx {state}")
    if mode & stat.S_IRWXO:
        return Check("privacy", "warn", f"everybody may look into {state} (mode {shown})", f"chmod o-rwx {state}")
    return Check("privacy", "ok", f"{state} is open to owner and group alone (mode {shown})")


def check_socket(path: Path, mode: int) -> Check:
    """Who may give commands: whoever may write to the socket."""
    shown = f"{stat.S_IMODE(mode):04o}"
    if not stat.S_ISSOCK(mode):
        return Check("socket", "fail", f"{path} is no socket", "move it away, or set another address")
    if mode & stat.S_IWOTH:
        return Check("socket", "fail", f"everybody may give commands at {path} (mode {shown})", f"chmod o-rwx {path}")
    return Check("socket", "ok", f"owner and group alone may give commands at {path} (mode {shown})")


def check_address(address: str, problem: str, hint: str) -> Check:
    """The address to listen at, and what is wrong with it ("" for nothing)."""
    if problem:
        return Check("address", "fail", problem, hint)
    return Check("address", "ok", f"{address} can be reached from this machine alone")


def check_daemon(address: str, version: str | None, warnings: Sequence[str], problem: str) -> Check:
    """What a daemon said when it was asked for its status: its version, or None and the problem."""
    if version is None:
        return Check("daemon", "warn", problem or f"no daemon answers at {address}", "`adapterd serve` starts it")
    if warnings:
        return Check("daemon", "warn", f"adapterd {version} warns: {'; '.join(warnings)}", "see `adapterd status`")
    return Check("daemon", "ok", f"adapterd {version} answers at {address}")


def check_clock(now: float, newest: float) -> Check:
    """The clock against the day of release, and the newest file of the state folder (unix seconds; 0 for none)."""
    hint = "set the clock, for example with timedatectl: versions, events and retries go by it"
    if now < RELEASED:
        return Check("clock", "fail", "the clock stands before the day that this program was released", hint)
    if newest > now + _SKEW_S:
        return Check("clock", "warn", f"the state folder was written {duration(newest - now)} in the future", hint)
    return Check("clock", "ok", "the clock is plausible")


def check_settings(problems: Sequence[str], warnings: Sequence[str]) -> Check:
    """What `adapterd config check` complains of."""
    if problems:
        return Check("settings", "fail", "; ".join(problems), "`adapterd config check` prints every setting")
    if warnings:
        return Check("settings", "warn", "; ".join(warnings), "correct the name, or unset it")
    return Check("settings", "ok", "every setting is right")


def check_cores(cores: int) -> Check:
    """Processors that this process may use."""
    if cores < 2:
        return Check("cores", "warn", "one core: requests wait while a training runs", "give it a second core")
    return Check("cores", "ok", f"{cores} cores")


def memory_need(base: int, held: str) -> int:
    """Bytes that serving and one training beside it take, roughly: the base is held by both, `held` a key of
    `HELD_SHARE`. `base`: bf16 bytes."""
    return round(2 * HELD_SHARE[held] * base) + RUNTIME_BYTES


def check_memory(available: int, total: int, need: int) -> Check:
    """Memory available now and in all against `memory_need`. A daemon that runs already has its part of it."""
    hint = 'add memory, or hold the base in fewer bits with quantization = "nf4"'
    if total < need:
        return Check("memory", "fail", f"{size(total)} in all; serving and training take about {size(need)}", hint)
    if available < need:
        return Check("memory", "warn", f"{size(available)} available; serving and training take {size(need)}", hint)
    return Check("memory", "ok", f"{size(available)} available; serving and training take about {size(need)}")


def check_inotify(watches: int, folders: int) -> Check:
    """The limit of inotify watches against the folders to watch. Other programs share the limit."""
    if folders > _INOTIFY_SHARE * watches:
        return Check(
            "inotify",
            "warn",
            f"{folders} folders to watch, and {watches} watches for all programs of this user",
            "raise fs.inotify.max_user_watches with sysctl; until then files are noticed at the next rescan_s",
        )
    return Check("inotify", "ok", f"{watches} watches for {folders} folders")

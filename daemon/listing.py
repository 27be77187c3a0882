"""What lies in the inbox: the files that may become drops, and what is odd about the rest. Nothing is touched."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..adapters.errors import BadRequest
from ..adapters.refs import check_task
from .settling import Stamp

MARKER: Final = ".done"
"""`<file>.done` beside a file says that it is complete."""

_UNFINISHED: Final = (".tmp", ".part")
_SETTINGS: Final = "task.toml"


@dataclass(frozen=True, slots=True)
class Found:
    """A plain file in a task's folder; `marked`: its marker is there."""

    task: str
    path: Path
    stamp: Stamp
    marked: bool


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something that a person should know once: an event's kind, and what is wrong with what.

    `stamp` is set where it is worth telling again when the file has changed.
    """

    kind: str
    path: Path
    message: str
    task: str = ""
    drop: int = 0
    stamp: Stamp | None = None


def look(root: Path) -> tuple[list[Found], list[Oddity]]:
    """One pass over `root`. What cannot be read is an oddity, and does not hide the rest."""
    found, odd = list[Found](), list[Oddity]()
    for path in _entries(root, "", odd):
        status = None if _is_unfinished(path.name) else _status(path, "", odd)
        if status is None:
            continue
        if not stat.S_ISDIR(status.st_mode):
            odd.append(_ignored(path, flaw_of(status) or "a file belongs in its task's folder, INBOX/TASK/FILE"))
            continue
        try:
            task = check_task(path.name)
        except BadRequest as refusal:
            odd.append(_ignored(path, f"{refusal.message}; {refusal.hint}"))
            continue
        _look_into(path, task, found, odd)
    return found, odd


def trouble(path: Path, task: str, failure: OSError, what: str = "file") -> Oddity:
    """The oddity of a file or folder with which the system did not do what was asked."""
    try:
        stamp = Stamp.at(path) if what == "file" else None
    except OSError:
        stamp = None
    message = f"the {what} {path} cannot be claimed: {failure.strerror or failure}"
    return Oddity("inbox.error", path, message, task, stamp=stamp)


def flaw_of(status: os.stat_result) -> str:
    """Why what was stat'ed is not to be read; empty for a plain file.

    A hard link may be a second name for a file that its maker cannot read but the daemon can.
    """
    if stat.S_ISLNK(status.st_mode):
        return "it is a symbolic link"
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_nlink > 1:
        return "it has other names (hard links)"
    return ""


def _look_into(folder: Path, task: str, found: list[Found], odd: list[Oddity]) -> None:
    paths = _entries(folder, task, odd)
    names = {path.name for path in paths}
    for path in paths:
        ours = path.name == _SETTINGS or path.name.endswith(MARKER)
        status = None if ours or _is_unfinished(path.name) else _status(path, task, odd)
        if status is None:
            continue
        if stat.S_ISDIR(status.st_mode):
            odd.append(_ignored(path, "folders within a task's folder are not read", task))
        elif flaw := flaw_of(status):
            odd.append(Oddity("inbox.refused", path, f"{path} is left where it is: {flaw}", task))
        else:
            found.append(Found(task, path, Stamp.of(status), path.name + MARKER in names))


def _entries(folder: Path, task: str, odd: list[Oddity]) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []  # removed since its parent was listed
    except OSError as failure:
        odd.append(trouble(folder, task, failure, "folder"))
        return []


def _status(path: Path, task: str, odd: list[Oddity]) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None  # taken back since its folder was listed
    except OSError as failure:
        odd.append(trouble(path, task, failure))
        return None


def _is_unfinished(name: str) -> bool:
    return name.startswith(".") or name.endswith(_UNFINISHED)


def _ignored(path: Path, reason: str, task: str = "") -> Oddity:
    return Oddity("inbox.ignored", path, f"{path} is left where it is: {reason}", task)

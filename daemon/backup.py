"""A copy of everything that cannot be had again, taken while the daemon runs, and the way back.

The ledger comes first, by SQLite's own online backup, then the files: a file is on the disk before the ledger speaks of
it (`adapters.durable`), so a copy that is taken later holds whatever the ledger's copy promises, unless it was deleted
in between. Therefore every version and every drop's file is looked up in the copy afterwards, versions by their hashes,
and if one is missing all of it is done again.

    backup.json          format, when, of which state folder
    adapterd.sqlite3     the ledger
    adapters/ data/ quarantine/ corrections/ general/ spool/
    inbox/<task>/task.toml

Not in it: `bases/`, which are fetched again, `jobs/`, whose trainings begin anew, and files in the inbox that were not
claimed yet.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ..adapters.durable import TEMP_PREFIX, make_folder, publish_folder, temp_name
from ..adapters.refs import check_task
from ..adapters.states import VersionState
from .errors import BackupFailed
from .ledger import LEDGER_NAME
from .state_folder import own_state

FOLDERS: Final = ("adapters", "data", "quarantine", "corrections", "general", "spool")
"""What is copied of the state folder, beside the ledger."""

MANIFEST: Final = "backup.json"
TASK_SETTINGS: Final = "task.toml"
_FORMAT: Final = 1
_TRIES: Final = 3

Report = Callable[[int, int], None]
"""Is told how many bytes of how many are copied."""


@dataclass(frozen=True)
class Backup:
    """What a backup holds. `created` in unix seconds, `state` the folder that it was taken of."""

    created: float
    state: str
    versions: int
    drops: int
    files: int
    bytes: int
    format: int = _FORMAT


def back_up(state: Path, inbox: Path, target: Path, report: Report = lambda _done, _total: None) -> Backup:
    """Copy `state` and the tasks' settings in `inbox` to the new folder `target`, which appears whole or not at all.

    Raises `BackupFailed` where there is no ledger, `target` exists, or the state changes faster than it is copied.
    """
    if not (state / LEDGER_NAME).is_file():
        raise BackupFailed(f"{state} holds no ledger", hint="name the state folder with ADAPTERD_STATE or --config")
    if os.path.lexists(target):
        raise BackupFailed(f"{target} exists already", hint="name a folder that is not there yet")
    make_folder(target.parent)
    temp = target.with_name(temp_name(target.name))
    temp.mkdir(mode=0o700)
    try:
        missing: list[str] = []
        for _ in range(_TRIES):
            _copy_ledger(state / LEDGER_NAME, temp / LEDGER_NAME)
            _copy_files(state, inbox, temp, report)
            if not (missing := _missing(temp, state)):
                break
        else:
            raise BackupFailed(
                f"the state changed while it was copied: {missing[0]} ({len(missing)} in all)",
                hint="try again when less is deleted; `adapterd doctor` tells whether a file is damaged",
            )
        found = _held(temp, state)
        (temp / MANIFEST).write_text(json.dumps(asdict(found), indent=2) + "\n", "utf-8")
        publish_folder(temp, target)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    return found


def restore(source: Path, state: Path, inbox: Path, report: Report = lambda _done, _total: None) -> Backup:
    """Put a backup into `state`, which has no ledger yet, and the tasks' settings into `inbox`, where they are missing.

    The ledger comes last: until then nothing has been restored, and it can be begun again.

    Raises:
        BackupFailed: `source` is no backup or not whole, or `state` has a ledger.
        AlreadyRunning: a daemon owns `state`.
        ConfigError: `state` cannot be used.
    """
    found = read_manifest(source)
    missing = _missing(source, Path(found.state))
    there = _held(source, Path(found.state))
    if (there.files, there.bytes) != (found.files, found.bytes):
        missing.append(f"it has {there.files} files of {there.bytes} bytes, and had {found.files} of {found.bytes}")
    if missing:
        raise BackupFailed(f"{source} is not whole: {missing[0]} ({len(missing)} in all)", hint="use another backup")
    with ExitStack() as cleanup:
        own_state(state, cleanup)
        if (state / LEDGER_NAME).exists():
            raise BackupFailed(
                f"{state} has a ledger already",
                hint="restore into an empty folder; move what is there away if it is not wanted any more",
            )
        _copy_tree(((source / name, state / name) for name in FOLDERS), report)
        for settings in sorted((source / "inbox").glob(f"*/{TASK_SETTINGS}")):
            place = inbox / check_task(settings.parent.name) / TASK_SETTINGS
            if not place.exists():
                make_folder(place.parent, 0o770)
                shutil.copy2(settings, place)
        temp = state / temp_name(LEDGER_NAME)
        shutil.copy2(source / LEDGER_NAME, temp)
        _move_paths(temp, Path(found.state), state)
        os.sync()
        temp.rename(state / LEDGER_NAME)
    return found


def read_manifest(source: Path) -> Backup:
    """What the backup in `source` says of itself. Raises `BackupFailed`."""
    try:
        value = json.loads((source / MANIFEST).read_text("utf-8"))
        found = Backup(**value)
    except (OSError, ValueError, TypeError) as error:
        raise BackupFailed(f"{source} is no backup: {error}", hint="name what `adapterd backup` made") from error
    if found.format != _FORMAT:
        raise BackupFailed(
            f"{source} is a backup of format {found.format}, and this adapterd reads {_FORMAT}",
            hint="restore it with the adapterd that made it",
        )
    return found


def _copy_ledger(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(source, timeout=60)) as ours, closing(sqlite3.connect(target)) as copy:
            ours.backup(copy)
    except sqlite3.Error as error:
        raise BackupFailed(f"the ledger {source} cannot be copied: {error}", hint="see `adapterd doctor`") from error
    target.chmod(0o600)


def _copy_files(state: Path, inbox: Path, temp: Path, report: Report) -> None:
    for name in FOLDERS:  # what was copied by an earlier try and is gone since is not wanted
        shutil.rmtree(temp / name, ignore_errors=True)
    _copy_tree(((state / name, temp / name) for name in FOLDERS), report)
    for settings in sorted(inbox.glob(f"*/{TASK_SETTINGS}")):
        if settings.is_file() and not settings.is_symlink():
            make_folder(temp / "inbox" / settings.parent.name)
            shutil.copy2(settings, temp / "inbox" / settings.parent.name / TASK_SETTINGS)


def _copy_tree(folders: Iterator[tuple[Path, Path]], report: Report) -> None:
    """Copy regular files, finished ones alone; one that is gone by its turn is left out."""
    pairs = [(file, target / file.relative_to(source)) for source, target in folders for file in _files(source)]
    total = sum(_size(file) for file, _ in pairs)
    done = 0
    for file, target in pairs:
        make_folder(target.parent, 0o750)
        with suppress(FileNotFoundError):
            shutil.copy2(file, target, follow_symlinks=False)
            done += target.stat().st_size
        report(done, total)


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(TEMP_PREFIX)]
        for name in sorted(files):
            path = Path(place) / name
            if not name.startswith(TEMP_PREFIX) and path.is_file() and not path.is_symlink():
                yield path


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _missing(copy: Path, state: Path) -> list[str]:
    """What the ledger in `copy` speaks of and the files beside it do not have, a sentence each."""
    found = [
        f"{row['task']}@{row['version']}: {why}"
        for row in _rows(copy / LEDGER_NAME, "SELECT task, version, state FROM versions")
        if row["state"] != VersionState.DELETED.value and (why := _damage(copy, row["task"], row["version"]))
    ]
    for row in _rows(copy / LEDGER_NAME, "SELECT id, path FROM drops WHERE path != ''"):
        path = Path(row["path"])
        # A file that is gone at its place too was taken away before: the ledger says why.
        if path.is_relative_to(state) and not (copy / path.relative_to(state)).exists() and path.exists():
            found.append(f"drop {row['id']}: {path} is missing")
    return found


def _damage(copy: Path, task: str, version: int) -> str:
    """Why a version's files are not those that were published; empty if they are."""
    folder = copy / "adapters" / task / f"{version:06d}"
    try:
        files: Mapping[str, str] = json.loads((folder / "manifest.json").read_text("utf-8"))["files"]
        for name, sha256 in files.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sha256:
                return f"{name} is not what was published (sha256)"
    except (OSError, ValueError, LookupError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _held(temp: Path, state: Path) -> Backup:
    files = [file for file in _files(temp) if file != temp / MANIFEST]
    versions = _rows(temp / LEDGER_NAME, f"SELECT 1 FROM versions WHERE state != '{VersionState.DELETED.value}'")  # noqa: S608
    return Backup(
        created=time.time(),
        state=str(state.absolute()),
        versions=len(versions),
        drops=len(_rows(temp / LEDGER_NAME, "SELECT 1 FROM drops")),
        files=len(files),
        bytes=sum(_size(file) for file in files),
    )


def _rows(ledger: Path, sql: str) -> list[dict[str, Any]]:
    try:
        with closing(sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(sql)]
    except sqlite3.Error as error:
        raise BackupFailed(f"the ledger {ledger} cannot be read: {error}", hint="use another backup") from error


def _move_paths(ledger: Path, before: Path, now: Path) -> None:
    """Let drops whose files lay below `before` have them below `now`."""
    old, new = f"{before}/", f"{now.absolute()}/"
    with closing(sqlite3.connect(ledger)) as db, db:
        db.execute(
            "UPDATE drops SET path = ? || substr(path, ?) WHERE substr(path, 1, ?) = ?",
            [new, len(old) + 1, len(old), old],
        )

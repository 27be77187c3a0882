"""Files that come over gRPC and are put into the inbox, where they are like any other file that was dropped there.

A file is written under a name that the inbox ignores, flushed, and renamed: it appears whole or not at all.
"""

import hashlib
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..adapters.durable import fsync_file, fsync_folder, make_folder
from ..adapters.errors import BadRequest
from ..adapters.refs import check_task
from ..continual.formats import format_of
from .errors import NotAllowed

_PREFIX: Final = ".upload-"
_SUFFIX: Final = ".part"
_MAX_NAME_BYTES: Final = 200  # leaves room for a number, and for what claiming a file puts before its name
_MAX_NAMESAKES: Final = 1000
_FOLDER_MODE: Final = 0o770  # people of the daemon's group drop files there
_FILE_MODE: Final = 0o640
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # never through a link, never over a file


@dataclass(frozen=True)
class Upload:
    """A file that lies in the inbox now: its name there, the sha256 of its bytes, and how many they are."""

    filename: str
    sha256: str
    size: int


def check_filename(name: str) -> str:
    """Return `name` if a file in the inbox may bear it. Raises `BadRequest` with `field` "filename"."""
    if not name:
        raise _wrong(name, "the file has no name", "send it in the first message")
    if "/" in name or "\\" in name or name.startswith(".") or not name.isprintable():
        raise _wrong(
            name,
            "only a plain name is taken: no folder, no dot at its start, nothing unprintable",
            "send the name without the folder that the file comes from",
        )
    if len(name.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES:
        raise _wrong(name, f"the name has more than {_MAX_NAME_BYTES} bytes", "shorten it")
    if format_of(name) is None:
        raise _wrong(
            name,
            "its end does not say what the file holds",
            "let it end in .jsonl, .ndjson, .json, .csv, .tsv or .parquet, or one of these with .gz or .zst",
        )
    return name


def receive(
    inbox: Path, task: str, filename: str, pieces: Iterable[bytes], *, max_bytes: int, told_bytes: int = 0
) -> Upload:
    """Put a file that comes in `pieces` into `inbox` for `task`; if its name is taken there, with a number in it.

    Raises `BadRequest` for a wrong name, an empty file, one of more than `max_bytes`, or one that has not the
    `told_bytes` that the sender told (0: none told), with nothing kept.
    """
    check_task(task)
    check_filename(filename)
    folder = _task_folder(inbox, task)
    temp = folder / f"{_PREFIX}{uuid.uuid4().hex}{_SUFFIX}"
    try:
        sha256, size = _write(temp, pieces, max_bytes)
        if told_bytes and size != told_bytes:
            raise BadRequest(
                f"{size:,} bytes came of a file of {told_bytes:,}: it is not whole",
                hint="hand it in again, when nobody writes to it",
                field="size",
            )
        final = _reserve(folder, filename)
        temp.replace(final)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    fsync_folder(folder)
    return Upload(final.name, sha256, size)


def sweep(inbox: Path) -> None:
    """Remove what uploads that were cut off by a kill left behind; for the start, while none is under way."""
    for leftover in inbox.glob(f"*/{_PREFIX}*{_SUFFIX}"):
        leftover.unlink(missing_ok=True)


def _task_folder(inbox: Path, task: str) -> Path:
    """The task's folder in the inbox, made if it is missing; a link is not followed out of it."""
    folder = inbox / task
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise NotAllowed(f"{folder} is no folder", hint="remove it, and hand the file in again", task=task)
    make_folder(folder, _FOLDER_MODE)
    return folder


def _write(path: Path, pieces: Iterable[bytes], max_bytes: int) -> tuple[str, int]:
    """Write and flush a new file; its sha256 and size."""
    digest, size = hashlib.sha256(), 0
    with os.fdopen(os.open(path, _NEW, _FILE_MODE), "wb") as file:
        for piece in pieces:
            size += len(piece)
            if size > max_bytes:
                raise BadRequest(
                    f"the file has more than limits.max_file_bytes = {max_bytes:,} bytes",
                    hint="split it, or raise the limit in the settings or in the task's task.toml",
                    field="chunk",
                )
            digest.update(piece)
            file.write(piece)
    if not size:
        raise BadRequest("the file is empty", hint="hand in a file with at least one row", field="chunk")
    fsync_file(path)
    return digest.hexdigest(), size


def _reserve(folder: Path, filename: str) -> Path:
    """Create an empty file under `filename`, or under it with a number, and return its path.

    So nobody else's file of that name is overwritten by the rename that follows.
    """
    stem, dot, suffixes = filename.partition(".")
    for number in range(1, _MAX_NAMESAKES):
        path = folder / (filename if number == 1 else f"{stem}-{number}{dot}{suffixes}")
        try:
            os.close(os.open(path, _NEW, _FILE_MODE))
        except FileExistsError:
            continue
        return path
    raise NotAllowed(
        f"{_MAX_NAMESAKES} files of the name {filename} wait in the inbox",
        hint="wait until some are claimed, or use another name",
    )


def _wrong(name: str, what: str, hint: str) -> BadRequest:
    return BadRequest(f"file name {name[:80]!r}: {what}", hint=hint, field="filename")

"""Files that are there whole after a power cut, or not at all.

The order is the same everywhere: write beside the target under a temporary name, fsync the file, fsync its
folder, rename, fsync the folder that holds the new name. Only then may a row in the ledger speak of the file.
What a kill leaves behind begins with `TEMP_PREFIX` and is swept at the next start.

A failed fsync is final: the kernel may have dropped the dirty pages, and a second fsync would claim success
(Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020). It is raised as
`DiskFailure`, which is no `OSError`, so that nobody retries it by accident.
"""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from .errors import DiskFailure

TEMP_PREFIX: Final = ".tmp-"
"""Names that begin so are unfinished: never read, removed at start."""

MAX_NAME_BYTES: Final = 255
"""NAME_MAX of every Linux file system that a state folder may lie on."""

_COPY_BYTES: Final = 1 << 20


def temp_name(name: str) -> str:
    """A fresh temporary name for something that will be called `name`, never longer than a name may be."""
    suffix = "-" + secrets.token_hex(4)
    room = MAX_NAME_BYTES - len(TEMP_PREFIX) - len(suffix)
    return TEMP_PREFIX + os.fsdecode(os.fsencode(name)[:room]) + suffix


def fsync_file(path: Path) -> None:
    """Flush a regular file. A link is not followed (`OSError`, ELOOP)."""
    with _open_regular(path) as (descriptor, _):
        _fsync(descriptor, path)


def fsync_folder(path: Path) -> None:
    """Flush a folder's entries, so that a name created, renamed or removed in it stays so."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _fsync(descriptor, path)
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int = 0o700) -> None:
    """Create a folder and its missing parents, each one's name flushed; one that exists stays as it is."""
    if path.is_dir():
        return
    make_folder(path.parent, mode)
    path.mkdir(mode=mode, exist_ok=True)
    fsync_folder(path.parent)


def write_atomic(path: Path, data: bytes) -> None:
    """Put `data` at `path` (mode 0600), replacing in one step what was there.

    Raises:
        OSError: the disk is full, the folder is missing; what was at `path` is untouched.
        DiskFailure: an fsync failed.
    """
    with _unfinished(path) as (descriptor, temp):
        _write_all(descriptor, data)
        _fsync(descriptor, temp)
        temp.replace(path)
    fsync_folder(path.parent)


def publish_folder(temp: Path, final: Path) -> None:
    """Make the finished folder `temp` appear as `final`, everything in it on the disk first.

    Both lie on one file system.

    Raises:
        FileExistsError: `final` is there already; what is published never changes.
        OSError: something inside is neither a regular file nor a folder, or the rename failed.
        DiskFailure: an fsync failed.
    """
    if os.path.lexists(final):
        raise FileExistsError(errno.EEXIST, "is already published and never changes", str(final))
    for folder, _, files in os.walk(temp, topdown=False, onerror=_raise):
        for name in files:
            fsync_file(Path(folder) / name)
        fsync_folder(Path(folder))
    temp.rename(final)
    fsync_folder(final.parent)
    if temp.parent != final.parent:
        fsync_folder(temp.parent)


def move_durably(source: Path, target: Path) -> None:
    """Move one regular file, its content flushed, to `target` (replacing it), across file systems too.

    Within one file system this is one rename. Across two it is copied under a temporary name, flushed and
    renamed before `source` is removed, so a kill leaves the file at both places and never at none. Mode and
    mtime stay.

    Raises:
        BlockingIOError: `source` changed while it was copied; it is left where it is.
        OSError: `source` is missing, a link (ELOOP) or not a regular file (EINVAL), or the disk is full;
            `source` is left where it is.
        DiskFailure: an fsync failed.
    """
    with _open_regular(source) as (descriptor, before):
        _fsync(descriptor, source)
        try:
            source.rename(target)
        except OSError as failure:
            if failure.errno != errno.EXDEV:
                raise
            _copy(descriptor, before, source, target)
            fsync_folder(target.parent)
            _unlink_copied(source, target)
    fsync_folder(target.parent)
    if source.parent != target.parent:
        with suppress(FileNotFoundError):  # removed since, now that it is empty: then the name is gone too
            fsync_folder(source.parent)


def remove_unfinished(folder: Path) -> list[Path]:
    """Remove whatever below `folder` a kill left unfinished, and return it; to be called while nobody writes there."""
    found = []
    for place, folders, files in os.walk(folder):
        leftovers = [Path(place) / name for name in (*folders, *files) if name.startswith(TEMP_PREFIX)]
        folders[:] = [name for name in folders if not name.startswith(TEMP_PREFIX)]
        for path in leftovers:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        found += leftovers
    return found


def _copy(reader: int, before: os.stat_result, source: Path, target: Path) -> None:
    with _unfinished(target) as (writer, temp):
        copied = 0
        while copied <= before.st_size and (block := os.read(reader, _COPY_BYTES)):  # a writer may outrun us
            _write_all(writer, block)
            copied += len(block)
        after = os.fstat(reader)
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise BlockingIOError(errno.EAGAIN, "changed while it was copied", str(source))
        os.fchmod(writer, stat.S_IMODE(before.st_mode))
        os.utime(writer, ns=(before.st_atime_ns, before.st_mtime_ns))
        _fsync(writer, temp)
        temp.replace(target)


def _unlink_copied(source: Path, target: Path) -> None:
    try:
        source.unlink(missing_ok=True)
    except OSError:
        target.unlink()  # it stays at one place: where it cannot be removed
        raise


@contextmanager
def _unfinished(path: Path) -> Iterator[tuple[int, Path]]:
    """A new file open for writing under a temporary name beside `path`; gone again if the body raises."""
    temp = path.with_name(temp_name(path.name))
    descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor, temp
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


@contextmanager
def _open_regular(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    # O_NONBLOCK, because opening a FIFO without it waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        yield descriptor, status
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _fsync(descriptor: int, path: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as failure:
        raise DiskFailure(
            f"fsync of {path} failed: {failure.strerror}; what was written there may be lost",
            hint="look at the kernel's log and the free space; start the daemon again when the disk is sound",
            path=str(path),
        ) from failure


def _raise(failure: OSError) -> None:
    raise failure

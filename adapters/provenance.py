"""What a base folder is made of and where it came from: `source.json`, and whether the files are still those.

A file is read again to hash it only when its size or time of change differ from what was noted, so that a start costs
a few `stat` calls and not the reading of gigabytes.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

SOURCE_FILE: Final = "source.json"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Noted:
    """One file when it was noted: `size` in bytes, `mtime_ns` its time of change in ns since the epoch."""

    sha256: str
    size: int
    mtime_ns: int

    def unchanged(self, path: Path) -> bool:
        """Whether the file's size and time of change are those noted; its bytes are not looked at."""
        status = path.stat()
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


def write_source(folder: Path, *, name: str, licence: str, origin: Mapping[str, str]) -> None:
    """Write `source.json` over every file that lies in `folder` now.

    `origin` says where the files came from, in words of that origin: a wheel and its hash, a repository and its commit.
    """
    files = {path.name: asdict(_note(path)) for path in sorted(folder.iterdir()) if path.is_file()}
    source = {"format": _FORMAT, "name": name, "licence": licence, "origin": dict(origin), "files": files}
    (folder / SOURCE_FILE).write_text(json.dumps(source, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def damage(folder: Path) -> str | None:
    """Say what is wrong with an obtained base, or None if every file is what was written.

    Raises:
        OSError: a file is there and cannot be read. Obtaining the base anew would not mend that.
    """
    noted = _read_source(folder)
    if noted is None:
        return f"{SOURCE_FILE} is missing or not what was written"
    for name, note in noted.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if not note.unchanged(path) and sha256_of(path) != note.sha256:
            return f"{name} differs from what was written (sha256)"
    return None


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes in hex; from `source.json` beside it or from memory while the file is unchanged.

    Raises:
        OSError: the file cannot be read.
    """
    noted = (_read_source(path.parent) or {}).get(path.name)
    if noted is not None and noted.unchanged(path):
        return noted.sha256
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns, status.st_ino)


def _note(path: Path) -> Noted:
    status = path.stat()
    return Noted(_sha256(path, status.st_size, status.st_mtime_ns, status.st_ino), status.st_size, status.st_mtime_ns)


def _read_source(folder: Path) -> dict[str, Noted] | None:
    try:
        source = json.loads((folder / SOURCE_FILE).read_bytes())
        return {
            str(name): Noted(str(note["sha256"]), int(note["size"]), int(note["mtime_ns"]))
            for name, note in source["files"].items()
        }
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


@functools.lru_cache(maxsize=256)  # files of a few bases; the stamp in the key makes a changed file a new entry
def _sha256(path: Path, size: int, mtime_ns: int, inode: int) -> str:  # noqa: ARG001
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

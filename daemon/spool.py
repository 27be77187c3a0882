"""The folder of claimed files: `<task>/<unique>-<name>`; out of reach of who dropped them.

The unique part never changes while the file lives, wherever it is moved later, so that a file is known again.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..adapters.durable import MAX_NAME_BYTES, TEMP_PREFIX, make_folder, move_durably
from ..adapters.errors import BadRequest
from ..adapters.refs import check_task
from .settling import Stamp

DUPLICATES: Final = "duplicates"
"""Beside a task's files: those whose bytes had come before."""

REFUSED: Final = "refused"
"""Beside a task's files: what turned out to be no plain file only after the claim."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read: its hash, and the stamp that the file had before and after."""

    sha256: str
    stamp: Stamp


class Spool:
    """Files move in whole, nobody else can put one here or swap it, and none is deleted."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder

    def place_for(self, task: str, name: str) -> Path:
        """A fresh path for a file that is called `name` in the inbox; nothing is made yet.

        The name is made printable, and a very long one loses its beginning: its end tells the format.
        """
        unique = secrets.token_hex(8) + "-"
        printable = "".join(char if char.isprintable() else "_" for char in name)
        room = MAX_NAME_BYTES - len(unique)
        return self.folder / task / (unique + printable.encode()[-room:].decode(errors="ignore"))

    @staticmethod
    def name_of(path: Path) -> str:
        """What the file at a path from `place_for` was called in the inbox."""
        return path.name.partition("-")[2]

    @staticmethod
    def admit(source: Path, place: Path) -> None:
        """Move `source` to `place`, durably. Raises what `durable.move_durably` raises."""
        make_folder(place.parent)
        move_durably(source, place)

    @staticmethod
    def read(place: Path) -> Reading | None:
        """Hash a plain file; None: it changed meanwhile. Raises `OSError`."""
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            before = Stamp.of(os.fstat(descriptor))
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            after = Stamp.of(os.fstat(descriptor))
        return Reading(sha256, after) if after == before else None

    @staticmethod
    def set_aside(place: Path, corner: str) -> Path:
        """Move a claimed file into the corner `DUPLICATES` or `REFUSED` of its task; return where it lies."""
        aside = place.parent / corner / place.name
        make_folder(aside.parent)
        place.rename(aside)  # not `move_durably`: this may be a link, and nothing depends on where it lies
        return aside

    def files(self) -> Iterator[tuple[str, Path]]:
        """Each claimed file with its task; what a kill left unfinished is removed (its source is still there)."""
        if not self.folder.is_dir():
            return
        for folder in sorted(self.folder.iterdir()):
            try:
                task = check_task(folder.name)
            except BadRequest:
                continue  # not made by `place_for`
            for path in sorted(folder.iterdir()):
                if path.name.startswith(TEMP_PREFIX):
                    path.unlink()
                elif path.is_symlink() or not path.is_dir():
                    yield task, path

"""When a file that somebody else writes is complete; pure decisions over what `lstat` said.

No event says so: a copy is closed several times, a rename never, and a file written through memory not at all.
So a file is complete when it is still, or when who wrote it says so (a rename into the inbox, a marker beside it).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file's content does: bytes, time of the last write, and which file it is at all."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """The stamp in a stat result."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)

    @classmethod
    def at(cls, path: Path) -> Self:
        """The stamp of what lies at `path`, links not followed. Raises `OSError`."""
        return cls.of(path.lstat())

    @property
    def content(self) -> tuple[int, int]:
        """What stays equal when the file is moved to another file system: size and mtime."""
        return self.size, self.mtime_ns


@dataclass(frozen=True, slots=True)
class Sighting:
    """A file as it was seen, and since when (unix seconds) it has looked so."""

    stamp: Stamp
    since: float

    def again(self, stamp: Stamp, now: float) -> "Sighting":
        """The sighting after the file was seen with `stamp` at `now`; a clock that was set back begins it anew."""
        return self if stamp == self.stamp and self.since <= now else Sighting(stamp, now)


def is_ready(stamp: Stamp, before: Sighting | None, now: float, settle_s: float, *, announced: bool) -> bool:
    """Whether a file that looks like `stamp` at `now` may be claimed.

    `before` is the sighting of the pass before; `announced`: who wrote it says that it is complete. Else it must
    look as it did, and its last write, or our first sight of it so (an mtime may lie in the future), must be
    `settle_s` seconds ago.
    """
    if announced:
        return True
    if before is None or before.stamp != stamp:
        return False
    return now - min(stamp.mtime_ns / 1e9, before.since) >= settle_s

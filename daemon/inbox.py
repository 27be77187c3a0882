"""The inbox: files that people drop into `<inbox>/<task>/` become drops, each once, and none is lost.

::

    inbox/<task>/new.jsonl ──settled──► spool/<task>/<unique>-new.jsonl ──hashed──► a row in `drops`

The rename is the claim. A file in the spool without a row is a claim that is not finished, be it because the
file still changes or because the daemon was killed: one step (`_finish`) deals with both, so a restart goes the
same way as every scan. The same bytes again are set aside; nothing is deleted.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..adapters.failpoints import failpoint
from .errors import ConfigError
from .ledger import DropRow, Ledger
from .listing import MARKER, Found, Oddity, flaw_of, look, trouble
from .settling import Sighting, Stamp, is_ready
from .spool import DUPLICATES, REFUSED, Reading, Spool
from .states import DropState

CLAIMING_S: Final = 5.0
"""Seconds after which a scan leaves the rest to the next one: a flood must not keep the scanner from showing that it is
alive. Not a number of files: each scan looks at all that lie there, and a flood in small portions took hours."""

_RELEASABLE: Final = frozenset({DropState.HELD, DropState.QUARANTINED, DropState.FAILED})


def _unlimited(_task: str) -> int:
    return sys.maxsize


@dataclass(slots=True)
class _Claim:
    """A file in the spool that has no row yet; `announced`: it was complete when it was claimed."""

    task: str
    sighting: Sighting
    announced: bool


class Inbox:
    """Scans `root` into `spool` and `ledger`. One thread scans; `renamed` and `pending` are for any.

    `settle_s`: seconds that a file must be still before it is taken. `max_bytes` of a task's file: a larger one is not
    even hashed, for a terabyte of nothing takes no room and holds up everybody. Raises `ConfigError` if one of the
    folders lies within the other.
    """

    def __init__(
        self, root: Path, spool: Path, ledger: Ledger, *, settle_s: float, max_bytes: Callable[[str], int] = _unlimited
    ) -> None:
        folders = root.resolve(), spool.resolve()
        if folders[0].is_relative_to(folders[1]) or folders[1].is_relative_to(folders[0]):
            raise ConfigError(
                f"the inbox {root} and the spool {spool} lie one within the other",
                hint="set `inbox` to a folder of its own",
                setting="inbox",
            )
        self.root: Final = root
        self.backlog = False
        """Whether the last scan left files that are ready: the next one should follow at once."""
        self._spool = Spool(spool)
        self._ledger = ledger
        self._settle_s = settle_s
        self._max_bytes = max_bytes
        self._limits: dict[str, int] = {}  # by task, as asked in this pass: it may mean to read a file
        self._sightings: dict[Path, Sighting] = {}
        self._claims: dict[Path, _Claim] = {}
        self._told: dict[tuple[str, Path], Oddity] = {}
        self._odd: dict[tuple[str, Path], Oddity] = {}
        self._announced: dict[Path, Stamp] = {}
        self._announced_lock = threading.Lock()
        self._pending: tuple[Path, ...] = ()

    def renamed(self, path: Path) -> None:
        """Note that `path` was renamed into place, so that it is complete as it is now."""
        try:
            stamp = Stamp.at(path)
        except OSError:
            return  # gone again: what comes next under this name settles like any other
        with self._announced_lock:
            self._announced[path] = stamp

    def pending(self) -> list[Path]:
        """The files that the last scan saw and that are no drops yet, in the inbox or in the spool."""
        return list(self._pending)

    def recover(self, now: float) -> list[DropRow]:
        """At start: finish the claims that a kill interrupted; return the new drops.

        Raises:
            LedgerFailed, DiskFailure: nothing is lost; the next call goes on.
        """
        rows = {Path(row.path).name: row for row in self._ledger.drops.find()}
        for task, path in self._spool.files():
            row = rows.get(path.name)
            if row is None:
                self._claims[path] = _Claim(task, Sighting(Stamp.at(path), now), announced=False)
            elif row.path != str(path) and not Path(row.path).exists():
                self._ledger.drops.amend(row.id, path=path)  # the state folder was moved
        return self._pass([], now)

    def scan(self, now: float) -> list[DropRow]:
        """One pass over the inbox at `now` (unix seconds); return the new drops.

        What is wrong with one entry is told once, by an event, and does not stop the others.

        Raises:
            LedgerFailed, DiskFailure: nothing is lost; the next scan goes on.
        """
        self._ensure_root()
        self._limits = {}
        with self._announced_lock:
            announced, self._announced = self._announced, {}
        found, odd = look(self.root)
        for oddity in odd:
            self._tell(oddity)
        before, self._sightings = self._sightings, {}
        ready = list[Found]()
        for file in found:
            if flaw := self._too_large(file.task, file.stamp.size):
                self._tell(Oddity("inbox.refused", file.path, f"{file.path} is left where it is: {flaw}", file.task))
                continue
            seen = before.get(file.path)
            self._sightings[file.path] = seen.again(file.stamp, now) if seen else Sighting(file.stamp, now)
            said = file.marked or announced.get(file.path) == file.stamp
            if is_ready(file.stamp, seen, now, self._settle_s, announced=said):
                ready.append(file)
        ready.sort(key=lambda file: (file.stamp.mtime_ns, file.path))  # what came first is learned first
        return self._pass(ready, now)

    def _pass(self, ready: list[Found], now: float) -> list[DropRow]:
        """Finish the claims there are, then claim what is `ready`, or as much of it as there is time for."""
        end, later = time.monotonic() + CLAIMING_S, list[Found]()
        drops = [self._finish(place, now) for place in list(self._claims)]
        for number, file in enumerate(ready, 1):
            place = self._claim(file, now)
            drops.append(self._finish(place, now) if place else None)
            if time.monotonic() >= end:
                later = ready[number:]
                break
        self.backlog = bool(later)
        with self._announced_lock:
            for file in later:
                self._announced.setdefault(file.path, file.stamp)
        self._told, self._odd = self._odd, {}
        self._pending = tuple(sorted((*self._sightings, *self._claims)))
        return [drop for drop in drops if drop]

    def _claim(self, file: Found, now: float) -> Path | None:
        """Move a file into the spool and return where it lies there; None: it stays where it is."""
        place = self._spool.place_for(file.task, file.path.name)
        # Before the move: whatever goes wrong after it, the file is known.
        self._claims[place] = _Claim(file.task, Sighting(file.stamp, now), announced=True)
        failpoint("claim.begun")
        try:
            if file.marked:
                # Before the move, too: left behind by a kill, it would vouch for the next file of this name.
                file.path.with_name(file.path.name + MARKER).unlink(missing_ok=True)
            self._spool.admit(file.path, place)
        except OSError as failure:
            if not os.path.lexists(place):
                del self._claims[place]
            if not isinstance(failure, FileNotFoundError | BlockingIOError):  # taken back; written to again
                self._tell(trouble(file.path, file.task, failure))
            return None
        failpoint("claim.moved")
        del self._sightings[file.path]
        return place

    def _finish(self, place: Path, now: float) -> DropRow | None:
        """Read a claimed file and write its row; None: it is not ready, a duplicate, or nothing to read."""
        claim = self._claims[place]
        try:
            status = place.lstat()
            if flaw := flaw_of(status) or self._too_large(claim.task, status.st_size):
                aside = self._spool.set_aside(place, REFUSED)
                self._tell(Oddity("inbox.refused", place, f"{aside} is not read: {flaw}", claim.task))
                drop = None
            else:
                stamp = Stamp.of(status)
                announced = claim.announced and stamp.content == claim.sighting.stamp.content
                ready = is_ready(stamp, claim.sighting, now, self._settle_s, announced=announced)
                reading = self._spool.read(place) if ready else None
                if reading is None or reading.stamp != stamp:
                    claim.sighting, claim.announced = claim.sighting.again(stamp, now), False
                    return None
                drop = self._record(place, claim.task, reading)
        except FileNotFoundError:
            self._tell(Oddity("inbox.error", place, f"{place} was removed before it was read", claim.task))
            drop = None
        except OSError as failure:
            self._tell(trouble(place, claim.task, failure))
            return None
        del self._claims[place]
        return drop

    def _record(self, place: Path, task: str, reading: Reading) -> DropRow | None:
        name = self._spool.name_of(place)
        sha256, size = reading.sha256, reading.stamp.size
        with self._ledger.transaction():
            drop, new = self._ledger.drops.claim(task, name, sha256, size, place)
            if new:
                message = f"{name} is claimed as drop {drop.id}"
                details = {"filename": name, "sha256": sha256, "bytes": size}
                self._ledger.events.emit("drop.claimed", message, task=task, drop=drop.id, details=details)
        failpoint("claim.noted")
        if new:
            return drop
        advice = f"; `adapterd release {drop.id}` tries it again" if drop.state in _RELEASABLE else ""
        message = (
            f"{name} holds the same bytes as drop {drop.id} ({drop.filename}), which is {drop.state.value}{advice}"
        )
        self._tell(Oddity("drop.duplicate", place, message, task, drop.id))
        self._spool.set_aside(place, DUPLICATES)
        return None

    def _too_large(self, task: str, size: int) -> str:
        if task not in self._limits:
            self._limits[task] = self._max_bytes(task)
        most = self._limits[task]
        if size <= most:
            return ""
        return f"it has {size:,} bytes, more than limits.max_file_bytes = {most:,}; split it, or raise the limit"

    def _ensure_root(self) -> None:
        try:
            if self.root.exists():
                return
            self.root.mkdir(parents=True)
        except OSError as failure:
            self._tell(trouble(self.root, "", failure, "folder"))
            return
        self._ledger.events.emit("inbox.created", f"the inbox {self.root} was not there and is made")

    def _tell(self, oddity: Oddity) -> None:
        """Emit an oddity as an event, unless the pass before told just the same."""
        key = oddity.kind, oddity.path
        if oddity != self._told.get(key) and oddity != self._odd.get(key):
            details = {"path": str(oddity.path)}
            self._ledger.events.emit(oddity.kind, oddity.message, task=oddity.task, drop=oddity.drop, details=details)
        self._odd[key] = oddity

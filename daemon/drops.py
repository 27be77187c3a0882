"""Dropped files: one row each, from the claim to the end."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypedDict, Unpack

from .database import Database, storable, to_json, where
from .errors import UnknownDrop
from .states import DropState, move_drop
from .tasks import Tasks


@dataclass(frozen=True, slots=True)
class DropRow:
    """One dropped file. Times are unix seconds; `version` is 0 until it became one."""

    id: int
    task: str
    filename: str
    """As it was called in the inbox, made printable."""
    sha256: str
    size: int
    """Bytes."""
    state: DropState
    reason: str
    """Why it is in its state, one sentence; empty if that goes without saying."""
    path: str
    """Where the original lies now."""
    rows: int
    bad_rows: int
    train_rows: int
    heldout_rows: int
    version: int
    plan: str
    details: dict[str, Any]
    """What each step found, under keys of its own."""
    released: bool
    """A person let it go on, so it is not held again for the same reason."""
    arrived: float
    updated: float


class DropColumns(TypedDict, total=False):
    """What a step may write along with its move."""

    path: str | Path
    rows: int
    bad_rows: int
    train_rows: int
    heldout_rows: int
    version: int
    plan: str
    details: Mapping[str, object]
    released: bool


class Drops:
    """Rows of `drops`."""

    def __init__(self, database: Database, tasks: Tasks, clock: Callable[[], float]) -> None:
        self._database = database
        self._tasks = tasks
        self._clock = clock

    def claim(self, task: str, filename: str, sha256: str, size: int, path: str | Path) -> tuple[DropRow, bool]:
        """Write down a file that was claimed: its row, CLAIMED, and True.

        The same bytes claimed before for this task: that row as it is now, and False. A task that is not known
        becomes known.
        """
        with self._database.transaction() as db:
            if known := self.find(task=task, sha256=sha256):
                return known[0], False
            self._tasks.add(task)
            now = self._clock()
            row = {
                "task": task,
                "filename": storable(filename),
                "sha256": sha256,
                "size": size,
                "state": DropState.CLAIMED.value,
                "path": str(path),
                "arrived": now,
                "updated": now,
            }
            inserted = db.table("drops").insert(row).last_rowid
            assert inserted is not None
            return self.get(inserted), True

    def get(self, drop: int) -> DropRow:
        """One drop. Raises `UnknownDrop`."""
        found = self._database.rows("SELECT * FROM drops WHERE id = ?", [drop])
        if not found:
            raise UnknownDrop(
                f"there is no drop {drop}", hint="`adapterd drops` lists the drops there are", drop=str(drop)
            )
        return _row(found[0])

    def find(
        self,
        task: str | None = None,
        sha256: str | None = None,
        states: Iterable[DropState] | None = None,
    ) -> list[DropRow]:
        """The drops that match all that is given, newest last."""
        wanted = None if states is None else [state.value for state in states]
        clause, values = where(task=task, sha256=sha256, state=wanted)
        found = self._database.rows(f"SELECT * FROM drops {clause} ORDER BY id", values)  # noqa: S608 - our own words
        return [_row(row) for row in found]

    def move(self, drop: int, to: DropState, *, reason: str = "", **columns: Unpack[DropColumns]) -> DropRow:
        """Move a drop on and write what the step found; `details` are merged into those there, key by key.

        `reason` says why it is in its new state, and replaces the one before.

        Raises:
            UnknownDrop: no such drop.
            NotAllowed: `states.DropState` draws no such way.
        """
        with self._database.transaction() as db:
            current = self.get(drop)
            written = self._written(current, columns)
            written |= {"state": move_drop(current.state, to).value, "reason": storable(reason)}
            db.table("drops").update(drop, written)
            return self.get(drop)

    def amend(self, drop: int, **columns: Unpack[DropColumns]) -> DropRow:
        """Write columns as `move` does, of a drop that stays in its state. Raises `UnknownDrop`."""
        with self._database.transaction() as db:
            db.table("drops").update(drop, self._written(self.get(drop), columns))
            return self.get(drop)

    def _written(self, current: DropRow, columns: DropColumns) -> dict[str, object]:
        if unknown := set(columns) - _WRITABLE:
            raise TypeError(f"a drop has no {', '.join(sorted(unknown))} to write")
        written: dict[str, object] = {**columns, "updated": self._clock()}
        if "details" in columns:
            written["details"] = to_json({**current.details, **columns["details"]})
        if "path" in columns:
            written["path"] = str(columns["path"])
        return written


_WRITABLE = frozenset(DropColumns.__annotations__)
_COLUMNS = frozenset(field.name for field in fields(DropRow))


def _row(row: dict[str, Any]) -> DropRow:
    assert set(row) == _COLUMNS
    return DropRow(
        **{
            **row,
            "state": DropState(row["state"]),
            "details": json.loads(row["details"]),
            "released": bool(row["released"]),
        }
    )

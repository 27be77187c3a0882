"""The names that move from version to version: compare-and-swap, and each move is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..adapters.errors import BadRequest, UnknownAdapter, VersionNotServable
from ..adapters.refs import ALIASES, CHAMPION, PREVIOUS
from ..adapters.states import VersionState
from .database import Database, storable
from .errors import AliasConflict, NotAllowed


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One move of an alias; None stands for unset. `time` is unix seconds."""

    id: int
    task: str
    alias: str
    from_version: int | None
    to_version: int | None
    actor: str
    """Who moved it: "gate", "person", "lifecycle", …"""
    reason: str
    time: float


class Aliases:
    """Rows of `aliases` and `alias_history`; both are written in one transaction, or neither."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def of(self, task: str) -> dict[str, int]:
        """The aliases of a task that are set, with the version of each; empty for an unknown task."""
        found = self._database.rows("SELECT alias, version FROM aliases WHERE task = ? ORDER BY alias", [task])
        return {row["alias"]: row["version"] for row in found}

    def move(
        self, task: str, alias: str, to: int | None, *, expected: int | None, actor: str, reason: str
    ) -> AliasMove:
        """Point `alias` at version `to`, or unset it (None), provided that it is at `expected` (None: unset) now.

        Raises:
            BadRequest: no such alias.
            AliasConflict: it is elsewhere: somebody else was first.
            NotAllowed: it is at `to` already; there is nothing to move.
            UnknownAdapter: no such version.
            VersionNotServable: the version is RETIRED or DELETED.
        """
        if alias not in ALIASES:
            raise BadRequest(f"{alias!r} is not an alias", hint=f"the aliases are {', '.join(ALIASES)}", field="alias")
        with self._database.transaction() as db:
            current = self.of(task).get(alias)
            if current != expected:
                raise AliasConflict(
                    f"the {alias} of {task} is {_shown(current)}, not {_shown(expected)}: it moved meanwhile",
                    hint=f"look at `adapterd list {task}` and decide again",
                    task=task,
                    alias=alias,
                    expected=_shown(expected),
                    current=_shown(current),
                )
            if current == to:
                raise NotAllowed(
                    f"the {alias} of {task} is {_shown(to)} already", hint="there is nothing to do", task=task
                )
            if to is None:
                db.table("aliases").delete((task, alias))
            else:
                self._check(task, to)
                db.table("aliases").upsert({"task": task, "alias": alias, "version": to}, pk=("task", "alias"))
            moved = {
                "task": task,
                "alias": alias,
                "from_version": current,
                "to_version": to,
                "actor": actor,
                "reason": storable(reason),
                "time": self._clock(),
            }
            inserted = db.table("alias_history").insert(moved).last_rowid
            return _row(self._database.rows("SELECT * FROM alias_history WHERE id = ?", [inserted])[0])

    def promote(self, task: str, to: int, *, expected: int | None, actor: str, reason: str) -> AliasMove:
        """Make version `to` the champion and the champion until now `previous`, both or neither.

        Returns the champion's move. Raises what `move` raises.
        """
        with self._database.transaction():
            champion = self.move(task, CHAMPION, to, expected=expected, actor=actor, reason=reason)
            previous = self.of(task).get(PREVIOUS)
            if expected is not None and previous != expected:
                self.move(task, PREVIOUS, expected, expected=previous, actor=actor, reason=reason)
            return champion

    def history(self, task: str, most: int = -1) -> list[AliasMove]:
        """The moves of a task's aliases, newest last: `most` of the newest, by default all."""
        found = self._database.rows("SELECT * FROM alias_history WHERE task = ? ORDER BY id DESC LIMIT ?", [task, most])
        return [_row(row) for row in reversed(found)]

    def _check(self, task: str, version: int) -> None:
        found = self._database.rows("SELECT state FROM versions WHERE task = ? AND version = ?", [task, version])
        if not found:
            raise UnknownAdapter(
                f"there is no version {task}@{version}",
                hint=f"`adapterd list {task}` shows the versions there are",
                task=task,
                version=str(version),
            )
        state = VersionState(found[0]["state"])
        if state in {VersionState.RETIRED, VersionState.DELETED}:
            raise VersionNotServable(
                f"{task}@{version} is {state.value}; an alias names what can be served",
                hint=f"`adapterd list {task}` shows the versions that can be",
                task=task,
                version=str(version),
            )


def _shown(version: int | None) -> str:
    return "unset" if version is None else str(version)


def _row(row: dict[str, Any]) -> AliasMove:
    return AliasMove(**row)

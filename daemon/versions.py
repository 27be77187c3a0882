"""Published versions: one row each, kept even when the files are gone."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..adapters.errors import UnknownAdapter
from ..adapters.states import VersionState, move
from .database import Database, storable, to_json, where
from .errors import NotAllowed
from .tasks import Tasks


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version of a task. Times are unix seconds."""

    task: str
    version: int
    state: VersionState
    digest: str
    parent: int
    """The version that it was trained from; 0: the base."""
    drop: int
    """The drop that it learned; 0: imported."""
    fingerprint: str
    """Of the base that it belongs to."""
    metrics: dict[str, float]
    verdict: str
    """The gate's: "promote", "canary" or "reject"; empty if it was not judged."""
    reason: str
    """The gate's, one sentence."""
    pinned: bool
    """A person keeps it: it is never retired or deleted by age."""
    created: float
    updated: float


class Versions:
    """Rows of `versions`."""

    def __init__(self, database: Database, tasks: Tasks, clock: Callable[[], float]) -> None:
        self._database = database
        self._tasks = tasks
        self._clock = clock

    def add(
        self,
        task: str,
        version: int,
        *,
        state: VersionState,
        digest: str,
        parent: int,
        drop: int,
        fingerprint: str,
        metrics: Mapping[str, float],
        verdict: str,
        reason: str,
    ) -> VersionRow:
        """Write down a version whose files are published, under a number that was reserved for it.

        A number that was not reserved counts as given out from now on.

        Raises:
            NotAllowed: there is such a version already, or there was.
        """
        with self._database.transaction() as db:
            if any(row.version == version for row in self.find(task)):
                raise NotAllowed(
                    f"{task}@{version} exists already: a number is never used again",
                    hint="reserve the next number",
                    task=task,
                    version=str(version),
                )
            self._tasks.add(task)
            self._tasks.count_version(task, version)
            now = self._clock()
            row = {
                "task": task,
                "version": version,
                "state": state.value,
                "digest": digest,
                "parent": parent,
                "drop": drop,
                "fingerprint": fingerprint,
                "metrics": to_json(metrics),
                "verdict": verdict,
                "reason": storable(reason),
                "created": now,
                "updated": now,
            }
            db.table("versions").insert(row)
            return self.get(task, version)

    def get(self, task: str, version: int) -> VersionRow:
        """One version. Raises `UnknownAdapter`."""
        found = self._database.rows("SELECT * FROM versions WHERE task = ? AND version = ?", [task, version])
        if not found:
            raise UnknownAdapter(
                f"there is no version {task}@{version}",
                hint=f"`adapterd list {task}` shows the versions there are",
                task=task,
                version=str(version),
            )
        return _row(found[0])

    def find(self, task: str | None = None) -> list[VersionRow]:
        """Every version of a task, or of all, DELETED ones too: by task, then newest last."""
        clause, values = where(task=task)
        found = self._database.rows(f"SELECT * FROM versions {clause} ORDER BY task, version", values)  # noqa: S608
        return [_row(row) for row in found]

    def move(self, task: str, version: int, to: VersionState) -> VersionRow:
        """Move a version on.

        Raises:
            UnknownAdapter: no such version.
            IllegalTransition: `adapters.states.VersionState` draws no such way.
            NotAllowed: an alias points at it, and what an alias names must stay fit to serve.
        """
        with self._database.transaction() as db:
            state = move(self.get(task, version).state, to)
            if to in {VersionState.RETIRED, VersionState.DELETED}:
                named = self._database.rows(
                    "SELECT alias FROM aliases WHERE task = ? AND version = ? ORDER BY alias", [task, version]
                )
                if named:
                    aliases = ", ".join(row["alias"] for row in named)
                    raise NotAllowed(
                        f"{task}@{version} cannot become {to.value}: it is the task's {aliases}",
                        hint="move the alias to another version first",
                        task=task,
                        version=str(version),
                    )
            self._write(db, task, version, state=state.value)
            return self.get(task, version)

    def pin(self, task: str, version: int, pinned: bool) -> VersionRow:
        """Keep a version from being retired or deleted by age, or no longer. Raises `UnknownAdapter`."""
        with self._database.transaction() as db:
            self.get(task, version)
            self._write(db, task, version, pinned=pinned)
            return self.get(task, version)

    def _write(self, db: Any, task: str, version: int, **columns: object) -> None:
        db.table("versions").update((task, version), {**columns, "updated": self._clock()})


def _row(row: dict[str, Any]) -> VersionRow:
    return VersionRow(
        **{
            **row,
            "state": VersionState(row["state"]),
            "metrics": json.loads(row["metrics"]),
            "pinned": bool(row["pinned"]),
        }
    )

"""Training jobs: one row each; the queue is the rows that are QUEUED."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .database import Database, storable, where
from .errors import UnknownDrop
from .states import OPEN_JOBS, JobState, move_job


@dataclass(frozen=True, slots=True)
class JobRow:
    """One training job. Times are unix seconds."""

    id: int
    task: str
    drop: int
    state: JobState
    phase: str
    """What the process does: "loading", "drift", "training", "evaluating", "fisher"."""
    progress: float
    """Of the whole job, 0 to 1."""
    attempts: int
    """How often it was RUNNING."""
    error: str
    """Of the last attempt."""
    not_before: float
    """It is not started earlier; 0: at once."""
    created: float
    started: float | None
    """When the last attempt began."""
    ended: float | None
    failures: int
    """How often its process ended without a result; a try that the daemon's own end cut short is no failure."""
    parent: int
    """The version that it builds on, which is not deleted before it is over; 0: none, or not known yet."""


class Jobs:
    """Rows of `jobs`."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def queue(self, task: str, drop: int) -> JobRow:
        """A new QUEUED job for `drop`, or the one that it has and that is not over: nothing is trained twice."""
        with self._database.transaction() as db:
            if unfinished := self.find(states=OPEN_JOBS, drop=drop):
                return unfinished[0]
            row = {"task": task, "drop": drop, "state": JobState.QUEUED.value, "created": self._clock()}
            inserted = db.table("jobs").insert(row).last_rowid
            assert inserted is not None
            return self.get(inserted)

    def next(self, now: float) -> JobRow | None:
        """The oldest QUEUED job whose `not_before` has come, or None."""
        found = self._database.rows(
            "SELECT * FROM jobs WHERE state = ? AND not_before <= ? ORDER BY id LIMIT 1",
            [JobState.QUEUED.value, now],
        )
        return _row(found[0]) if found else None

    def get(self, job: int) -> JobRow:
        """One job. Raises `UnknownDrop`."""
        found = self._database.rows("SELECT * FROM jobs WHERE id = ?", [job])
        if not found:
            raise UnknownDrop(f"there is no job {job}", hint="`adapterd status` shows the jobs there are", job=str(job))
        return _row(found[0])

    def find(
        self, task: str | None = None, states: Iterable[JobState] | None = None, drop: int | None = None
    ) -> list[JobRow]:
        """The jobs that match all that is given, newest last."""
        wanted = None if states is None else [state.value for state in states]
        clause, values = where(task=task, state=wanted, drop=drop)
        found = self._database.rows(f"SELECT * FROM jobs {clause} ORDER BY id", values)  # noqa: S608 - our own words
        return [_row(row) for row in found]

    def move(
        self,
        job: int,
        to: JobState,
        *,
        error: str = "",
        not_before: float | None = None,
        failed: bool = False,
    ) -> JobRow:
        """Move a job on. RUNNING counts an attempt; an end sets `ended`; `failed` counts a failure.

        `error` replaces the one before, except that a new attempt keeps the last one's.

        Raises:
            UnknownDrop: no such job.
            NotAllowed: `states.JobState` draws no such way.
        """
        with self._database.transaction() as db:
            current = self.get(job)
            written: dict[str, object] = {"state": move_job(current.state, to).value}
            if error or to is not JobState.RUNNING:
                written["error"] = storable(error)
            if failed:
                written["failures"] = current.failures + 1
            if not_before is not None:
                written["not_before"] = not_before
            if to is JobState.RUNNING:
                written["attempts"] = current.attempts + 1
                written["started"] = self._clock()
            elif to not in OPEN_JOBS:
                written["ended"] = self._clock()
            db.table("jobs").update(job, written)
            return self.get(job)

    def build_on(self, job: int, parent: int) -> None:
        """Write down which version a job builds on."""
        with self._database.transaction() as db:
            db.table("jobs").update(job, {"parent": parent})

    def parents(self, task: str) -> dict[int, int]:
        """The versions that jobs which are not over build on, each with such a job."""
        return {job.parent: job.id for job in self.find(task, states=OPEN_JOBS) if job.parent}

    def progress(self, job: int, phase: str, progress: float) -> None:
        """Write how far a job is; `progress` is held within 0 to 1. Nothing happens if it is not RUNNING."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE jobs SET phase = ?, progress = ? WHERE id = ? AND state = ?",
                [phase, min(max(progress, 0.0), 1.0), job, JobState.RUNNING.value],
            )


def _row(row: dict[str, Any]) -> JobRow:
    return JobRow(**{**row, "state": JobState(row["state"])})

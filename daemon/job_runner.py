"""The one training process, and its job in the ledger: started, looked at, tried again, cancelled."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..adapters.failpoints import failpoint
from ..adapters.states import VersionState
from .errors import NotAllowed, TrainerFailed
from .learning_sections import Trainer
from .ledger import DropRow, JobRow, Ledger
from .memory import training_budget
from .outcomes import emit, fail, hold
from .states import OPEN_JOBS, DropState, JobState
from .trainer_spec import Spec
from .training_job import TrainingJob

# Seconds between two training.progress events of a job.
_EVENT_EVERY_S = 1.0


class JobRunner:
    """Runs one job at a time; the job folders lie below `jobs`."""

    def __init__(self, ledger: Ledger, jobs: Path) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._running: tuple[JobRow, TrainingJob] | None = None
        self._said_at = 0.0

    @property
    def pid(self) -> int | None:
        """The training process, while one runs."""
        return self._running[1].pid if self._running else None

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._running is not None

    def folder(self, job: JobRow) -> Path:
        """Where a job's spec, progress, log and result lie."""
        return self._jobs / str(job.id)

    def recover(self) -> None:
        """At start: a job that was running when the daemon died is queued again and resumes from its checkpoint; what
        one that is over has left behind is removed.
        """
        for job in self._ledger.jobs.find(states=[JobState.RUNNING]):
            self._ledger.jobs.move(job.id, JobState.QUEUED, error="the daemon stopped meanwhile")
        over = {drop.id for drop in self._ledger.drops.find(states=[DropState.DONE])}
        for job in self._ledger.jobs.find(states=[JobState.DONE]):
            if job.drop in over:
                TrainingJob(self.folder(job)).clear()

    def start(self, drop: DropRow, spec: Callable[[], Spec | None], trainer: Trainer, now: float, device: str) -> bool:
        """Start, or resume, the drop's job; False if it has to wait for its next try.

        `spec` is asked once a job. Where it is None, the drop goes back to be audited and parted again.
        """
        job = self._ledger.jobs.queue(drop.task, drop.id)  # the open job, if there is one
        # A clock that was set back meanwhile would have it wait for longer than any pause is.
        if now < job.not_before <= now + _pause(trainer, job.failures):
            return False
        process = TrainingJob(self.folder(job))
        if not process.prepared:
            told = spec()
            if told is None:
                self._send_back(job, drop)
                return True
            self._ledger.jobs.build_on(job.id, told.parent_version)
            if told.parent_version and self._is_gone(drop.task, told.parent_version):
                return False  # deleted in this very moment: the next step asks what is champion now
            process.prepare(told)
        failpoint("job.prepared")
        with self._ledger.transaction():
            self._ledger.jobs.move(job.id, JobState.RUNNING)
            if drop.state is DropState.PLANNED:
                self._ledger.drops.move(drop.id, DropState.TRAINING, reason=f"job {job.id}")
        failpoint("job.noted")
        try:
            memory = training_budget(trainer.memory_mb, device)
            process.start(nice=trainer.nice, idle=trainer.idle, threads=trainer.threads, memory_bytes=memory)
        except OSError as error:
            self._ledger.jobs.move(job.id, JobState.QUEUED, error=f"no process could be started: {error}")
            raise
        failpoint("job.started")
        self._running = (self._ledger.jobs.get(job.id), process)
        done = "resumed" if job.attempts else "started"
        self._emit("training.started", f"job {job.id} {done}: {drop.task} learns drop {drop.id}", job, drop)
        return True

    def look(self, trainer: Trainer, now: float) -> bool:
        """Take the running job's progress and, at its end, its outcome; True at its end."""
        if self._running is None:
            return False
        job, process = self._running
        drop = self._ledger.drops.get(job.drop)
        if lines := process.progress():
            self._say_progress(job, drop, lines[-1], now)
        try:
            if not process.ended():
                return False
        except TrainerFailed as error:
            self._running = None
            self._retry(job, drop, error, trainer, now)
            return True
        self._running = None
        failpoint("job.ended")
        with self._ledger.transaction():
            self._ledger.jobs.move(job.id, JobState.DONE)
            self._ledger.drops.move(drop.id, DropState.EVALUATED, reason=f"job {job.id}")
            self._emit("training.finished", f"job {job.id} finished", job, drop)
        failpoint("job.finished")
        return True

    def cancel(self, job_id: int) -> JobRow:
        """End a job for good; its drop is held. Raises `NotAllowed` if it has ended."""
        job = self._ledger.jobs.get(job_id)
        if job.state not in OPEN_JOBS:
            raise NotAllowed(f"job {job_id} is {job.state.value}: there is nothing to cancel", job=str(job_id))
        if self._running is not None and self._running[0].id == job_id:
            self.stop()
        with self._ledger.transaction():
            self._ledger.jobs.move(job_id, JobState.CANCELLED)
            hold(self._ledger, self._ledger.drops.get(job.drop), f"job {job_id} was cancelled by a person")
        return self._ledger.jobs.get(job_id)

    def stop(self) -> None:
        """End the process; its job stays as it is and resumes when the daemon starts again."""
        if self._running is not None:
            self._running[1].stop()
            self._running = None

    def _send_back(self, job: JobRow, drop: DropRow) -> None:
        """Have the drop audited and parted again; if it is still to be trained then, it gets a job of its own."""
        reason = "what it builds upon, or is judged by, has changed since its rows were parted"
        with self._ledger.transaction():
            self._ledger.jobs.move(job.id, JobState.CANCELLED, error=reason)
            self._ledger.drops.move(drop.id, DropState.PARSED, reason=reason)
            self._emit("drop.returned", f"drop {drop.id} ({drop.filename}) is parted again: {reason}", job, drop)

    def _is_gone(self, task: str, version: int) -> bool:
        return self._ledger.versions.get(task, version).state is VersionState.DELETED

    def _say_progress(self, job: JobRow, drop: DropRow, latest: dict[str, Any], now: float) -> None:
        self._ledger.jobs.progress(job.id, latest["phase"], latest["progress"])
        if now - self._said_at >= _EVENT_EVERY_S:
            self._said_at = now
            said = f"job {job.id}: {latest['phase']}, {latest['progress']:.0%}"
            self._emit("training.progress", said, job, drop, latest)

    def _retry(self, job: JobRow, drop: DropRow, error: TrainerFailed, trainer: Trainer, now: float) -> None:
        """Queue the job again with a pause that doubles, or give it up."""
        failures = job.failures + 1
        if failures >= trainer.attempts:
            with self._ledger.transaction():
                self._ledger.jobs.move(job.id, JobState.FAILED, error=error.message, failed=True)
                fail(self._ledger, drop, f"job {job.id} failed {failures} times; last: {error.message}")
            return
        pause = _pause(trainer, failures)
        with self._ledger.transaction():
            again = now + pause
            self._ledger.jobs.move(job.id, JobState.QUEUED, error=error.message, not_before=again, failed=True)
            tries = f"try {failures} of {trainer.attempts}"
            said = f"job {job.id} failed at {tries}, next in {pause:.0f} s: {error.message}"
            self._emit("training.failed", said, job, drop)

    def _emit(
        self, event: str, message: str, job: JobRow, drop: DropRow, details: Mapping[str, object] | None = None
    ) -> None:
        emit(self._ledger, event, message, drop, details={**(details or {}), "job": job.id})


def _pause(trainer: Trainer, failures: int) -> float:
    """Seconds to wait after so many failures."""
    return trainer.retry_s * 2.0 ** max(0, failures - 1)

"""Takes each drop from one state to the next. One call of `step` does one thing and returns.

    CLAIMED ─parse─► PARSED ─audit─► AUDITED ─plan─► PLANNED ─job─► TRAINING ─result─► EVALUATED ─gate, publish─► DONE

What a step has done stands in the ledger before the next begins, and every step can be done again after a kill.
Drops of one task go in order; a task whose drop waits for a retry does not hold up the others.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog

from ..adapters.base import Base
from ..adapters.errors import DiskFailure, ServingError
from ..adapters.store import Store
from ..continual.errors import LearningError
from ..continual.plan import Action
from .config import Settings, load_task_settings, parse_window
from .dataset import Dataset
from .errors import ConfigError, DaemonError, LedgerFailed, NotAllowed, TrainerFailed
from .intake import audit, parse, plan_drop
from .ledger import DropRow, JobRow, Ledger, VersionRow
from .lifecycle import Lifecycle
from .lineage import known_figures, lineage
from .publishing import publish
from .schedule import in_quiet_window
from .states import DropState, JobState
from .trainer_spec import Spec
from .training_job import TrainingJob

log = structlog.get_logger(__name__)

# States in which the worker has something to do, and in which a drop holds up the later ones of its task.
_WAITING = (
    DropState.PARSED,
    DropState.AUDITED,
    DropState.PLANNED,
    DropState.TRAINING,
    DropState.EVALUATED,
)
_RELEASABLE = (DropState.HELD, DropState.FAILED, DropState.QUARANTINED)
# Unforeseen exceptions at one drop after which it is FAILED.
_FAULTS_BORNE = 3
# Seconds between two training.progress events of a job.
_EVENT_EVERY_S = 1.0


class Worker:
    """Owns the way of a drop and the one training process."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        dataset: Dataset,
        store: Store,
        lifecycle: Lifecycle,
        base: Base,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._dataset = dataset
        self._store = store
        self._lifecycle = lifecycle
        self._base = base
        self._clock = clock
        self._lock = threading.RLock()
        self._job: JobRow | None = None
        self._process: TrainingJob | None = None
        self._said_at = 0.0
        self._faults: dict[int, int] = {}  # unforeseen exceptions met at each drop
        self.heartbeat = clock()

    def recover(self) -> None:
        """At start: a job that was running when the daemon died is queued again and resumes from its checkpoint."""
        for job in self._ledger.jobs.find(states=[JobState.RUNNING]):
            self._ledger.jobs.move(job.id, JobState.QUEUED, error="the daemon stopped meanwhile")

    def use(self, settings: Settings) -> None:
        """Take reread settings; a job that runs keeps those that it began with."""
        self._settings = settings

    def step(self, now: float) -> bool:
        """Do the next thing; False if there was nothing to do."""
        with self._lock:
            self.heartbeat = now
            if self._process is not None and self._look_at_process(now):
                return True
            # A file that cannot be read is told of at once, however many drops of its task wait before it.
            for drop in self._ledger.drops.find(states=[DropState.CLAIMED]):
                return self._advance(drop, now)
            busy: set[str] = set()
            for drop in self._ledger.drops.find(states=_WAITING):
                if drop.task not in busy and self._advance(drop, now):
                    return True
                busy.add(drop.task)
            return False

    def cancel(self, job_id: int) -> JobRow:
        """Stop a job; its drop is held until a person releases it. Raises `NotAllowed` if it has ended."""
        with self._lock:
            job = self._ledger.jobs.get(job_id)
            if job.state not in (JobState.QUEUED, JobState.RUNNING):
                raise NotAllowed(f"job {job_id} is {job.state.value} and cannot be cancelled", hint="")
            if self._job is not None and self._job.id == job_id and self._process is not None:
                self._process.stop()
                self._job = self._process = None
            with self._ledger.transaction():
                self._ledger.jobs.move(job_id, JobState.CANCELLED)
                self._hold(self._ledger.drops.get(job.drop), f"job {job_id} was cancelled by a person")
            return self._ledger.jobs.get(job_id)

    def release(self, drop_id: int) -> DropRow:
        """Let a held drop go on, or try a failed or quarantined one again. Raises `NotAllowed` for any other."""
        with self._lock:
            drop = self._ledger.drops.get(drop_id)
            if drop.state not in _RELEASABLE:
                raise NotAllowed(
                    f"drop {drop_id} is {drop.state.value}: only held, failed and quarantined drops can be released",
                    hint=f"`adapterd show {drop_id}` says what becomes of it",
                )
            # Its rows are parted again: what the task has learned may have changed since.
            to = DropState.CLAIMED if drop.state is DropState.QUARANTINED or not drop.rows else DropState.PARSED
            self._ledger.drops.move(drop_id, to, reason="released by a person", released=True)
            self._emit("drop.released", f"drop {drop_id} ({drop.filename}) was released", drop)
            return self._ledger.drops.get(drop_id)

    def stop(self) -> None:
        """End the training process; its job stays and resumes when the daemon starts again."""
        with self._lock:
            if self._process is not None:
                self._process.stop()
                self._process = None

    @property
    def pid(self) -> int | None:
        """The training process, while one runs."""
        return self._process.pid if self._process is not None else None

    @property
    def training(self) -> bool:
        """Whether a training process runs."""
        return self._process is not None

    def _advance(self, drop: DropRow, now: float) -> bool:
        """Take one drop one state further; False if it has to wait."""
        try:
            match drop.state:
                case DropState.CLAIMED:
                    parse(self._ledger, self._dataset, self._settings, drop)
                case DropState.PARSED:
                    behind = lineage(self._ledger, self._store, drop.task)
                    audit(self._ledger, self._dataset, self._settings, drop, behind.drops, behind.labels)
                case DropState.AUDITED:
                    self._plan(drop)
                case DropState.PLANNED | DropState.TRAINING:
                    return self._process is None and self._start(drop, now)
                case _:
                    self._finish(drop)
        except (OSError, DiskFailure, LedgerFailed):
            raise  # a full disk, say: the loop comes again, for as long as it takes
        except ConfigError as error:
            self._hold(drop, f"{error.message} ({error.hint}); release the drop when it is mended")
        except (LearningError, DaemonError, ServingError) as error:
            self._fail(drop, f"{error.message} ({error.hint})" if error.hint else error.message)
        except Exception as error:
            # A fault of ours: tried again, for it may pass, and then given up, so that it holds up nothing else.
            self._faults[drop.id] = self._faults.get(drop.id, 0) + 1
            if self._faults[drop.id] < _FAULTS_BORNE:
                raise
            self._fail(drop, f"{type(error).__name__} at {drop.state.value}: {error} (the log has the trace)")
            log.exception("drop given up", drop=drop.id)
        return True

    def _plan(self, drop: DropRow) -> None:
        decided = plan_drop(drop)
        self._ledger.drops.move(drop.id, DropState.PLANNED, plan=decided.action.value, reason=decided.reason)
        drop = self._ledger.drops.get(drop.id)
        match decided.action:
            case Action.TRAIN:
                self._ledger.jobs.queue(drop.task, drop.id)
            case Action.REHEARSE:
                with self._ledger.transaction():
                    self._ledger.drops.move(drop.id, DropState.DONE, reason=decided.reason)
                    self._emit("drop.done", f"drop {drop.id} ({drop.filename}): {decided.reason}", drop)
            case Action.HOLD:
                self._hold(drop, decided.reason)
            case Action.REJECT:
                self._fail(drop, decided.reason)

    def _start(self, drop: DropRow, now: float) -> bool:
        """Start the drop's job if it may start now."""
        jobs = [job for job in self._ledger.jobs.find(drop.task) if job.drop == drop.id]
        job = jobs[-1] if jobs else self._ledger.jobs.queue(drop.task, drop.id)
        if job.state not in (JobState.QUEUED, JobState.RUNNING):
            job = self._ledger.jobs.queue(drop.task, drop.id)
        if job.not_before > now or not self._may_train(now):
            return False
        process = TrainingJob(self._settings.state / "jobs" / str(job.id))
        if not (process.folder / "spec.json").exists():
            process.prepare(self._spec(drop))
        self._ledger.jobs.move(job.id, JobState.RUNNING)
        if drop.state is DropState.PLANNED:
            self._ledger.drops.move(drop.id, DropState.TRAINING, reason=f"job {job.id}")
        trainer = self._settings.trainer
        try:
            process.start(nice=trainer.nice, threads=trainer.threads)
        except OSError as error:
            self._ledger.jobs.move(job.id, JobState.QUEUED, error=f"no process could be started: {error}")
            raise
        resumed = "resumed" if job.attempts else "started"
        self._emit(
            "training.started",
            f"job {job.id} {resumed}: {drop.task} learns drop {drop.id}",
            drop,
            details={"job": job.id},
        )
        self._job, self._process = self._ledger.jobs.get(job.id), process
        return True

    def _may_train(self, now: float) -> bool:
        window = self._settings.trainer.quiet_window
        local = datetime.fromtimestamp(now).astimezone()
        return not window or in_quiet_window(local.hour * 60 + local.minute, parse_window(window))

    def _spec(self, drop: DropRow) -> Spec:
        settings, came_from = self._settings, lineage(self._ledger, self._store, drop.task)
        task_settings = load_task_settings(settings, drop.task)
        parent = came_from.champion.version if came_from.champion else 0
        return Spec(
            task=drop.task,
            drop=drop.id,
            version=self._ledger.tasks.reserve_version(drop.task),
            base=str(self._base.folder),
            quantization=self._base.quantization,
            fingerprint=self._base.fingerprint,
            device=settings.serving.device,
            threads=settings.trainer.threads,
            data=str(self._dataset.data),
            quarantine=str(self._dataset.quarantine),
            parent=str(self._store.folder(drop.task, parent)) if parent else "",
            parent_version=parent,
            history=list(came_from.drops),
            known=known_figures(self._ledger, came_from, bool(drop.details["new_labels"])),
            training=task_settings.training.model_dump(),
            gate=task_settings.gate.model_dump(),
        )

    def _look_at_process(self, now: float) -> bool:
        """Take progress and, at its end, the outcome; False while it goes on."""
        assert self._process is not None
        assert self._job is not None
        job, drop = self._job, self._ledger.drops.get(self._job.drop)
        lines = self._process.progress()
        try:
            ended = self._process.ended()
        except TrainerFailed as error:
            self._job = self._process = None
            self._retry(job, drop, error, now)
            return True
        if lines:
            self._say_progress(job, drop, lines, now)
        if not ended:
            return False
        self._job = self._process = None
        with self._ledger.transaction():
            self._ledger.jobs.move(job.id, JobState.DONE)
            self._ledger.drops.move(drop.id, DropState.EVALUATED, reason=f"job {job.id}")
            self._emit("training.finished", f"job {job.id} finished", drop, details={"job": job.id})
        return True

    def _say_progress(self, job: JobRow, drop: DropRow, lines: list[dict[str, Any]], now: float) -> None:
        latest = lines[-1]
        self._ledger.jobs.progress(job.id, latest["phase"], latest["progress"])
        if now - self._said_at >= _EVENT_EVERY_S:
            self._said_at = now
            self._emit(
                "training.progress",
                f"job {job.id}: {latest['phase']}, {latest['progress']:.0%}",
                drop,
                details={**latest, "job": job.id},
            )

    def _retry(self, job: JobRow, drop: DropRow, error: TrainerFailed, now: float) -> None:
        """Queue the job again with a pause that doubles, or give it up."""
        trainer = self._settings.trainer
        if job.attempts >= trainer.attempts:
            with self._ledger.transaction():
                self._ledger.jobs.move(job.id, JobState.FAILED, error=error.message)
                self._fail(drop, f"job {job.id} failed {job.attempts} times; last: {error.message}")
            return
        pause = trainer.retry_s * 2 ** (job.attempts - 1)
        with self._ledger.transaction():
            self._ledger.jobs.move(job.id, JobState.QUEUED, error=error.message, not_before=now + pause)
            self._emit(
                "training.failed",
                f"job {job.id} failed at try {job.attempts} of {trainer.attempts}, next in {pause:.0f} s: "
                f"{error.message}",
                drop,
                details={"job": job.id},
            )

    def _finish(self, drop: DropRow) -> None:
        """Judge, publish, promote: an EVALUATED drop becomes DONE."""
        job = next(job for job in reversed(self._ledger.jobs.find(drop.task)) if job.drop == drop.id)
        folder = self._settings.state / "jobs" / str(job.id)
        spec = Spec.read(folder)
        known = {row.version for row in self._ledger.versions.find(drop.task)}
        if spec.version in known:
            version = self._ledger.versions.get(drop.task, spec.version)
        else:
            version = publish(self._ledger, self._store, self._base, drop, spec, folder, self._clock())
        if version.verdict == "promote":
            self._promote(drop, version, spec.parent_version or None)
        with self._ledger.transaction():
            self._ledger.drops.move(drop.id, DropState.DONE, reason=version.reason, version=version.version)
            self._emit(
                "drop.done",
                f"drop {drop.id} ({drop.filename}) became {drop.task}@{version.version}, {version.state.value}",
                drop,
                version=version.version,
            )

    def _promote(self, drop: DropRow, version: VersionRow, parent: int | None) -> None:
        """Make the version champion, unless its parent is not the champion any more: then a person has chosen."""
        champion = self._ledger.aliases.of(drop.task).get("champion")
        if champion == version.version:
            return
        if champion != parent:
            self._emit(
                "version.not-promoted",
                f"{drop.task}@{version.version} is available and not promoted: the champion moved to "
                f"{drop.task}@{champion} while it was trained",
                drop,
                version=version.version,
            )
            return
        self._lifecycle.promote(drop.task, version.version, expected=champion, actor="gate", reason=version.reason)

    def _hold(self, drop: DropRow, reason: str) -> None:
        with self._ledger.transaction():
            self._ledger.drops.move(drop.id, DropState.HELD, reason=reason)
            self._emit("drop.held", f"drop {drop.id} ({drop.filename}) is held: {reason}", drop)

    def _fail(self, drop: DropRow, reason: str) -> None:
        with self._ledger.transaction():
            self._ledger.drops.move(drop.id, DropState.FAILED, reason=reason)
            self._emit("drop.failed", f"drop {drop.id} ({drop.filename}) failed: {reason}", drop)

    def _emit(
        self, kind: str, message: str, drop: DropRow, *, version: int = 0, details: dict[str, Any] | None = None
    ) -> None:
        self._ledger.events.emit(kind, message, task=drop.task, drop=drop.id, version=version, details=details)

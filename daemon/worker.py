"""Takes each drop from one state to the next. One call of `step` does one thing and returns.

    CLAIMED ─parse─► PARSED ─audit─► AUDITED ─plan─► PLANNED ─job─► TRAINING ─result─► EVALUATED ─gate, publish─► DONE

What a step has done stands in the ledger before the next begins, and every step can be done again after a kill.
Drops of one task go in order; a task whose drop waits for a retry does not hold up the others.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import structlog
from structlog.contextvars import bound_contextvars

from ..adapters.base import Base
from ..adapters.errors import DiskFailure, ServingError
from ..adapters.failpoints import failpoint
from ..adapters.store import Store
from ..continual.errors import LearningError
from ..continual.golden import is_golden
from ..continual.plan import Action
from .bases import general_file
from .conclusion import Conclusion
from .config import Settings, load_task_settings
from .dataset import Dataset
from .errors import ConfigError, DaemonError, LedgerFailed, NotAllowed
from .intake import Intake, plan_drop
from .job_runner import JobRunner
from .learning_sections import parse_window
from .ledger import DropRow, JobRow, Ledger
from .lifecycle import Lifecycle
from .lineage import is_parted_for, known_figures, lineage
from .outcomes import done, emit, fail, hold
from .schedule import in_quiet_window
from .states import DropState
from .trainer_spec import Spec

log = structlog.get_logger(__name__)

# States in which the worker has something to do, and in which a drop holds up the later ones of its task.
_WAITING = (DropState.PARSED, DropState.AUDITED, DropState.PLANNED, DropState.TRAINING, DropState.EVALUATED)
_RELEASABLE = (DropState.HELD, DropState.FAILED, DropState.QUARANTINED)
# Unforeseen exceptions at one drop after which it is FAILED.
_FAULTS_BORNE = 3


class Worker:
    """Owns the way of a drop."""

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
        self._intake = Intake(ledger, dataset, base)
        self._conclusion = Conclusion(ledger, store, lifecycle, base, clock)
        self._runner = JobRunner(ledger, settings.state / "jobs")
        self._faults: dict[int, int] = {}  # unforeseen exceptions met at each drop
        self.heartbeat = clock()
        self.underway = True
        """Whether a drop was on its way at the last step, be it one that has to wait."""

    def recover(self) -> None:
        """At start: take up what an earlier run left in the middle."""
        self._runner.recover()

    def use(self, settings: Settings) -> None:
        """Take reread settings; a job that runs keeps those that it began with."""
        self._settings = settings

    def step(self, now: float) -> bool:
        """Do the next thing; False if there was nothing to do."""
        with self._lock:
            self.heartbeat = now
            if self._runner.look(self._settings.trainer, now):
                return True
            if self._look_at_intake():
                return True
            drops = self._ledger.drops.find(states=[DropState.CLAIMED, *_WAITING])
            self.underway = bool(drops)
            claimed = [drop for drop in drops if drop.state is DropState.CLAIMED]
            # A file that cannot be read is told of at once, however many drops of its task wait before it.
            if claimed and not self._intake.busy:
                return self._advance(claimed[0], now)
            busy: set[str] = set()
            for drop in (drop for drop in drops if drop.state in _WAITING):
                if drop.task not in busy and self._advance(drop, now):
                    return True
                busy.add(drop.task)
            return False

    def _look_at_intake(self) -> bool:
        at = self._intake.drop
        if at is None:
            return False
        drop = self._ledger.drops.get(at)
        return self._guarded(drop, self._intake.look)

    def cancel(self, job_id: int) -> JobRow:
        """Stop a job; its drop is held until a person releases it. Raises `NotAllowed` if it has ended."""
        with self._lock:
            return self._runner.cancel(job_id)

    def release(self, drop_id: int) -> DropRow:
        """Let a held drop go on, or try a failed or quarantined one again. Raises `NotAllowed` for any other."""
        with self._lock, self._ledger.transaction():
            drop = self._ledger.drops.get(drop_id)
            if drop.state not in _RELEASABLE:
                raise NotAllowed(
                    f"drop {drop_id} is {drop.state.value}: only held, failed and quarantined drops can be released",
                    hint=f"`adapterd show {drop_id}` says what becomes of it",
                )
            # Its rows are parted again: what the task has learned may have changed since.
            to = DropState.CLAIMED if drop.state is DropState.QUARANTINED or not drop.rows else DropState.PARSED
            released = self._ledger.drops.move(drop_id, to, reason="released by a person", released=True)
            emit(self._ledger, "drop.released", f"drop {drop_id} ({drop.filename}) was released", drop)
            self._faults.pop(drop_id, None)
            return released

    @contextmanager
    def resting(self, task: str) -> Iterator[None]:
        """No drop goes on meanwhile. Raises `NotAllowed` while one of the task is on its way."""
        with self._lock:
            for drop in self._ledger.drops.find(task, states=[DropState.CLAIMED, *_WAITING])[:1]:
                hint = f"`adapterd drops {task}` shows how far it is; `adapterd cancel {drop.id}` stops it"
                if self._ledger.canaries.of(task):
                    hint = f"it waits for the canary: `adapterd promote {task}@canary` or `revert {task} --canary`"
                raise NotAllowed(f"drop {drop.id} of {task} is {drop.state.value}: wait until it is done", hint=hint)
            yield

    def job_folder(self, job: JobRow) -> Path:
        """Where a job's files lie."""
        return self._runner.folder(job)

    def stop(self) -> None:
        """End the training process; its job stays and resumes when the daemon starts again."""
        with self._lock:
            self._runner.stop()
            self._intake.stop()

    @property
    def pid(self) -> int | None:
        """The training process, while one runs."""
        return self._runner.pid

    def _advance(self, drop: DropRow, now: float) -> bool:
        """Take one drop one state further; False if it has to wait."""
        return self._guarded(drop, lambda: self._next(drop, now))

    def _next(self, drop: DropRow, now: float) -> bool:
        match drop.state:
            case DropState.CLAIMED | DropState.PARSED:
                if self._intake.busy:
                    return False
                if drop.state is DropState.CLAIMED:
                    self._intake.read(drop, self._settings)
                elif is_golden(drop.filename) and self._ledger.canaries.of(drop.task):
                    return False  # what a version has learned cannot judge, and which one is champion is not decided
                else:
                    self._intake.audit(drop, self._settings, lineage(self._ledger, self._store, drop.task))
            case DropState.AUDITED:
                self._plan(drop)
            case DropState.PLANNED | DropState.TRAINING:
                # What a canary has learned is built upon, or not, once it is decided.
                if self._runner.busy or not self._may_train(now) or self._ledger.canaries.of(drop.task):
                    return False
                device = self._base.device.type
                return self._runner.start(drop, lambda: self._spec(drop), self._settings.trainer, now, device)
            case _:
                job = self._ledger.jobs.find(drop=drop.id)[-1]
                with bound_contextvars(job=job.id):
                    self._conclusion.draw(drop, self._runner.folder(job), self._settings)
        return True

    def _guarded(self, drop: DropRow, step: Callable[[], bool]) -> bool:
        """Do a step of a drop; an error of the drop's own becomes its state."""
        with bound_contextvars(task=drop.task, drop=drop.id):
            return self._attempt(drop, step)

    def _attempt(self, drop: DropRow, step: Callable[[], bool]) -> bool:
        try:
            return step()
        except (OSError, DiskFailure, LedgerFailed):
            raise  # a full disk, say: the loop comes again, for as long as it takes
        except ConfigError as error:
            hold(self._ledger, drop, f"{error.message} ({error.hint}); release the drop when it is mended")
        except (LearningError, DaemonError, ServingError) as error:
            fail(self._ledger, drop, f"{error.message} ({error.hint})" if error.hint else error.message)
        except Exception as error:
            # A fault of ours: tried again, for it may pass, and then given up, so that it holds up nothing else.
            self._faults[drop.id] = self._faults.get(drop.id, 0) + 1
            if self._faults[drop.id] < _FAULTS_BORNE:
                raise
            log.exception("drop given up")
            said = f"{type(error).__name__} at {drop.state.value}: {error} (the daemon's log has the trace)"
            fail(self._ledger, drop, said)
        return True

    def _plan(self, drop: DropRow) -> None:
        decided = plan_drop(drop, load_task_settings(self._settings, drop.task).audit.policy)
        with self._ledger.transaction():
            drop = self._ledger.drops.move(drop.id, DropState.PLANNED, plan=decided.action.value, reason=decided.reason)
            match decided.action:
                case Action.TRAIN:
                    self._ledger.jobs.queue(drop.task, drop.id)
                case Action.REHEARSE:
                    done(self._ledger, drop, decided.reason, f"needs no training: {decided.reason}")
                case Action.GOLDEN:
                    done(self._ledger, drop, decided.reason, f"is the golden set: {decided.reason}")
                case Action.HOLD:
                    hold(self._ledger, drop, decided.reason)
                case Action.REJECT:
                    fail(self._ledger, drop, decided.reason)
        failpoint("plan.noted")

    def _may_train(self, now: float) -> bool:
        window = self._settings.trainer.quiet_window
        local = datetime.fromtimestamp(now).astimezone()
        return not window or in_quiet_window(local.hour * 60 + local.minute, parse_window(window))

    def _spec(self, drop: DropRow) -> Spec | None:
        """What the training is to do; None if the drop's rows were parted for another lineage than that of now.

        What judges that lineage may stand among the rows to learn.
        """
        settings, came_from = self._settings, lineage(self._ledger, self._store, drop.task)
        if not is_parted_for(drop, came_from):
            return None
        task_settings = load_task_settings(settings, drop.task)
        parent = came_from.champion.version if came_from.champion else 0
        new_labels = bool(drop.details["new_labels"])
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
            general=str(general_file(settings.state, self._base.fingerprint)),
            parent=str(self._store.folder(drop.task, parent)) if parent else "",
            parent_version=parent,
            history=list(came_from.drops),
            golden=came_from.golden,
            known=known_figures(
                self._ledger, came_from, new_labels=new_labels, max_length=task_settings.training.max_length
            ),
            training=task_settings.training.model_dump(),
            answered=0.0 if drop.released else task_settings.drift.answered,
            hold_contradictions=not drop.released and task_settings.drift.contradictions == "hold",
            new_labels=new_labels,
            gate=task_settings.gate.model_dump(),
        )

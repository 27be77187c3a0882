"""What becomes of a drop whose training process has ended: a version, promoted or not, or none where none is needed or
a person is to look at the drop first.

Each step may have been done already, before a kill; none is done twice.
"""

from collections.abc import Callable
from pathlib import Path

from ..adapters.base import Base
from ..adapters.failpoints import failpoint
from ..adapters.store import Store
from ..continual.plan import Action
from .config import Settings, load_task_settings
from .drift_watch import read_drift, tell_of_rows
from .ledger import DropRow, Ledger, VersionRow
from .lifecycle import Lifecycle
from .outcomes import done, emit, hold
from .publishing import publish
from .trainer_spec import Spec
from .training_job import TrainingJob


class Conclusion:
    """Takes EVALUATED drops to DONE, or to HELD."""

    def __init__(
        self, ledger: Ledger, store: Store, lifecycle: Lifecycle, base: Base, clock: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._lifecycle = lifecycle
        self._base = base
        self._clock = clock

    def draw(self, drop: DropRow, job: Path, settings: Settings) -> None:
        """Judge, publish, promote. `job` is the folder with the result."""
        spec, drift = Spec.read(job), read_drift(job)
        if reason := drift.get("held", ""):
            self._hold(drop, spec, drift, reason)
        elif reason := drift.get("spared", ""):
            self._spare(drop, spec, drift, reason)
        else:
            self._publish(drop, spec, job, settings)
        failpoint("drop.done")
        TrainingJob(job).clear()

    def _hold(self, drop: DropRow, spec: Spec, drift: dict[str, object], reason: str) -> None:
        """Let the drop wait for a person; what was found of its rows stays with it."""
        with self._ledger.transaction():
            tell_of_rows(self._ledger, spec, drift)
            self._ledger.drops.amend(drop.id, details={"drift": drift})
            hold(self._ledger, drop, f"{reason}; release it to learn it all the same (drift.contradictions)")

    def _spare(self, drop: DropRow, spec: Spec, drift: dict[str, object], reason: str) -> None:
        """Keep the drop's rows behind the champion as it is: to be replayed, and to judge by."""
        with self._ledger.transaction():
            tell_of_rows(self._ledger, spec, drift)
            details = {"rehearsed_by": spec.parent_version, "drift": drift}
            self._ledger.drops.amend(drop.id, plan=Action.REHEARSE.value, details=details)
            done(self._ledger, drop, reason, f"needs no training: {reason}")

    def _publish(self, drop: DropRow, spec: Spec, job: Path, settings: Settings) -> None:
        known = {row.version for row in self._ledger.versions.find(drop.task)}
        if spec.version in known:
            version = self._ledger.versions.get(drop.task, spec.version)
        else:
            version = publish(self._ledger, self._store, self._base, drop, spec, job, self._clock())
        if version.verdict == "promote":
            self._promote(drop, version, spec.parent_version or None, settings)
        became = f"became {drop.task}@{version.version}, {version.state.value}"
        done(self._ledger, drop, version.reason, became, version.version)

    def _promote(self, drop: DropRow, version: VersionRow, parent: int | None, settings: Settings) -> None:
        """Make the version champion, or the canary where the settings want one first; unless its parent is not the
        champion any more: then a person has chosen."""
        champion = self._ledger.aliases.of(drop.task).get("champion")
        if champion == version.version:
            return
        if champion != parent:
            emit(
                self._ledger,
                "version.not-promoted",
                f"{drop.task}@{version.version} is available and not promoted: the champion moved to "
                f"{drop.task}@{champion} while it was trained",
                drop,
                version=version.version,
            )
            return
        share = load_task_settings(settings, drop.task).canary.share
        if share and champion is not None:
            self._lifecycle.canary(drop.task, version.version, share, actor="gate", reason=version.reason)
        else:
            self._lifecycle.promote(drop.task, version.version, expected=champion, actor="gate", reason=version.reason)

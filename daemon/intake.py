"""The first steps of a drop: read, audit, plan. The auditing process works on files; the ledger is written here.

CLAIMED ──read──► PARSED ──audit──► AUDITED ──plan──► PLANNED    or QUARANTINED, HELD, FAILED
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..adapters.base import Base
from ..adapters.failpoints import failpoint
from ..continual.audit.findings import Concern
from ..continual.audit.policy import Handling, Policy, objections
from ..continual.audit.presidio import is_installed
from ..continual.golden import is_golden
from ..continual.plan import Action, Counts, Plan, plan
from .audit_process import AuditProcess
from .auditing import Auditing, Reading
from .config import Settings, TaskSettings, load_task_settings
from .dataset import Dataset
from .errors import AuditorFailed, ConfigError, DaemonError
from .ledger import DropRow, Ledger
from .lineage import Lineage
from .outcomes import emit, fail
from .states import DropState

# How long a step waits for an answer: that of a small file is there by then.
_WAIT_S = 0.05


class Intake:
    """Has one drop at a time read or audited, and writes down what came of it."""

    def __init__(self, ledger: Ledger, dataset: Dataset, base: Base) -> None:
        self._ledger = ledger
        self._dataset = dataset
        self._base = base
        self._process = AuditProcess()
        self._at: int | None = None

    @property
    def busy(self) -> bool:
        """Whether the process is at work."""
        return self._at is not None

    @property
    def drop(self) -> int | None:
        """The drop that is read or audited now."""
        return self._at

    def read(self, drop: DropRow, settings: Settings) -> None:
        """Begin to read a CLAIMED drop. Raises `ConfigError` for a wrong `task.toml`."""
        task = load_task_settings(settings, drop.task)
        if drop.size > task.limits.max_file_bytes:
            self._quarantine(
                drop,
                f"{drop.filename} has {drop.size:,} bytes, more than limits.max_file_bytes = "
                f"{task.limits.max_file_bytes:,} (split the file, or raise the limit in task.toml)",
            )
            return
        place = self._dataset.where(drop.task, drop.id, Path(drop.path))
        if str(place) != drop.path:
            drop = self._ledger.drops.amend(drop.id, path=place)
        policy = task.audit.policy
        handled = {Concern.PERSONAL: policy.personal, Concern.SECRET: policy.secrets}
        request = Reading(
            task=drop.task,
            drop=drop.id,
            data=str(self._dataset.data),
            quarantine=str(self._dataset.quarantine),
            path=str(place),
            limits={name: getattr(task.limits, name) for name in ("max_decoded_bytes", "max_row_chars")},
            max_bad_rows=task.limits.max_bad_rows,
            redact=[concern.value for concern, handling in handled.items() if handling is Handling.REDACT],
            region=task.audit.region,
            presidio=task.audit.presidio,
        )
        self._ask(drop, {"read": asdict(request)}, task)

    def audit(self, drop: DropRow, settings: Settings, behind: Lineage) -> None:
        """Begin to audit a PARSED drop. Raises `ConfigError` for a wrong `task.toml`."""
        task = load_task_settings(settings, drop.task)
        request = Auditing(
            task=drop.task,
            drop=drop.id,
            data=str(self._dataset.data),
            quarantine=str(self._dataset.quarantine),
            history=list(behind.drops),
            golden=behind.golden,
            is_golden=is_golden(drop.filename),
            labels=list(behind.labels),
            heldout=task.heldout.model_dump(),
            seed=task.training.seed,
            region=task.audit.region,
            presidio=task.audit.presidio,
            tokenizer=str(self._base.folder / "tokenizer.json"),
            max_length=task.training.max_length,
        )
        self._ask(drop, {"audit": asdict(request)}, task)

    def look(self) -> bool:
        """Take the answer, if it is there: True if a drop has moved on. A fault of ours is raised as `DaemonError`."""
        if self._at is None:
            return False
        drop = self._ledger.drops.get(self._at)
        try:
            answer = self._process.answer(_WAIT_S)
        except AuditorFailed as error:
            self._at = None
            self._give_up(drop, error)
            return True
        if answer is None:
            return False
        self._at = None
        if "fault" in answer:
            raise DaemonError(f"auditing drop {drop.id} ({drop.filename}) failed: {answer['fault']}")
        if "refused" in answer:
            self._quarantine(drop, f"{answer['refused']} ({answer['hint']})" if answer["hint"] else answer["refused"])
        elif drop.state is DropState.CLAIMED:
            self._parsed(drop, answer["done"])
        else:
            self._audited(drop, answer["done"])
        return True

    def stop(self) -> None:
        """End the process; what it was at is begun again by the next daemon."""
        self._at = None
        self._process.stop()

    def _ask(self, drop: DropRow, request: dict[str, Any], task: TaskSettings) -> None:
        if task.audit.presidio and not is_installed():
            said = "audit.presidio is set, and presidio is not installed"
            raise ConfigError(said, hint="pip install 'adapterd[presidio]'")
        limits = task.limits
        self._process.ask(request, memory_bytes=limits.audit_memory_bytes, seconds=limits.audit_seconds)
        self._at = drop.id

    def _parsed(self, drop: DropRow, found: Mapping[str, Any]) -> None:
        failpoint("read.done")
        if found["keep_file"]:
            kept = self._dataset.keep_original(drop.task, drop.id, Path(drop.path))
        else:
            Path(drop.path).unlink(missing_ok=True)
            kept = self._dataset.rows_file(drop.task, drop.id)
        failpoint("read.kept")
        good, bad, repeated = found["rows"], found["bad_rows"], found["repeated_rows"]
        redacted = f", {found['redacted_rows']} redacted" if found["redacted_rows"] else ""
        with self._ledger.transaction():
            self._ledger.drops.move(
                drop.id,
                DropState.PARSED,
                path=str(kept),
                rows=good,
                bad_rows=bad,
                details={"repeated_rows": repeated, "redacted_rows": found["redacted_rows"]},
            )
            emit(
                self._ledger,
                "drop.parsed",
                f"drop {drop.id} ({drop.filename}): {good} rows, {bad} bad ones set aside, "
                f"{repeated} repeated ones taken once{redacted}",
                drop,
                details={"rows": good, "bad_rows": bad, "bad": found["bad"]},
            )
        failpoint("read.noted")

    def _audited(self, drop: DropRow, found: Mapping[str, Any]) -> None:
        failpoint("audit.done")
        counts = found["audit"]["counts"]
        said = ", ".join(f"{count} {concern}" for concern, count in counts.items()) or "nothing to remark"
        columns = ("train_rows", "heldout_rows")
        with self._ledger.transaction():
            self._ledger.drops.move(
                drop.id,
                DropState.AUDITED,
                train_rows=found["train_rows"],
                heldout_rows=found["heldout_rows"],
                details={name: value for name, value in found.items() if name not in columns},
            )
            emit(
                self._ledger,
                "drop.audited",
                f"drop {drop.id} ({drop.filename}): {said}",
                drop,
                details={"counts": counts},
            )
        failpoint("audit.noted")

    def _give_up(self, drop: DropRow, error: AuditorFailed) -> None:
        """A file that cannot be read within its limits is quarantined; where the audit does not end, the drop fails."""
        if drop.state is DropState.CLAIMED:
            self._quarantine(drop, f"{drop.filename} cannot be read within its limits: {error.message}")
        else:
            fail(self._ledger, drop, f"the audit did not end: {error.message}; raise the limit and release the drop")

    def _quarantine(self, drop: DropRow, reason: str) -> None:
        reason = reason.replace(Path(drop.path).name, drop.filename)  # a person knows it by the name that they gave it
        kept = self._dataset.quarantine_original(drop.task, drop.id, Path(drop.path), reason)
        failpoint("quarantine.moved")
        with self._ledger.transaction():
            self._ledger.drops.move(drop.id, DropState.QUARANTINED, path=str(kept), reason=reason)
            emit(
                self._ledger,
                "drop.quarantined",
                f"drop {drop.id} ({drop.filename}) is quarantined: {reason}",
                drop,
                details={"path": str(kept)},
            )
        failpoint("quarantine.noted")


def plan_drop(drop: DropRow, policy: Policy) -> Plan:
    """What to do with an audited drop."""
    counts = Counts(
        rows=drop.rows,
        fresh=int(drop.details["fresh_rows"]),
        effective=int(drop.details["audit"]["effective_rows"]),
        train=drop.train_rows,
        heldout=drop.heldout_rows,
        golden=is_golden(drop.filename),
    )
    decided = plan(counts, released=drop.released)
    found = objections(drop.details["audit"], policy) if decided.action is Action.TRAIN and not drop.released else []
    if not found:
        return decided
    return Plan(
        Action.HOLD,
        f"{'; '.join(found)}. `adapterd show {drop.id}` names rows; `adapterd release {drop.id}` trains all the same",
    )

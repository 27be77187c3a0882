"""Whether a candidate becomes champion: a pure function of what both reach on the same held-out rows.

The rule. On the new drop the candidate must be better than what answers now (the champion; the base for a first
version). On every earlier drop it must not be worse by more than a margin: for classification by accuracy, where two
rows at least must be lost, as one row of a small held-out part proves nothing; for other rows by the loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from .evaluate import Figures

_MIN_ROWS_LOST = 2


class Decision(StrEnum):
    """What happens to a candidate."""

    PROMOTE = "promote"
    CANARY = "canary"
    REJECT = "reject"


@dataclass(frozen=True)
class Margins:
    """As `[gate]` in the settings: shares of rows, and nats per token."""

    margin_accuracy: float = 0.05
    margin_loss: float = 0.10
    min_gain: float = 0.0


@dataclass(frozen=True)
class Check:
    """One drop's part of the verdict. Changes are candidate minus reference: nats per token, and a share of rows."""

    drop: int
    new: bool
    passed: bool
    loss_change: float
    accuracy_change: float | None
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """The decision, one sentence why, and what each drop contributed."""

    decision: Decision
    reason: str
    checks: tuple[Check, ...]


def decide(
    new_drop: int, candidate: Mapping[int, Figures], reference: Mapping[int, Figures], margins: Margins
) -> Verdict:
    """The gate's verdict. Both mappings hold, by drop, figures on the same rows; `new_drop` is the one learned from."""
    checks = []
    for drop in sorted(candidate):
        ours, theirs = candidate[drop], reference[drop]
        if ours.ids != theirs.ids:
            raise ValueError(f"drop {drop}: candidate and reference were not judged on the same rows")
        if ours.rows:
            check = _gained if drop == new_drop else _kept
            checks.append(check(drop, ours, theirs, margins))
    failed = [check for check in checks if not check.passed]
    if not any(check.new for check in checks):
        return Verdict(Decision.REJECT, f"drop {new_drop} has no held-out rows to judge by", tuple(checks))
    if failed:
        return Verdict(Decision.REJECT, "; ".join(check.sentence for check in failed), tuple(checks))
    kept = sum(not check.new for check in checks)
    gain = next(check.sentence for check in checks if check.new)
    reason = f"{gain}; {kept} earlier drop{'s' * (kept != 1)} kept" if kept else gain
    return Verdict(Decision.PROMOTE, reason, tuple(checks))


def _gained(drop: int, ours: Figures, theirs: Figures, margins: Margins) -> Check:
    loss, accuracy = _changes(ours, theirs)
    better = loss < -margins.min_gain
    worse = accuracy is not None and _lost(accuracy, ours.rows, margins)
    said = "improves" if better and not worse else "does not improve"
    return Check(drop, True, better and not worse, loss, accuracy, f"new drop {drop} {said} ({_figures(ours, theirs)})")


def _kept(drop: int, ours: Figures, theirs: Figures, margins: Margins) -> Check:
    loss, accuracy = _changes(ours, theirs)
    forgotten = _lost(accuracy, ours.rows, margins) if accuracy is not None else loss > margins.margin_loss
    said = "is forgotten" if forgotten else "is kept"
    return Check(drop, False, not forgotten, loss, accuracy, f"drop {drop} {said} ({_figures(ours, theirs)})")


def _lost(accuracy_change: float, rows: int, margins: Margins) -> bool:
    """Whether accuracy fell by more than the margin, and by two rows at least."""
    # The small constant keeps a fall of exactly the margin, as floats have it, on the safe side.
    return -accuracy_change > margins.margin_accuracy + 1e-9 and -accuracy_change * rows > _MIN_ROWS_LOST - 0.5


def _changes(ours: Figures, theirs: Figures) -> tuple[float, float | None]:
    accuracy = None
    if ours.accuracy is not None and theirs.accuracy is not None:
        accuracy = ours.accuracy - theirs.accuracy
    return ours.loss - theirs.loss, accuracy


def _figures(ours: Figures, theirs: Figures) -> str:
    loss = f"loss {theirs.loss:.3f} → {ours.loss:.3f}"
    if ours.accuracy is None or theirs.accuracy is None:
        return loss
    return f"accuracy {theirs.accuracy:.3f} → {ours.accuracy:.3f}, {loss}"

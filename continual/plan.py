"""What to do with a parsed drop: a pure function of its counts."""

from dataclasses import dataclass
from enum import StrEnum

# With fewer, neither a gradient step nor a verdict on held-out rows says anything.
_MIN_ROWS = 8


class Action(StrEnum):
    """What the worker does next."""

    TRAIN = "train"
    REHEARSE = "rehearse"
    GOLDEN = "golden"
    HOLD = "hold"
    REJECT = "reject"


@dataclass(frozen=True)
class Counts:
    """Rows of a drop: good ones, those not seen before, how many of these are not another one rephrased, how they were
    parted, and whether it is the golden set."""

    rows: int
    fresh: int
    effective: int
    train: int
    heldout: int
    golden: bool = False


# Fewer rows answered right may be luck.
_MIN_ANSWERED = 20


@dataclass(frozen=True)
class Plan:
    """The action and one sentence why."""

    action: Action
    reason: str


def plan(counts: Counts, *, released: bool) -> Plan:
    """Decide; `released`: a person has looked at the held drop and wants it trained."""
    if counts.rows == 0:
        return Plan(Action.REJECT, "no row can be used")
    if counts.golden and counts.heldout == 0:
        return Plan(Action.REJECT, f"the task has learned from all {counts.rows} rows: they cannot judge it")
    if counts.golden:
        return Plan(Action.GOLDEN, f"{counts.heldout} rows that every version is judged by and none learns from")
    if counts.fresh == 0:
        said = (
            f"all {counts.rows} rows are known from earlier drops or the golden set, or ask the same: nothing to learn"
        )
        return Plan(Action.REHEARSE, said)
    if counts.train == 0 or counts.heldout == 0:
        return Plan(Action.REJECT, f"{counts.fresh} new rows cannot be parted into training and held-out rows")
    if counts.effective < _MIN_ROWS and not released:
        alike = f", {counts.fresh} with those that ask the same" if counts.fresh > counts.effective else ""
        return Plan(
            Action.HOLD,
            f"only {counts.effective} new rows{alike}, too few to learn and judge ({_MIN_ROWS} wanted): "
            "release to train anyway",
        )
    return Plan(Action.TRAIN, f"{counts.train} rows to learn from, {counts.heldout} to judge by")


def needs_no_training(
    right: float | None, rows: int, *, drifted: bool | None, new_labels: bool, answered: float
) -> str:
    """Why a drop that was planned to be trained need not be, in a sentence; empty if it is to be.

    `right`: share of the drop's `rows` that the champion answers right, None where nothing is right or wrong.
    `drifted`: whether its rows have moved away from those learned, None where nobody can tell. `answered`: from
    `[drift]`.
    """
    if not answered or right is None or right < answered or rows < _MIN_ANSWERED or drifted is not False or new_labels:
        return ""
    return f"the champion answers {right:.0%} of {rows} rows right, and they are like those that it knows"

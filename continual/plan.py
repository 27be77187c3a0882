"""What to do with a parsed drop: a pure function of its counts."""

from dataclasses import dataclass
from enum import StrEnum

# With fewer, neither a gradient step nor a verdict on held-out rows says anything.
_MIN_ROWS = 8


class Action(StrEnum):
    """What the worker does next."""

    TRAIN = "train"
    REHEARSE = "rehearse"
    HOLD = "hold"
    REJECT = "reject"


@dataclass(frozen=True)
class Counts:
    """Rows of a drop: good ones, those not seen in an earlier drop, and how these were parted."""

    rows: int
    fresh: int
    train: int
    heldout: int


@dataclass(frozen=True)
class Plan:
    """The action and one sentence why."""

    action: Action
    reason: str


def plan(counts: Counts, *, released: bool) -> Plan:
    """Decide; `released`: a person has looked at the held drop and wants it trained."""
    if counts.rows == 0:
        return Plan(Action.REJECT, "no row can be used")
    if counts.fresh == 0:
        return Plan(Action.REHEARSE, f"all {counts.rows} rows are known from earlier drops: nothing to learn")
    if counts.train == 0 or counts.heldout == 0:
        return Plan(Action.REJECT, f"{counts.fresh} new rows cannot be parted into training and held-out rows")
    if counts.fresh < _MIN_ROWS and not released:
        return Plan(
            Action.HOLD,
            f"only {counts.fresh} new rows, too few to learn and judge ({_MIN_ROWS} wanted): release to train anyway",
        )
    return Plan(Action.TRAIN, f"{counts.train} rows to learn from, {counts.heldout} to judge by")

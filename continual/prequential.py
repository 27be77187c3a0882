"""Test, then train: how the champion answers each new row before anything learns from it, drop after drop.

The answers make one stream over a task's life ("prequential", Dawid 1984; Gama, Sebastião & Rodrigues 2013,
doi:10.1007/s10994-012-5320-9): an honest figure of what people meet between two drops. ADWIN (Bifet & Gavaldà 2007,
doi:10.1137/1.9781611972771.42) watches its mean: it keeps a window that shrinks when two parts of it differ by more
than chance allows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .evaluate import Figures  # which needs torch, and who only reads what was answered does not

ROWS: Final = 200
"""Rows of a drop that the champion is asked: each is a pass through the model."""

# A change is claimed where there is none with this probability: the detector's own default.
_DELTA: Final = 0.002


@dataclass(frozen=True, slots=True)
class Answered:
    """One row as the champion answered it: `right` is None where there is no right or wrong; `loss` in nats a token."""

    loss: float
    right: bool | None

    @property
    def error(self) -> float:
        """Between 0 and 1: whether it was wrong or, without right and wrong, one minus the mean token's probability."""
        return 1 - exp(-self.loss) if self.right is None else float(not self.right)


@dataclass(frozen=True, slots=True)
class Change:
    """The mean error rose: from `before` over the last rows before to `after` over the newest, among which it was
    noticed at row `at` (from 0).
    """

    at: int
    before: float
    after: float


def answered(figures: "Figures") -> list[Answered]:
    """What was judged, row by row."""
    rights = zip(figures.correct, figures.exact, strict=True)
    return [
        Answered(loss, exact if label is None else label)
        for loss, (label, exact) in zip(figures.losses, rights, strict=True)
    ]


def rise(before: Iterable[Answered], now: Sequence[Answered]) -> Change | None:
    """The first rise of the error within `now`, in the stream of all that came `before`; None where it is steady, or
    nothing came before.

    A fall is no drift: it is what learning is for.
    """
    from river.drift import ADWIN  # noqa: PLC0415 - it takes seconds to import, and the daemon itself never asks

    detector: Any = ADWIN(delta=_DELTA)  # type: ignore[no-untyped-call]
    for one in before:
        detector.update(one.error)
    if not detector.width:
        return None
    mean, mean_now = float(detector.estimation), sum(one.error for one in now) / max(1, len(now))
    for place, one in enumerate(now):
        detector.update(one.error)
        if detector.drift_detected and mean_now > mean:
            return Change(place, mean, mean_now)
    return None


def share_right(rows: Sequence[Answered]) -> float | None:
    """The share that was answered right; None where nothing can be right or wrong."""
    judged = [one.right for one in rows if one.right is not None]
    return sum(judged) / len(judged) if judged else None

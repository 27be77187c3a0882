"""A step part of the way, where the gate would reject the whole of it.

A candidate that has learned its drop but forgotten too much of another one may have gone too far: between its champion
and it lie points that have kept more and learned less, and are often better than both (Wortsman et al. 2022,
"WiSE-FT", arXiv:2109.01903). They are judged in turn, the farthest first, and the first one that the gate promotes is
taken; nothing is trained for it.

Every point is one more question to the same held-out rows, so a candidate at the gate's bound gets up to five tries. So
what speaks against the drop itself is never tried again: a known label that was lost, rows that contradict what is
known, answers that repeat themselves (`Verdict.went_too_far`). Less of a poison is a poison.
"""

from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

from torch import Tensor

from .gate import Decision, Verdict
from .part_way import PARTS, go_part_way

Measured = TypeVar("Measured")


class Rescued(NamedTuple, Generic[Measured]):
    """How far the candidate may go, what was measured there, and a sentence that says why it goes no farther."""

    part: float
    measured: Measured
    said: str


def rescue(
    theta: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    rejected: Verdict,
    judge: Callable[[], tuple[Measured, Verdict]],
) -> Rescued[Measured] | None:
    """Move `theta`, a candidate that was `rejected`, back towards `start`, until the gate promotes it.

    `judge` measures what `theta` holds and asks the gate. Where no point is promoted, or none is to be tried, `theta`
    is the candidate as it was, and the answer None.
    """
    if not rejected.went_too_far:
        return None
    end = {name: weight.detach().clone() for name, weight in theta.items()}
    for part in PARTS:
        go_part_way(theta, start, end, part)
        measured, verdict = judge()
        if verdict.decision is Decision.PROMOTE:
            return Rescued(part, measured, f"{part:.0%} of the way, for the whole would not do: {rejected.reason}")
    go_part_way(theta, start, end, 1.0)
    return None

"""Whether the champion meets data that it does not know: its loss on a new drop, before it learns from it.

Test, then train ("prequential", Dawid 1984; Gama et al. 2013): each drop's rows are first answered by the champion.
Their losses are compared with the champion's losses on held-out rows of the drops that it has learned, by Welch's
t-test (1947), which allows for unequal spread and size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

# Fewer rows on either side cannot tell drift from chance.
_MIN_ROWS = 5


@dataclass(frozen=True)
class Shift:
    """`change`: mean loss now minus before, nats per token; `p_value`: of a rise at least as large by chance."""

    change: float
    p_value: float
    rows_before: int
    rows_now: int
    drifted: bool


def performance_shift(before: Sequence[float], now: Sequence[float], *, alpha: float = 0.01) -> Shift | None:
    """One-sided test that losses rose; None if there are too few rows to say anything. Losses in nats per token."""
    if len(before) < _MIN_ROWS or len(now) < _MIN_ROWS:
        return None
    change = sum(now) / len(now) - sum(before) / len(before)
    result = stats.ttest_ind(now, before, equal_var=False, alternative="greater")
    # Without any spread on both sides the statistic is 0/0: then the means decide.
    p_value = float(result.pvalue) if result.pvalue == result.pvalue else float(change <= 0)
    return Shift(change, p_value, len(before), len(now), p_value < alpha)

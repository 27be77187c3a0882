"""Tests of whether one subject is worse than another on the same rows, and of one on two kinds of rows.

All are one-sided and give the probability of what was seen, or more of it, if there were no difference.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

# With fewer pairs a spread cannot be told.
_MIN_PAIRS = 3


def p_losses_rose(before: Sequence[float], after: Sequence[float]) -> float:
    """Paired t-test (Student 1908) that the mean of `after` is above that of `before`, row by row; 1 for few rows."""
    changes = [new - old for old, new in zip(before, after, strict=True)]
    if len(changes) < _MIN_PAIRS:
        return 1.0
    if max(changes) - min(changes) < 1e-9:  # no spread: every row moved alike
        return 0.0 if changes[0] > 1e-9 else 1.0
    return float(stats.ttest_1samp(changes, 0.0, alternative="greater").pvalue)


def p_answers_lost(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Exact McNemar test (McNemar 1947): of the rows that changed sides, were more lost than won? 1 if none changed."""
    lost = sum(old and not new for old, new in zip(before, after, strict=True))
    won = sum(new and not old for old, new in zip(before, after, strict=True))
    return float(stats.binomtest(lost, lost + won, 0.5, alternative="greater").pvalue) if lost + won else 1.0


def p_share_lower(right: int, rows: int, right_elsewhere: int, rows_elsewhere: int) -> float:
    """Exact test (Fisher 1922) that the share of right answers is lower here than elsewhere; 1 without rows."""
    if not rows or not rows_elsewhere:
        return 1.0
    table = np.array([[right, rows - right], [right_elsewhere, rows_elsewhere - right_elsewhere]])
    return float(stats.fisher_exact(table, alternative="less").pvalue)

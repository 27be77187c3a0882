"""Figures of a stream of drops, from the matrix of what each version reaches on each drop.

R[t][j] is the score of the version after drop t on the held-out rows of drop j, both counted from 0; T drops in all. As
defined by Lopez-Paz & Ranzato (2017), "Gradient Episodic Memory", arXiv:1706.08840, and for forgetting by Chaudhry et
al. (2018), "Riemannian Walk", arXiv:1801.10112. All divide by the number of terms that they sum. Scores are such that
more is better. Rows that were not measured are None, and what needs them is None.
"""

from collections.abc import Sequence

Matrix = Sequence[Sequence[float | None]]


def average_accuracy(matrix: Matrix) -> float | None:
    """AA = mean_j R[T-1][j]: how good the last version is on all drops."""
    return _mean(matrix[-1]) if matrix else None


def backward_transfer(matrix: Matrix) -> float | None:
    """BWT = mean over j < T-1 of R[T-1][j] - R[j][j]: below zero is forgetting. None for a single drop."""
    return _mean([_minus(matrix[-1][j], matrix[j][j]) for j in range(len(matrix) - 1)])


def forward_transfer(matrix: Matrix, base: Sequence[float | None]) -> float | None:
    """FWT = mean over j >= 1 of R[j-1][j] - b[j]: what earlier drops teach of the next; `base` is b."""
    return _mean([_minus(matrix[j - 1][j], base[j]) for j in range(1, len(matrix))])


def forgetting(matrix: Matrix) -> float | None:
    """Mean over j < T-1 of max over l < T-1 of R[l][j] - R[T-1][j]. None for a single drop."""
    falls = []
    for j in range(len(matrix) - 1):
        seen = [row[j] for row in matrix[j:-1]]
        known = [score for score in seen if score is not None]
        falls.append(_minus(max(known) if len(known) == len(seen) else None, matrix[-1][j]))
    return _mean(falls)


def _minus(one: float | None, other: float | None) -> float | None:
    return one - other if one is not None and other is not None else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None

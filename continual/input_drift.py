"""Whether what comes in has moved away from what came before: a reference window of rows against a current one.

    embeddings   maximum mean discrepancy between mean-pooled hidden states of the base (Gretton et al. 2012, "A
                 kernel two-sample test", JMLR 13), by permutation; of the layers in `LAYERS`
    dimensions   each dimension of the same by Kolmogorov and Smirnov's test, the smallest p-value
    lengths      the number of tokens of a row, by the same test
    labels       their mix, by the chi-squared test with p-values by permutation where counts are small
    words        how much of the current rows' vocabulary the reference does not know; told, not tested

Every test's p-value is corrected for the number of tests that the verdict rests on (Holm 1979), so drift is claimed
where there is none in no more than `level` of all comparisons. The dimensions' test helps to see what moved, and takes
part with a correction of its own (Bonferroni over dimensions).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LAYERS: Final = (0, 8)
"""Hidden states that are compared: layer 0 (the embeddings of the words), and one that knows some of their meaning."""

# Rows of a window that are compared: a permutation test costs their number squared.
MOST_ROWS: Final = 500
_PERMUTATIONS: Final = 500
# Rows that a verdict names.
_NAMED: Final = 3
# Fewer rows than this on either side say nothing.
_LEAST_ROWS: Final = 20

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Window:
    """Rows of one time. `states`: (rows, width) by layer; `lengths` in tokens; `labels` empty where rows have none."""

    texts: Sequence[str]
    states: Mapping[int, Array]
    lengths: Sequence[int]
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Moved:
    """One comparison: what was compared, its statistic, its p-value as corrected, and a phrase that says how far."""

    what: str
    statistic: float
    p_value: float
    said: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All comparisons, whether any of them speaks of drift at the level, and where in the current window the rows stand
    that lie farthest away."""

    drifted: bool
    comparisons: Sequence[Moved] = ()
    farthest: Sequence[int] = ()

    @property
    def moved(self) -> bool:
        """Whether the questions are others than before, whatever their labels."""
        return any(one.p_value <= _MOVED for one in self.comparisons if one.what != _LABELS)

    @property
    def reason(self) -> str:
        """What moved, in a sentence; empty without drift."""
        moved = [f"{one.said} (p = {one.p_value:.2g})" for one in self.comparisons if one.p_value <= _LEVEL_SAID]
        return "; ".join(moved) if self.drifted else ""


_LEVEL_SAID: Final = 0.05
_MOVED: Final = 0.02
_LABELS: Final = "labels"


def compare(reference: Window, current: Window, *, level: float = 0.05, seed: int = 0) -> Verdict | None:
    """Compare two windows; None where either has too few rows to say anything."""
    if min(len(reference.texts), len(current.texts)) < _LEAST_ROWS:
        return None
    found: list[Moved] = []
    for layer in sorted(set(reference.states) & set(current.states)):
        before, now = reference.states[layer][-MOST_ROWS:], current.states[layer][-MOST_ROWS:]
        statistic, p_value = mmd(before, now, seed=seed)
        said = f"prompts have moved at layer {layer} (discrepancy {statistic:.3f})"
        found.append(Moved(f"embeddings of layer {layer}", statistic, p_value, said))
        distance, p_value, dimension = largest_ks(before, now)
        said = f"dimension {dimension} of layer {layer} has moved (KS distance {distance:.2f})"
        found.append(Moved(f"dimensions of layer {layer}", distance, p_value, said))
    found.append(_lengths(reference.lengths, current.lengths))
    if reference.labels and current.labels:
        found.append(_labels(reference.labels, current.labels, seed))
    corrected = holm([one.p_value for one in found])
    comparisons = [Moved(one.what, one.statistic, p, one.said) for one, p in zip(found, corrected, strict=True)]
    drifted = min(corrected) <= level
    return Verdict(drifted, comparisons, _farthest(reference, current) if drifted else ())


def mmd(left: Array, right: Array, *, permutations: int = _PERMUTATIONS, seed: int = 0) -> tuple[float, float]:
    """The squared maximum mean discrepancy of two samples of vectors, (rows, width) each, and its p-value.

    The kernel is Gaussian, as wide as the median distance between two rows; the estimate is the unbiased one, and the
    p-value counts permutations of the rows over both samples, the one observed among them.
    """
    together = np.concatenate([left, right]).astype(np.float64)
    squares = (together**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * together @ together.T, 0.0)
    width = np.median(distances[np.triu_indices_from(distances, 1)])
    kernel = np.exp(-distances / max(width, 1e-12))
    np.fill_diagonal(kernel, 0.0)  # the unbiased estimate leaves a row's likeness to itself out

    m, n = len(left), len(right)
    sides = np.zeros((permutations + 1, m + n))
    generator = np.random.default_rng(seed)
    sides[0, :m] = 1.0
    for permutation in range(1, permutations + 1):
        sides[permutation, generator.permutation(m + n)[:m]] = 1.0
    others = 1.0 - sides
    of_left = ((sides @ kernel) * sides).sum(axis=1) / (m * (m - 1))
    of_right = ((others @ kernel) * others).sum(axis=1) / (n * (n - 1))
    between = ((sides @ kernel) * others).sum(axis=1) / (m * n)
    statistics = of_left + of_right - 2 * between
    return float(statistics[0]), float((statistics >= statistics[0] - 1e-12).mean())


def largest_ks(left: Array, right: Array) -> tuple[float, float, int]:
    """(distance, p-value, dimension) of the dimension whose distributions differ most; the p-value is corrected."""
    # The distance is the farthest that one sample's count runs ahead of the other's in the order of both. The p-value
    # takes far longer, so it is asked of one dimension alone.
    order = np.argsort(np.concatenate([left, right]), axis=0, kind="stable")
    ahead = np.cumsum(np.where(order < len(left), 1 / len(left), -1 / len(right)), axis=0)
    dimension = int(np.argmax(np.abs(ahead).max(axis=0)))
    found = stats.ks_2samp(left[:, dimension], right[:, dimension], method="asymp")
    return float(found.statistic), min(1.0, float(found.pvalue) * left.shape[1]), dimension


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the same order (Holm 1979)."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    back = np.empty(len(p_values))
    back[order] = corrected
    return [float(value) for value in back]


def unknown_words(reference: Sequence[str], current: Sequence[str]) -> float:
    """Share of the current texts' words that no reference text has."""
    known = {word for text in reference for word in text.casefold().split()}
    words = [word for text in current for word in text.casefold().split()]
    return sum(word not in known for word in words) / max(1, len(words))


def _lengths(before: Sequence[int], now: Sequence[int]) -> Moved:
    found = stats.ks_2samp(before, now, method="asymp")
    said = f"rows have {np.median(now):.0f} tokens in the middle, {np.median(before):.0f} before"
    return Moved("lengths", float(found.statistic), float(found.pvalue), said)


def _labels(before: Sequence[str], now: Sequence[str], seed: int) -> Moved:
    """The mix of labels by the chi-squared statistic, its p-value by permutation: rare labels make the tables lie."""
    names = sorted({*before, *now})
    place = {name: number for number, name in enumerate(names)}
    together = np.array([place[name] for name in (*before, *now)])
    totals = np.bincount(together, minlength=len(names))
    expected = np.stack([totals * len(before), totals * len(now)]) / len(together)

    def statistic(order: NDArray[np.intp]) -> float:
        first = np.bincount(together[order[: len(before)]], minlength=len(names))
        return float((((np.stack([first, totals - first]) - expected) ** 2) / expected).sum())

    generator = np.random.default_rng(seed)
    observed = statistic(np.arange(len(together)))
    drawn = [statistic(generator.permutation(len(together))) for _ in range(_PERMUTATIONS)]
    p_value = (1 + sum(value >= observed - 1e-9 for value in drawn)) / (1 + len(drawn))
    shares = [Counter(side) for side in (before, now)]
    name = max(names, key=lambda name: abs(shares[1][name] / len(now) - shares[0][name] / len(before)))
    was, is_ = shares[0][name] / len(before), shares[1][name] / len(now)
    return Moved(_LABELS, observed, p_value, f'"{name}" has {is_:.0%} of the rows, {was:.0%} before')


def _farthest(reference: Window, current: Window) -> tuple[int, ...]:
    """The places of the current rows that lie farthest from the reference's middle, in the deepest layer there is."""
    layer = max(set(reference.states) & set(current.states), default=None)
    if layer is None:
        return ()
    middle = reference.states[layer].mean(axis=0)
    distances = np.linalg.norm(current.states[layer] - middle, axis=1)
    order: list[int] = np.argsort(-distances)[:_NAMED].tolist()
    return tuple(order)

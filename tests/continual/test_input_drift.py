"""Whether rows have moved away from those before."""

import numpy as np
import pytest
from adapterd.continual.input_drift import Window, compare, holm, largest_ks, mmd, unknown_words
from scipy import stats


def cloud(rows: int, shift: float = 0.0, seed: int = 0, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)) + shift


def window(states: np.ndarray, labels: str = "", length: int = 20) -> Window:
    rows = len(states)
    lengths = [length + number % 5 for number in range(rows)]
    return Window([f"text {number}" for number in range(rows)], {0: states}, lengths, list(labels))


def test_mmd_is_that_of_its_definition() -> None:
    left, right = cloud(7, seed=1), cloud(9, 0.5, seed=2)
    together = np.concatenate([left, right])
    squared = ((together[:, None] - together[None]) ** 2).sum(-1)
    kernel = np.exp(-squared / np.median(squared[np.triu_indices(16, 1)]))
    first = [kernel[i, j] for i in range(7) for j in range(7) if i != j]
    second = [kernel[i, j] for i in range(7, 16) for j in range(7, 16) if i != j]
    expected = np.mean(first) + np.mean(second) - 2 * kernel[:7, 7:].mean()
    assert mmd(left, right)[0] == pytest.approx(expected)


def test_mmd_tells_a_moved_cloud_from_the_same_and_is_seeded() -> None:
    assert mmd(cloud(100), cloud(100, seed=1))[1] > 0.05
    assert mmd(cloud(100), cloud(100, 0.6, seed=1))[1] < 0.01
    assert mmd(cloud(50), cloud(50, seed=1), seed=3) == mmd(cloud(50), cloud(50, seed=1), seed=3)


def test_false_alarms_are_no_more_than_asked_for() -> None:
    verdicts = [compare(window(cloud(60, seed=n)), window(cloud(60, seed=n + 1000))) for n in range(60)]
    alarms = sum(verdict is not None and verdict.drifted for verdict in verdicts)
    assert alarms <= stats.binom(60, 0.05).ppf(0.99)


def test_the_dimension_that_moved_is_named() -> None:
    moved = cloud(100, seed=1)
    moved[:, 5] += 2.0
    distance, p_value, dimension = largest_ks(cloud(100), moved)
    assert (dimension, distance > 0.5, p_value < 0.001) == (5, True, True)


def test_moved_embeddings_lengths_and_labels_are_each_told_of_with_rows() -> None:
    same = window(cloud(100), "ab" * 50)
    verdict = compare(same, window(cloud(100, 0.8, seed=1), "ab" * 50))
    assert verdict is not None
    assert verdict.drifted
    assert "prompts have moved at layer 0" in verdict.reason
    assert len(verdict.farthest) == 3
    verdict = compare(same, window(cloud(100, seed=1), "ab" * 50, length=40))
    assert verdict is not None
    assert "rows have 42 tokens in the middle, 22 before" in verdict.reason
    verdict = compare(same, window(cloud(100, seed=1), "a" * 80 + "b" * 20))
    assert verdict is not None
    assert '"a" has 80% of the rows, 50% before' in verdict.reason
    calm = compare(same, window(cloud(100, seed=1), "ba" * 50))
    assert calm is not None
    assert (calm.drifted, calm.reason, calm.farthest) == (False, "", ())


def test_few_rows_say_nothing() -> None:
    assert compare(window(cloud(100)), window(cloud(19))) is None


def test_holm_corrects_in_order_and_never_beyond_one() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_unknown_words_are_a_share() -> None:
    assert unknown_words(["a b c"], ["A b", "d e"]) == 0.5

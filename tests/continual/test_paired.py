"""The paired tests, against values worked out by hand and their behaviour at the edges."""

import pytest
from adapterd.continual.paired import p_answers_lost, p_losses_rose, p_share_lower


def test_answers_lost_is_a_sign_test_of_the_rows_that_changed() -> None:
    # 4 lost, 0 won: 1/16. 5 lost, 1 won: (1 + 6) / 64.
    assert p_answers_lost([True] * 10, [False] * 4 + [True] * 6) == pytest.approx(1 / 16)
    assert p_answers_lost([True] * 5 + [False], [False] * 5 + [True]) == pytest.approx(7 / 64)
    assert p_answers_lost([True, False], [True, False]) == 1.0


def test_losses_rose_knows_a_common_rise_from_scatter() -> None:
    before = [0.1 * index for index in range(20)]
    assert p_losses_rose(before, [loss + 0.1 + 0.001 * n for n, loss in enumerate(before)]) < 1e-6
    assert p_losses_rose(before, [loss + (1 if n % 2 else -1) for n, loss in enumerate(before)]) > 0.4
    assert p_losses_rose(before, [loss - 0.1 - 0.001 * n for n, loss in enumerate(before)]) > 0.999
    assert p_losses_rose([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]) == 0.0
    assert p_losses_rose([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]) == 1.0
    assert p_losses_rose([1.0, 1.0], [9.0, 9.0]) == 1.0  # too few rows


def test_share_lower_compares_different_rows() -> None:
    assert p_share_lower(2, 15, 90, 100) < 1e-6
    assert p_share_lower(13, 15, 90, 100) > 0.3
    assert p_share_lower(0, 0, 90, 100) == 1.0

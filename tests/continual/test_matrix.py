"""The figures of a stream, on a matrix small enough to work out by hand."""

import pytest
from adapterd.continual.matrix import Matrix, average_accuracy, backward_transfer, forgetting, forward_transfer

#: Rows: after drop 0, 1, 2. Columns: drops.
MATRIX: Matrix = [[0.8, 0.2, None], [0.9, 0.7, 0.1], [0.6, 0.5, 0.9]]
BASE = [0.3, 0.1, 0.3]


def test_figures_are_as_their_papers_define_them() -> None:
    assert average_accuracy(MATRIX) == pytest.approx((0.6 + 0.5 + 0.9) / 3)
    assert backward_transfer(MATRIX) == pytest.approx(((0.6 - 0.8) + (0.5 - 0.7)) / 2)
    assert forward_transfer(MATRIX, BASE) == pytest.approx(((0.2 - 0.1) + (0.1 - 0.3)) / 2)
    # Drop 0 was at its best after drop 1, drop 1 after drop 1.
    assert forgetting(MATRIX) == pytest.approx(((0.9 - 0.6) + (0.7 - 0.5)) / 2)


def test_a_single_drop_can_neither_be_forgotten_nor_help_another() -> None:
    assert average_accuracy([[0.5]]) == 0.5
    assert backward_transfer([[0.5]]) is None
    assert forward_transfer([[0.5]], [0.1]) is None
    assert forgetting([[0.5]]) is None


def test_what_was_not_measured_is_not_made_up() -> None:
    assert backward_transfer([[None, None], [0.5, 0.5]]) is None
    assert average_accuracy([[0.5, None]]) is None
    assert average_accuracy([]) is None

"""The champion's answers as one stream: a rise of its errors is noticed, a fall and chance are not."""

import math
from random import Random

import pytest
from adapterd.continual.evaluate import Figures
from adapterd.continual.plan import needs_no_training
from adapterd.continual.prequential import Answered, answered, rise, share_right


def rows(count: int, error: float, seed: int) -> list[Answered]:
    random = Random(seed)
    return [Answered(1.0, random.random() >= error) for _ in range(count)]


def test_a_rise_of_the_error_is_noticed_where_it_happens() -> None:
    found = rise(rows(400, 0.1, 0), rows(200, 0.5, 1))
    assert found is not None
    assert found.at < 100
    assert found.before == pytest.approx(0.1, abs=0.05)
    assert found.after == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("seed", range(20))
def test_neither_a_steady_error_nor_a_falling_one_is_a_rise(seed: int) -> None:
    assert rise(rows(400, 0.2, seed), rows(200, 0.2, seed + 100)) is None
    assert rise(rows(400, 0.5, seed), rows(200, 0.1, seed + 100)) is None


def test_losses_stand_in_where_nothing_is_right_or_wrong() -> None:
    known, strange = [Answered(0.3, None)] * 300, [Answered(2.0, None)] * 200
    found = rise(known, strange)
    assert found is not None
    assert found.before == pytest.approx(1 - math.exp(-0.3), abs=0.01)
    assert rise(known, known) is None
    assert share_right(strange) is None


def test_labels_and_written_answers_are_right_or_wrong_and_plain_text_is_neither() -> None:
    figures = Figures(("a", "b", "c"), (0.1, 0.2, 0.3), (True, None, None), ("x", "", ""), (None, False, None))
    found = answered(figures)
    assert found == [Answered(0.1, True), Answered(0.2, False), Answered(0.3, None)]
    assert [one.error for one in found[:2]] == [0.0, 1.0]
    assert share_right(found) == 0.5


def test_a_drop_that_is_answered_and_like_what_is_known_needs_no_training() -> None:
    def reason(right: float | None = 0.99, rows: int = 100, *, drifted: bool | None = False, new: bool = False) -> str:
        return needs_no_training(right, rows, drifted=drifted, new_labels=new, answered=0.98)

    assert reason() == "the champion answers 99% of 100 rows right, and they are like those that it knows"
    assert reason(0.97) == ""
    assert reason(None) == ""
    assert reason(rows=19) == ""
    assert reason(drifted=True) == ""
    assert reason(drifted=None) == ""
    assert reason(new=True) == ""
    assert needs_no_training(1.0, 100, drifted=False, new_labels=False, answered=0.0) == ""

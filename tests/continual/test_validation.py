"""Which weights validation rows choose, and when they say nothing."""

import json
from dataclasses import asdict
from random import Random

import pytest
from adapterd.continual.checkpoint import Checkpoint
from adapterd.continual.validation import Look
from hypothesis import given
from hypothesis import strategies as st

losses = st.lists(st.floats(0, 20), min_size=1, max_size=20)


def test_the_loss_weighs_new_rows_and_kept_ones() -> None:
    assert Look((1.0, 3.0), (4.0,), 0.25).loss == pytest.approx(0.75 * 2 + 0.25 * 4)
    assert Look((1.0, 3.0), (), 0.25).loss == 2.0
    assert Look((), (), 0.5).loss == 0.0


def test_a_lower_loss_by_chance_beats_nothing_and_one_on_row_after_row_does() -> None:
    before = Look(tuple(Random(0).uniform(0, 2) for _ in range(20)), (), 0.0)
    one_row = Look((before.new[0] - 0.5, *before.new[1:]), (), 0.0)
    all_rows = Look(tuple(loss - 0.01 for loss in before.new), (), 0.0)
    assert one_row.loss < before.loss
    assert not one_row.beats(before)
    assert all_rows.beats(before)


def test_a_gain_on_the_drop_that_earlier_drops_may_pay_for_beats_nothing() -> None:
    before = Look((2.0, 2.0, 2.0), (0.5, 0.5, 0.5), 0.5)
    after = Look((1.9, 1.9, 1.9), (1.0, 0.1, 0.4), 0.5)
    assert after.loss < before.loss
    assert not after.beats(before)


@given(losses, st.lists(st.floats(0, 20), max_size=20), st.floats(0, 1))
def test_no_look_beats_itself(new: list[float], kept: list[float], rho: float) -> None:
    look = Look(tuple(new), tuple(kept), rho)
    assert not look.beats(look)


def test_a_later_look_is_the_best_unless_the_lowest_was_lower_beyond_chance() -> None:
    at = Checkpoint(step=10).looked(Look((1.0, 1.0, 1.0), (), 0.0))
    assert (at.best_step, at.looks_without_gain) == (10, 0)
    noisy = Checkpoint(step=20, best_step=10, lowest=at.lowest).looked(Look((1.6, 0.7, 0.8), (), 0.0))
    assert (noisy.best_step, noisy.looks_without_gain) == (20, 1)
    worse = Checkpoint(step=20, best_step=10, lowest=at.lowest).looked(Look((1.1, 1.1, 1.2), (), 0.0))
    assert (worse.best_step, worse.looks_without_gain) == (10, 1)


def test_a_checkpoint_comes_back_from_json_as_it_was() -> None:
    for at in (Checkpoint(), Checkpoint(3, 2, Look((0.5,), (0.25, 1.0), 0.5), 1, 99)):
        assert Checkpoint.from_json(json.loads(json.dumps(asdict(at)))) == at

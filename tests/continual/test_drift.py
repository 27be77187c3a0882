"""Losses on a new drop against losses on what is known."""

import random

from adapterd.continual.drift import performance_shift


def losses(mean: float, rows: int, seed: int) -> list[float]:
    source = random.Random(seed)
    return [source.gauss(mean, 0.3) for _ in range(rows)]


def test_a_clear_rise_is_drift() -> None:
    shift = performance_shift(losses(0.5, 60, 1), losses(1.5, 60, 2))
    assert shift is not None
    assert shift.drifted
    assert abs(shift.change - 1.0) < 0.2


def test_equal_losses_are_rarely_called_drift() -> None:
    shifts = [performance_shift(losses(0.5, 60, seed), losses(0.5, 60, 1000 + seed)) for seed in range(200)]
    assert sum(shift is not None and shift.drifted for shift in shifts) <= 8


def test_a_fall_is_no_drift() -> None:
    shift = performance_shift(losses(1.5, 60, 1), losses(0.5, 60, 2))
    assert shift is not None
    assert not shift.drifted


def test_too_few_rows_say_nothing() -> None:
    assert performance_shift([0.1] * 4, [5.0] * 100) is None


def test_losses_without_spread_are_compared_by_their_means() -> None:
    rose = performance_shift([0.5] * 10, [0.6] * 10)
    same = performance_shift([0.5] * 10, [0.5] * 10)
    assert rose is not None
    assert same is not None
    assert (rose.drifted, same.drifted) == (True, False)

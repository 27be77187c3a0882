"""The rate of each step: up, down, and down at once where a training stops early."""

from itertools import pairwise

import pytest
from adapterd.continual.optimizer import cooled_down, peak_rate, rates
from hypothesis import given
from hypothesis import strategies as st


def test_the_rate_rises_to_its_peak_and_falls_to_a_steps_part_of_it() -> None:
    rate_of = rates(1e-3, 200, 5)
    assert rate_of[:6] == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4, 1e-3, 1e-3])
    assert rate_of[-1] == pytest.approx(1e-3 / 195)
    assert all(later < earlier for earlier, later in pairwise(rate_of[5:]))


@pytest.mark.parametrize(("steps", "raised"), [(200, 1.0), (100, 1.0), (60, 1 / 0.6), (50, 2.0), (4, 2.0)])
def test_few_steps_are_larger_but_no_more_than_twice(steps: int, raised: float) -> None:
    assert peak_rate(1e-3, steps) == pytest.approx(raised * 1e-3)


@given(steps=st.integers(1, 400), warmup=st.integers(0, 20), data=st.data())
def test_a_cooldown_ends_soon_and_is_never_above_the_plan(steps: int, warmup: int, data: st.DataObject) -> None:
    planned = rates(1e-3, steps, warmup)
    step = data.draw(st.integers(1, steps))
    cooled = cooled_down(planned, step)
    assert cooled[:step] == planned[:step]
    assert step <= len(cooled) <= min(steps, step + step // 5 + 1)
    assert all(0 < now <= then for now, then in zip(cooled, planned, strict=False))
    if len(cooled) > step + 1 and step >= warmup:
        assert cooled[-1] <= planned[step] / (len(cooled) - step) * (1 + 1e-9)

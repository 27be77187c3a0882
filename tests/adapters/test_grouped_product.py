"""Adapters multiply runs of tokens as each would alone, and are stacked anew only when others are needed."""

from collections.abc import Sequence

import pytest
import torch
from adapterd.adapters import grouped_product
from adapterd.adapters.grouped_product import Grouping, StackedFactors, pays
from adapterd.adapters.low_rank import Factors
from adapterd.adapters.slot_layers import SlotGroup
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

CPU = torch.device("cpu")
INNER, WIDTHS = 24, (16, 40)
RANKS = {1: (4, 4), 2: (8, 8), 3: (3, 0), 4: (16, 16)}  # of each slot's layers; 5 does not change the group at all


def factors_of(slot: int) -> Factors:
    generator = torch.Generator().manual_seed(slot)
    first, second = RANKS[slot]
    down = torch.randn(first + second, INNER, generator=generator)
    ups = tuple(torch.randn(rank, out, generator=generator) for rank, out in zip(RANKS[slot], WIDTHS, strict=True))
    return Factors(down, ups, ((0, first), (first, first + second)))


def made_group() -> SlotGroup:
    group = SlotGroup(("gate", "up"))
    group.slots = {slot: factors_of(slot) for slot in RANKS}
    return group


def added(group: SlotGroup, x: Tensor) -> list[Tensor]:
    """What each layer's output becomes, from zero."""
    if group.active is None:
        return [torch.zeros(len(x), width) for width in WIDTHS]
    return [group.add(x, torch.zeros(len(x), width), place) for place, width in enumerate(WIDTHS)]


def expected(x: Tensor, slots: Sequence[int], lengths: Sequence[int], place: int) -> Tensor:
    parts = []
    for slot, part in zip(slots, x.split_with_sizes(list(lengths)), strict=True):
        y = torch.zeros(len(part), WIDTHS[place])
        if slot in RANKS:
            own = factors_of(slot)
            own.add_up(own.hidden(part, None), y, place)
        parts.append(y)
    return torch.cat(parts)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), min_size=1, max_size=8))
def test_every_run_gets_what_its_adapter_alone_gives(asked: list[tuple[int, int]]) -> None:
    slots, lengths = [slot for slot, _ in asked], [length for _, length in asked]
    group = made_group()
    x = torch.randn(sum(lengths), INNER)
    Grouping([group], CPU).route(slots, lengths)
    for place, y in enumerate(added(group, x)):
        torch.testing.assert_close(y, expected(x, slots, lengths, place), atol=1e-4, rtol=1e-4)


def test_adapters_are_stacked_once_for_a_prompt_that_is_read_in_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    stacked: list[int] = []
    of = StackedFactors.of

    def noting(factors: Sequence[Factors | None]) -> StackedFactors | None:
        stacked.append(len(factors))
        return of(factors)

    monkeypatch.setattr(StackedFactors, "of", noting)
    grouping = Grouping([made_group()], CPU)
    for slots, times in (((1, 2, 3), 1), ((2, 0, 3), 1), ((2, 4), 2), ((4,), 2), ((1, 2, 3, 4), 3), ((1,), 4)):
        grouping.route(slots, [2] * len(slots))
        assert len(stacked) == times, slots


def test_an_adapter_that_changed_is_stacked_anew() -> None:
    group = made_group()
    grouping = Grouping([group], CPU)
    x = torch.randn(4, INNER)
    grouping.route([1, 2], [2, 2])
    before = added(group, x)[1]
    group.slots[1] = factors_of(4)
    grouping.forget(1)
    grouping.route([1, 2], [2, 2])
    now = added(group, x)[1]
    assert not torch.allclose(now[:2], before[:2])
    assert torch.equal(now[2:], before[2:])


def test_values_that_overflow_stay_in_their_run() -> None:
    group = made_group()
    spoiled = factors_of(2)
    spoiled.down.fill_(float("inf"))
    group.slots[2] = spoiled
    Grouping([group], CPU).route([1, 2, 0], [3, 2, 3])
    for y in added(group, torch.randn(8, INNER)):
        assert not y[3:5].isfinite().any()
        assert y[:3].isfinite().all()
        assert not y[5:].any()


def test_the_trial_tells_products_that_are_right_from_others(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert grouped_product.computes_rightly(torch.device(device), torch.bfloat16)
    multiply = torch.nn.functional.grouped_mm

    def late(x: Tensor, weight: Tensor, *, offs: Tensor) -> Tensor:
        return multiply(x, weight, offs=(offs + 1).clamp(max=len(x)))

    monkeypatch.setattr("torch.nn.functional.grouped_mm", late)
    assert not grouped_product.computes_rightly(torch.device(device), torch.bfloat16)


@pytest.mark.parametrize(
    ("capability", "dtype", "shape", "right", "used"),
    [
        ((9, 0), torch.bfloat16, (64, 48), True, True),
        ((12, 0), torch.bfloat16, (64, 48), True, True),
        ((8, 6), torch.bfloat16, (64, 48), True, False),
        ((9, 0), torch.float16, (64, 48), True, False),
        ((9, 0), torch.bfloat16, (64, 49), True, False),
        ((9, 0), torch.bfloat16, (64, 48), False, False),
        ((9, 0), torch.bfloat16, (64, 48), RuntimeError("no kernel image"), False),
    ],
)
def test_they_are_used_where_they_are_one_kernel_and_right(
    capability: tuple[int, int],
    dtype: torch.dtype,
    shape: tuple[int, int],
    right: bool | RuntimeError,
    used: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def trial(*_: object) -> bool:
        if isinstance(right, RuntimeError):
            raise right
        return right

    monkeypatch.setattr(grouped_product, "computes_rightly", trial)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _device: capability)
    assert pays(torch.device("cuda", 0), dtype, [(16, 16), shape]) is used
    assert not pays(CPU, dtype, [shape])
    assert ("grouped products are not used" in caplog.text) is (right is not True)

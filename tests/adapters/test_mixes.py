"""Which mixes of adapters are used again, and which are forgotten."""

import pytest
import torch
from adapterd.adapters import mixes
from adapterd.adapters.low_rank import Factors
from adapterd.adapters.mixes import Mix, Mixes
from adapterd.adapters.slot_layers import SlotGroup
from hypothesis import given
from hypothesis import strategies as st

RANKS = {1: 2, 2: 4, 3: 8, 4: 8, 5: 1}


@pytest.fixture
def groups() -> list[SlotGroup]:
    """Two groups of one layer each; slot 5 changes the first alone."""
    made = [SlotGroup(("a",)), SlotGroup(("b",))]
    for group in made:
        for slot, rank in RANKS.items():
            if slot != 5 or group is made[0]:
                factors = Factors(
                    torch.full((rank, 3), float(slot)), (torch.full((rank, 6), float(slot)),), ((0, rank),)
                )
                group.slots[slot] = factors
    return made


def of(kept: Mixes, *slots: int) -> Mix:
    return kept.of(frozenset(slots), RANKS)


def test_a_mix_holds_the_adapters_asked_for_side_by_side(groups: list[SlotGroup]) -> None:
    first, second = of(Mixes(groups), 1, 2, 5).factors
    assert isinstance(first, Factors)
    assert isinstance(second, Factors)
    assert first.owners == (1, 1, 2, 2, 2, 2, 5)
    assert first.down[:, 0].tolist() == list(first.owners)
    assert second.owners == (1, 1, 2, 2, 2, 2)


def test_a_mix_that_comes_back_is_not_put_together_again(groups: list[SlotGroup]) -> None:
    kept = Mixes(groups)
    one, other = of(kept, 1, 2), of(kept, 3)
    assert of(kept, 1, 2) is one
    assert of(kept, 3) is other
    assert len(kept) == 2


def test_the_mix_at_hand_serves_a_part_of_it_unless_most_of_it_would_be_idle(groups: list[SlotGroup]) -> None:
    kept = Mixes(groups)
    both = of(kept, 2, 3)
    assert of(kept, 3) is both
    assert of(kept, 2).slots == (2,)
    assert of(kept, 2, 3) is both


def test_of_older_mixes_the_smallest_that_fits_is_taken(groups: list[SlotGroup]) -> None:
    kept = Mixes(groups)
    small = of(kept, 2, 5)
    large = of(kept, 1, 2)
    assert large.slots == (1, 2)
    of(kept, 4)
    assert of(kept, 2) is small


def test_the_oldest_mixes_go_where_there_is_no_room_for_them(
    groups: list[SlotGroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Mixes(groups)
    first, second = of(kept, 1), of(kept, 3)
    monkeypatch.setattr(mixes, "KEPT_BYTES", second.bytes)
    third = of(kept, 4)
    assert of(kept, 3) is second
    assert of(kept, 4) is third
    assert of(kept, 1) is not first


def test_no_mix_outlives_an_adapter_in_it(groups: list[SlotGroup]) -> None:
    kept = Mixes(groups)
    gone, stays = of(kept, 1, 2), of(kept, 3)
    kept.drop(2)
    assert len(kept) == 1
    assert of(kept, 3) is stays
    assert of(kept, 1, 2) is not gone


@given(asked=st.lists(st.sets(st.sampled_from(sorted(RANKS)), min_size=1), max_size=20))
def test_every_mix_holds_what_is_needed_and_not_much_besides(asked: list[set[int]]) -> None:
    group = SlotGroup(("a",))
    group.slots = {s: Factors(torch.ones(r, 1), (torch.ones(r, 1),), ((0, r),)) for s, r in RANKS.items()}
    kept = Mixes([group])
    for slots in asked:
        mix = of(kept, *slots)
        assert slots <= set(mix.slots)
        assert mix.ranks == sum(RANKS[slot] for slot in mix.slots) <= mixes.SLACK * sum(RANKS[slot] for slot in slots)
        factors = mix.factors[0]
        assert isinstance(factors, Factors)
        assert sorted(set(factors.owners)) == sorted(mix.slots)

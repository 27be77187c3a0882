"""A beginning is kept from the second time on, found by the prompts that start so, and leaves with its slot."""

import torch
from adapterd.adapters.cache import Columns
from adapterd.adapters.prefix_cache import LEAST_TOKENS, PrefixCache
from hypothesis import given
from hypothesis import strategies as st

WIDTH = 4
SHARED = list(range(100, 100 + LEAST_TOKENS))


def columns(count: int) -> Columns:
    return {0: (torch.zeros(1, count, WIDTH), torch.zeros(1, count, WIDTH))}


BYTES_PER_TOKEN = 2 * 4 * WIDTH


def test_a_beginning_is_worth_keeping_the_second_time_and_found_the_third() -> None:
    cache = PrefixCache(1 << 20)
    assert cache.note(1, [*SHARED, 1], 0) == 0
    assert cache.note(1, [*SHARED, 2], 0) == LEAST_TOKENS
    cache.keep(1, SHARED, columns(LEAST_TOKENS))
    found = cache.find(1, [*SHARED, 3, 4])
    assert found is not None
    assert found[0].tokens == tuple(SHARED)
    assert found[1] == LEAST_TOKENS
    assert cache.note(1, [*SHARED, 3, 4], reused=LEAST_TOKENS) == 0  # it is here already


def test_the_last_token_of_a_prompt_is_always_read() -> None:
    cache = PrefixCache(1 << 20)
    cache.keep(1, [*SHARED, 7], columns(LEAST_TOKENS + 1))
    found = cache.find(1, [*SHARED, 7])
    assert found is not None
    assert found[1] == LEAST_TOKENS
    assert cache.find(1, SHARED) is None  # one token fewer is too few


def test_a_beginning_belongs_to_its_slot_and_leaves_with_it() -> None:
    cache = PrefixCache(1 << 20)
    for slot in (0, 1):
        cache.note(slot, [*SHARED, 1], 0)
        cache.keep(slot, SHARED, columns(LEAST_TOKENS))
    assert cache.find(2, [*SHARED, 5]) is None
    cache.drop(1)
    assert cache.find(1, [*SHARED, 5]) is None
    assert cache.note(1, [*SHARED, 5], 0) == 0  # nor does it remember having seen it
    assert cache.find(0, [*SHARED, 5]) is not None
    assert cache.bytes == LEAST_TOKENS * BYTES_PER_TOKEN


def test_a_longer_beginning_takes_the_place_of_one_that_it_begins_with() -> None:
    cache = PrefixCache(1 << 20)
    cache.keep(1, SHARED, columns(LEAST_TOKENS))
    cache.keep(1, [*SHARED, *SHARED], columns(2 * LEAST_TOKENS))
    assert cache.bytes == 2 * LEAST_TOKENS * BYTES_PER_TOKEN
    found = cache.find(1, [*SHARED, *SHARED, 1])
    assert found is not None
    assert found[1] == 2 * LEAST_TOKENS
    part = cache.find(1, [*SHARED, 1, 2])
    assert part is not None
    assert part[1] == LEAST_TOKENS


def test_without_a_budget_nothing_is_kept() -> None:
    cache = PrefixCache(0)
    for _ in range(3):
        assert cache.note(1, [*SHARED, 1], 0) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.booleans()), max_size=40))
def test_the_budget_holds_and_the_least_recently_used_leave(steps: list[tuple[int, int, bool]]) -> None:
    most = 3
    cache = PrefixCache(most * LEAST_TOKENS * BYTES_PER_TOKEN)
    model: dict[tuple[int, int], None] = {}
    for name, slot, ask in steps:
        tokens = [name] * LEAST_TOKENS
        if ask:
            assert (cache.find(slot, [*tokens, 9]) is not None) == ((name, slot) in model)
            if (name, slot) in model:
                model[name, slot] = model.pop((name, slot))
            continue
        model.pop((name, slot), None)
        cache.keep(slot, tokens, columns(LEAST_TOKENS))
        model[name, slot] = None
        if len(model) > most:
            del model[next(iter(model))]
        assert cache.bytes == len(model) * LEAST_TOKENS * BYTES_PER_TOKEN

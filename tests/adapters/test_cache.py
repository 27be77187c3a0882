"""Rows of the cache keep what was written, close ranks, and leave nothing behind."""

import random

import pytest
import torch
from adapterd.adapters.cache import COLUMN_STEP, RowCache
from torch import Tensor

LIKE = torch.zeros(1, 2, 1, 4)


def write(cache: RowCache, row: int, count: int, value: float, layers: int = 2) -> None:
    """Append `count` columns of `value` to a row, in every layer."""
    begin = cache.lengths[row]
    cache.reserve(row, begin + count)
    for layer in range(layers):
        for tensor in cache.layer(layer, LIKE):
            tensor[row, :, begin : begin + count] = value + layer
    cache.lengths[row] += count


def held(cache: RowCache, layer: int = 0) -> tuple[Tensor, Tensor]:
    return cache.layer(layer, LIKE)


def test_rows_and_columns_grow_and_keep_what_they_hold() -> None:
    cache = RowCache()
    for row in range(5):
        assert cache.enter() == row
        write(cache, row, 3 + row, 10.0 * row + 1)
    write(cache, 2, 3 * COLUMN_STEP, 5.0)
    keys, values = held(cache, 1)
    assert keys.shape[0] >= 5
    assert keys.shape[2] >= 3 * COLUMN_STEP + 5
    for row in range(5):
        assert torch.all(keys[row, :, : 3 + row] == 10.0 * row + 2)
    assert torch.all(values[2, :, 5 : cache.lengths[2]] == 6.0)


def test_a_dropped_row_is_taken_by_the_last_and_leaves_zeros() -> None:
    cache = RowCache()
    for row in range(3):
        cache.enter()
        write(cache, row, 10 - row, row + 1.0)
    cache.drop(0)
    assert cache.lengths == [8, 9]
    for tensor in held(cache):
        assert torch.all(tensor[0, :, :8] == 3.0)
        assert torch.all(tensor[0, :, 8:] == 0)
        assert torch.all(tensor[1, :, :9] == 2.0)
        assert torch.all(tensor[2] == 0)


def test_columns_written_beyond_the_length_are_cleared_too() -> None:
    cache = RowCache()
    cache.enter()
    write(cache, 0, 20, float("nan"))
    cache.lengths[0] = 4  # the rest were candidates that did not count
    cache.drop(0)
    assert all(torch.all(tensor == 0) for tensor in held(cache))


def test_what_a_row_retracts_is_zero_and_what_counts_stays() -> None:
    cache = RowCache()
    for row in range(2):
        cache.enter()
        write(cache, row, 20, 1.0)
    cache.lengths[0] = 4
    cache.retract(0)
    cache.retract(1)
    assert cache.extents == [4, 20]
    for tensor in held(cache):
        assert torch.all(tensor[0, :, :4] == 1.0)
        assert torch.all(tensor[0, :, 4:] == 0)
        assert torch.all(tensor[1, :, :20] == 1.0)


def test_swapped_rows_exchange_everything() -> None:
    cache = RowCache()
    for row, count in enumerate((3, 7)):
        cache.enter()
        write(cache, row, count, row + 1.0)
    cache.swap(0, 1)
    assert (cache.lengths, cache.extents) == ([7, 3], [7, 3])
    keys, _ = held(cache)
    assert torch.all(keys[0, :, :7] == 2.0)
    assert torch.all(keys[1, :, :3] == 1.0)
    assert torch.all(keys[1, :, 3:] == 0)


def test_a_row_that_was_never_written_can_leave() -> None:
    cache = RowCache()
    cache.enter()
    write(cache, 0, 2, 1.0)
    cache.enter()
    cache.enter()
    cache.drop(1)
    cache.drop(0)
    assert cache.lengths == [0]
    assert all(torch.all(tensor == 0) for tensor in held(cache))


def test_only_an_empty_cache_gives_its_memory_back() -> None:
    cache = RowCache()
    cache.enter()
    write(cache, 0, 5, 1.0)
    assert cache.bytes > 0
    with pytest.raises(ValueError, match="holds 1 rows"):
        cache.release()
    cache.drop(0)
    cache.release()
    assert cache.bytes == 0


def test_any_history_equals_a_list_of_lists() -> None:
    rng = random.Random(7)
    cache, model = RowCache(), list[list[float]]()
    for step in range(300):
        kind = rng.choice(["enter", "write", "write", "drop", "swap", "copy"])
        if kind == "enter" and len(model) < 6:
            cache.enter()
            model.append([])
        elif kind == "write" and model:
            row, count = rng.randrange(len(model)), rng.randint(1, 60)
            write(cache, row, count, float(step + 1), layers=1)
            model[row] += [step + 1.0] * count
        elif kind == "drop" and model:
            row = rng.randrange(len(model))
            cache.drop(row)
            model[row] = model[-1]
            model.pop()
        elif kind in {"swap", "copy"} and len(model) > 1:
            one, other = rng.sample(range(len(model)), 2)
            if kind == "swap":
                cache.swap(one, other)
                model[one], model[other] = model[other], model[one]
            else:
                cache.copy(max(one, other), min(one, other))
                model[min(one, other)] = list(model[max(one, other)])
        keys, _ = held(cache)
        assert cache.lengths == [len(row) for row in model]
        for row, values in enumerate(model):
            assert keys[row, 0, : len(values), 0].tolist() == values
            assert not keys[row, :, len(values) :].any()
        assert not keys[len(model) :].any()


def test_a_row_begins_with_what_was_saved_of_another() -> None:
    cache = RowCache()
    cache.enter()
    write(cache, 0, 20, 3.0)
    saved = cache.save(0, 12)
    cache.drop(0)
    cache.release()
    cache.enter()
    assert cache.enter() == 1
    cache.load(1, saved, 10)
    assert cache.lengths == [0, 10]
    write(cache, 1, 2, 7.0)
    for layer in (0, 1):
        keys, values = held(cache, layer)
        for tensor in (keys, values):
            assert torch.all(tensor[1, :, :10] == 3.0 + layer)
            assert torch.all(tensor[1, :, 10:12] == 7.0 + layer)
            assert torch.all(tensor[1, :, 12:] == 0)
            assert torch.all(tensor[0] == 0)

"""Versions that left their slot stay within the budget, oldest out first, and are given out once."""

import torch
from adapterd.adapters.catalog import Key
from adapterd.adapters.host_cache import Held, HostCache
from adapterd.adapters.lora import PreparedAdapter
from adapterd.adapters.low_rank import Factors
from hypothesis import given
from hypothesis import strategies as st

ONE = 4 * (2 * 3 + 2 * 5)  # bytes of an adapter of width 1


def held(digest: str, width: int = 1) -> Held:
    factors = Factors(torch.zeros(2 * width, 3), (torch.zeros(2 * width, 5),), ((0, 2 * width),))
    return Held(digest, PreparedAdapter((factors, None), 2 * width, bounded=True), {"serve": digest})


def key(version: int) -> Key:
    return Key("mail", version)


def test_a_version_is_given_out_once_and_only_for_its_digest() -> None:
    cache = HostCache(3 * ONE)
    cache.put(key(1), held("one"))
    cache.put(key(2), held("two"))
    found = cache.take(key(1), "one")
    assert found is not None
    assert found.template == {"serve": "one"}
    assert cache.take(key(1), "one") is None
    assert cache.take(key(2), "another") is None
    assert key(2) not in cache
    assert cache.bytes == 0


def test_what_is_larger_than_the_budget_is_not_kept() -> None:
    cache = HostCache(ONE)
    cache.put(key(1), held("one"))
    cache.put(key(2), held("two", width=2))
    assert key(1) in cache
    assert key(2) not in cache
    assert HostCache(0).take(key(1), "one") is None


def test_versions_that_may_not_be_served_are_let_go() -> None:
    cache = HostCache(3 * ONE)
    for version in (1, 2, 3):
        cache.put(key(version), held(str(version)))
    cache.keep(lambda one: one.version == 2)
    assert [key(version) in cache for version in (1, 2, 3)] == [False, True, False]
    assert cache.bytes == ONE


@given(
    budget=st.integers(0, 6),
    steps=st.lists(st.tuples(st.sampled_from(["put", "take"]), st.integers(1, 6), st.integers(1, 3)), max_size=40),
)
def test_the_last_ones_that_fit_are_here_and_no_byte_more(budget: int, steps: list[tuple[str, int, int]]) -> None:
    cache = HostCache(budget * ONE)
    model: dict[Key, int] = {}
    for what, version, width in steps:
        model.pop(key(version), None)
        if what == "take":
            cache.take(key(version), str(version))
            continue
        cache.put(key(version), held(str(version), width))
        if width <= budget:
            while sum(model.values()) + width > budget:
                del model[next(iter(model))]
            model[key(version)] = width
        assert cache.bytes == ONE * sum(model.values()) <= budget * ONE
    assert {key(v) for v in range(1, 7) if key(v) in cache} == model.keys()

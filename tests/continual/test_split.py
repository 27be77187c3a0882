"""A row's side depends on the row and the seed; bounds and balance hold whatever the labels."""

from collections import Counter

import pytest
from adapterd.continual.examples import Example, Kind
from adapterd.continual.split import split
from hypothesis import given
from hypothesis import strategies as st


def rows(count: int, label: str = "a", start: int = 0) -> list[Example]:
    return [Example(Kind.LABEL, f"text {number}", label) for number in range(start, start + count)]


def ids(examples: list[Example]) -> set[str]:
    return {example.id for example in examples}


EXAMPLES = st.lists(
    st.builds(Example, st.just(Kind.LABEL), st.text("xyz", max_size=4), st.sampled_from("abc"))
    | st.builds(Example, st.just(Kind.TEXT), st.just(""), st.text("xyz", min_size=1, max_size=4)),
    max_size=40,
)


@given(
    examples=EXAMPLES,
    share=st.floats(0, 0.9),
    seed=st.integers(),
    bounds=st.tuples(st.integers(0, 20), st.integers(0, 20)).map(sorted),
)
def test_every_row_is_on_one_side_and_bounds_and_strata_are_kept(
    examples: list[Example], share: float, seed: int, bounds: list[int]
) -> None:
    least, most = bounds
    train, heldout = split(examples, share, seed, least, most)
    assert Counter(train) + Counter(heldout) == Counter(examples)
    assert not ids(train) & ids(heldout)
    assert {row.stratum for row in train} == {row.stratum for row in examples}
    assert len(ids(heldout)) <= most
    spare = len(ids(examples)) - len({row.stratum for row in examples})
    assert len(ids(heldout)) >= min(least, len(ids(examples)) // 2, spare)
    assert train == [row for row in examples if row.id in ids(train)]
    again_train, again_heldout = split(examples[::-1], share, seed, least, most)
    assert (ids(again_train), ids(again_heldout)) == (ids(train), ids(heldout))


def test_a_row_that_is_sent_again_falls_on_the_same_side() -> None:
    first, second = rows(300), rows(300, start=150)
    _, heldout_first = split(first, 0.2, 0, 0, 1_000)
    _, heldout_second = split(second, 0.2, 0, 0, 1_000)
    both = ids(first) & ids(second)
    assert len(both) == 150
    assert ids(heldout_first) & both == ids(heldout_second) & both


def test_a_larger_drop_holds_out_a_subset_of_what_a_smaller_cap_would_not() -> None:
    _, many = split(rows(500), 0.2, 0, 0, 1_000)
    _, few = split(rows(500), 0.2, 0, 0, 20)
    assert len(few) == 20
    assert ids(few) < ids(many)


def test_another_seed_holds_out_other_rows_and_about_the_share() -> None:
    _, one = split(rows(2_000), 0.1, 1, 0, 1_000)
    _, two = split(rows(2_000), 0.1, 2, 0, 1_000)
    assert 160 < len(one) < 240
    assert len(ids(one) & ids(two)) < 50


def test_labels_are_held_out_in_proportion_also_at_the_bounds() -> None:
    examples = rows(900, "common") + rows(100, "rare") + rows(1, "once")
    for least, most in ((0, 1_000), (0, 50), (400, 1_000)):
        _, heldout = split(examples, 0.1, 0, least, most)
        counts = Counter(row.completion for row in heldout)
        assert 5 <= counts["common"] / counts["rare"] <= 15
        assert counts["once"] == 0


def test_a_label_with_enough_rows_is_always_judged() -> None:
    for seed in range(50):
        _, heldout = split(rows(10), 0.1, seed, 0, 100)
        assert heldout


def test_few_rows_are_halved_at_most() -> None:
    for count in range(8):
        train, heldout = split(rows(count), 0.1, 0, 20, 100)
        assert (len(train), len(heldout)) == (count - count // 2, count // 2)


def test_nonsense_is_refused() -> None:
    for share, least, most in ((1.0, 0, 1), (-0.1, 0, 1), (0.1, 2, 1), (0.1, -1, 1)):
        with pytest.raises(ValueError, match="share"):
            split(rows(3), share, 0, least, most)

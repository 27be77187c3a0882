"""What is replayed speaks for every drop and every label alike, and is the same for the same seed."""

from collections import Counter

from adapterd.continual.examples import Example, Kind
from adapterd.continual.replay import hardest, sample_replay
from hypothesis import given
from hypothesis import strategies as st


def rows(count: int, label: str, prefix: str = "") -> list[Example]:
    return [Example(Kind.LABEL, f"{prefix}{label} {number}", label) for number in range(count)]


HISTORY = st.dictionaries(
    st.integers(1, 6),
    st.lists(st.builds(Example, st.just(Kind.LABEL), st.text("xy", max_size=3), st.sampled_from("abc")), max_size=12),
    max_size=4,
)


@given(history=HISTORY, k=st.integers(0, 30), seed=st.integers())
def test_it_takes_as_many_different_rows_as_it_is_asked_for_or_has(
    history: dict[int, list[Example]], k: int, seed: int
) -> None:
    chosen = sample_replay(history, k, seed)
    everything = {example for examples in history.values() for example in examples}
    assert len(chosen) == len(set(chosen)) == min(k, len(everything))
    assert set(chosen) <= everything
    assert sample_replay({drop: examples[::-1] for drop, examples in reversed(history.items())}, k, seed) == chosen


def test_a_large_drop_does_not_crowd_out_a_small_one() -> None:
    history = {1: rows(1_000, "a"), 2: rows(1_000, "b"), 3: rows(10, "c")}
    assert Counter(row.completion for row in sample_replay(history, 30, 0)) == {"a": 10, "b": 10, "c": 10}
    assert Counter(row.completion for row in sample_replay(history, 60, 0)) == {"a": 25, "b": 25, "c": 10}


def test_a_common_label_does_not_crowd_out_a_rare_one() -> None:
    history = {1: rows(500, "common") + rows(5, "rare"), 2: rows(50, "other", "second ")}
    assert Counter(row.completion for row in sample_replay(history, 20, 0)) == {"common": 5, "rare": 5, "other": 10}


def test_another_seed_takes_other_rows() -> None:
    history = {1: rows(1_000, "a")}
    one, two = (set(sample_replay(history, 100, seed)) for seed in (1, 2))
    assert len(one & two) < 30


def test_a_row_that_came_in_two_drops_is_taken_once_and_costs_neither_its_turn() -> None:
    shared = rows(10, "a")
    history = {1: shared, 2: [*shared, *rows(10, "b")]}
    chosen = sample_replay(history, 20, 3)
    assert len({row.id for row in chosen}) == 20


def test_an_empty_history_gives_nothing() -> None:
    assert sample_replay({}, 5, 0) == []
    assert sample_replay({1: []}, 5, 0) == []
    assert sample_replay({1: rows(3, "a")}, -1, 0) == []


@given(
    rows=st.lists(st.tuples(st.floats(0, 10), st.integers(1, 40)), min_size=1, max_size=30), tokens=st.integers(0, 400)
)
def test_the_hardest_rows_are_taken_as_far_as_there_is_room(rows: list[tuple[float, int]], tokens: int) -> None:
    chosen = hardest(rows, tokens)
    assert chosen == sorted(set(chosen))
    taken = sum(rows[place][1] for place in chosen)
    assert taken <= tokens or len(chosen) == 1
    left = sorted(set(range(len(rows))) - set(chosen), key=lambda place: -rows[place][0])
    if left:
        assert rows[left[0]][0] <= min(rows[place][0] for place in chosen)
        assert taken + rows[left[0]][1] > tokens


def test_of_rows_as_hard_as_each_other_the_first_drawn_are_taken() -> None:
    assert hardest([(0.5, 10)] * 5, 30) == [0, 1, 2]
    assert not hardest([], 30)

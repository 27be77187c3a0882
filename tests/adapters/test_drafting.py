"""Guesses come from the text itself, reach farther while they are right, and never wander outside it."""

import pytest
from adapterd.adapters.drafting import Drafter
from hypothesis import given
from hypothesis import strategies as st


def test_what_followed_the_same_tokens_before_is_guessed() -> None:
    assert Drafter([5, 6, 7, 8, 9, 5, 6]).propose(3) == [7, 8]
    assert Drafter([5, 6, 7, 8, 9, 5, 6]).propose(1) == [7]


def test_the_longer_context_and_the_later_place_decide() -> None:
    assert Drafter([1, 2, 3, 10, 9, 2, 3, 11, 8, 1, 2, 3]).propose(1) == [10]  # after 1 2 3, not after the later 2 3
    assert Drafter([2, 3, 10, 2, 3, 11, 2, 3]).propose(1) == [11]


@pytest.mark.parametrize("text", [[], [1], [1, 2], [1, 2, 3, 4], [1, 2, 3, 2]])
def test_nothing_is_guessed_where_nothing_repeats(text: list[int]) -> None:
    assert Drafter(text).propose(4) == []


def test_a_period_that_reaches_to_the_end_goes_on() -> None:
    drafter = Drafter([7, 1, 2, 1, 2, 1, 2])
    drafter.learn(2, 2)
    drafter.learn(4, 4)
    assert drafter.propose(8) == [1, 2, 1, 2, 1, 2, 1, 2]


def test_a_guess_reaches_farther_after_one_that_was_right_and_less_far_after_another() -> None:
    drafter = Drafter([4] * 40)
    reached = []
    for kept in (2, 4, 8, 16, 3, 0, 1):
        reached.append(len(drafter.propose(100)))
        drafter.learn(reached[-1], kept)
    assert reached == [2, 4, 8, 16, 16, 3, 1]
    drafter.learn(0, 0)
    assert len(drafter.propose(100)) == 2


@given(text=st.lists(st.integers(0, 3), max_size=40), most=st.integers(1, 5))
def test_a_guess_is_what_stood_after_the_last_place_like_this_one(text: list[int], most: int) -> None:
    drafter = Drafter(text)
    drafter.learn(2, 2)
    drafter.learn(4, 4)
    guess = drafter.propose(most)
    places = [
        (length, at)
        for length in (2, 3)
        for at in range(length, len(text))
        if length < len(text) + 1 and text[at - length : at] == text[len(text) - length :]
    ]
    if not places:
        assert guess == []
        return
    _, start = max(places)
    onward = text[start:]
    assert guess == [onward[at % len(onward)] for at in range(most)]

"""What a request gets done in one step, by the room there is."""

import pytest
from adapterd.adapters.requests import Generation, Scoring
from adapterd.adapters.schedule import Piece, next_piece
from hypothesis import given
from hypothesis import strategies as st

GENERATION = Generation("g", 0, [1] * 10, 5)
SCORING = Scoring("s", 0, [1] * 10, [[1], [1, 2, 3], [1, 2]])  # the continuations cost 0, 2 and 1


@pytest.mark.parametrize(
    ("computed", "room", "piece"),
    [
        (0, 100, Piece(10, tokens=10)),
        (0, 4, Piece(4, tokens=4)),
        (8, 4, Piece(2, tokens=2)),
        (0, 0, None),
        (0, -5, None),
    ],
)
def test_a_prompt_is_read_as_far_as_there_is_room(computed: int, room: int, piece: Piece | None) -> None:
    assert next_piece(GENERATION, computed=computed, scored=0, room=room, untouched=False) == piece


@pytest.mark.parametrize(
    ("computed", "scored", "room", "piece"),
    [
        (0, 0, 100, Piece(10, 3, 13)),
        (0, 0, 12, Piece(10, 2, 12)),
        (0, 0, 9, Piece(9, tokens=9)),  # never the last token, which the continuations need
        (0, 0, 4, Piece(4, tokens=4)),
        (9, 1, 2, None),
        (9, 1, 3, Piece(1, 1, 3)),
        (9, 2, 2, Piece(1, 1, 2)),
        (0, 0, 0, None),
    ],
)
def test_a_scoring_reads_its_prompt_and_then_takes_whole_continuations(
    computed: int, scored: int, room: int, piece: Piece | None
) -> None:
    assert next_piece(SCORING, computed=computed, scored=scored, room=room, untouched=False) == piece


def test_a_continuation_longer_than_the_budget_gets_a_step_to_itself() -> None:
    assert next_piece(SCORING, computed=9, scored=1, room=2, untouched=True) == Piece(1, 1, 3)


@given(
    st.integers(1, 40),
    st.lists(st.integers(1, 12), min_size=1, max_size=8),
    st.integers(1, 30),
)
def test_every_scoring_ends_and_keeps_to_its_budget(prompt: int, continuations: list[int], budget: int) -> None:
    request = Scoring("s", 0, [1] * prompt, [[1] * length for length in continuations])
    computed = scored = 0
    for _ in range(prompt + len(continuations)):
        piece = next_piece(request, computed=computed, scored=scored, room=budget, untouched=True)
        assert piece is not None
        assert piece.tokens <= budget or (piece.read, piece.continuations) == (1, 1)
        scored += piece.continuations
        computed = prompt - 1 if piece.continuations else computed + piece.read
        if scored == len(continuations):
            return
    raise AssertionError("it never ended")

"""The two lives of a version, move by move."""

import pytest
from adapterd.adapters.errors import IllegalTransition
from adapterd.adapters.states import SERVING_MOVES, VERSION_MOVES, ServingState, VersionState, move


@pytest.mark.parametrize(
    "life",
    [
        "candidate rejected",
        "candidate available retired deleted",
        "candidate rejected available",  # promoted by hand
        "candidate rejected retired available",
        "candidate available retired available",  # reverted to
        "candidate deleted",
        "candidate rejected deleted",
    ],
)
def test_a_version_lives(life: str) -> None:
    first, *later = (VersionState(name) for name in life.split())
    state = first
    for to in later:
        state = move(state, to)
    assert state is later[-1]


@pytest.mark.parametrize(
    "life",
    [
        "start loading available draining end",
        "start loading error loading available",
        "start loading available draining available",  # wanted again before it was gone
        "start loading available draining end loading",
        "start loading available error end",
        "start end",
    ],
)
def test_a_version_is_served(life: str) -> None:
    first, *later = (ServingState(name) for name in life.split())
    state = first
    for to in later:
        state = move(state, to)
    assert state is later[-1]


@pytest.mark.parametrize(
    ("current", "to"),
    [
        (VersionState.AVAILABLE, VersionState.DELETED),
        (VersionState.AVAILABLE, VersionState.CANDIDATE),
        (VersionState.RETIRED, VersionState.REJECTED),
        (VersionState.AVAILABLE, VersionState.AVAILABLE),
    ],
)
def test_an_illegal_move_says_from_where_to_where_and_what_is_legal(current: VersionState, to: VersionState) -> None:
    with pytest.raises(IllegalTransition) as caught:
        move(current, to)
    assert current.value in caught.value.message
    assert to.value in caught.value.message
    assert all(legal.value in caught.value.hint for legal in VERSION_MOVES[current])


def test_nothing_comes_back_from_deleted() -> None:
    for to in VersionState:
        with pytest.raises(IllegalTransition, match="deleted"):
            move(VersionState.DELETED, to)


def test_a_version_is_never_available_before_it_is_loaded() -> None:
    with pytest.raises(IllegalTransition):
        move(ServingState.START, ServingState.AVAILABLE)
    with pytest.raises(IllegalTransition):
        move(ServingState.ERROR, ServingState.AVAILABLE)


def test_every_state_has_its_moves_and_stands_in_the_drawing() -> None:
    assert set(VERSION_MOVES) == set(VersionState)
    assert set(SERVING_MOVES) == set(ServingState)
    for enum in (VersionState, ServingState):
        drawing = (enum.__doc__ or "").partition("::")[2]
        assert all(state.name in drawing for state in enum)

"""Drops and jobs go where their lives are drawn, and nowhere else."""

import itertools
from enum import StrEnum

import pytest
from adapterd.daemon.errors import NotAllowed
from adapterd.daemon.states import (
    DROP_MOVES,
    JOB_MOVES,
    OPEN_JOBS,
    DropState,
    JobState,
    move_drop,
    move_job,
)
from adapterd.v1 import common_pb2, learning_pb2

D, J = DropState, JobState

DROP_WAYS = {
    *itertools.pairwise(
        (D.ARRIVED, D.CLAIMED, D.PARSED, D.AUDITED, D.PLANNED, D.TRAINING, D.EVALUATED, D.DONE),
    ),
    (D.PLANNED, D.DONE),  # rehearse only
    (D.TRAINING, D.PLANNED),  # cancelled or tried again
    *((state, D.PARSED) for state in (D.PLANNED, D.TRAINING)),  # parted again, for another lineage
    *((state, D.HELD) for state in (D.CLAIMED, D.PARSED, D.AUDITED, D.PLANNED, D.TRAINING, D.EVALUATED)),
    *((state, D.QUARANTINED) for state in (D.CLAIMED, D.PARSED, D.AUDITED)),
    *((state, D.FAILED) for state in (D.CLAIMED, D.PARSED, D.AUDITED, D.PLANNED, D.TRAINING, D.EVALUATED)),
    # released by a person
    (D.HELD, D.CLAIMED),
    (D.HELD, D.PARSED),
    (D.QUARANTINED, D.CLAIMED),
    (D.FAILED, D.CLAIMED),
    (D.FAILED, D.PARSED),
    (D.DONE, D.PARSED),  # learned again without what is forgotten
    *((state, D.DONE) for state in (D.HELD, D.QUARANTINED, D.FAILED)),  # forgotten as a whole
}
JOB_WAYS = {
    (J.QUEUED, J.RUNNING),
    (J.QUEUED, J.CANCELLED),
    (J.RUNNING, J.QUEUED),
    (J.RUNNING, J.DONE),
    (J.RUNNING, J.FAILED),
    (J.RUNNING, J.CANCELLED),
}


@pytest.mark.parametrize(("current", "to"), [*itertools.product(D, D)])
def test_a_drop_moves_along_its_ways_alone(current: DropState, to: DropState) -> None:
    if (current, to) in DROP_WAYS:
        assert move_drop(current, to) is to
    else:
        with pytest.raises(NotAllowed, match=f"a drop that is {current} cannot become {to}"):
            move_drop(current, to)


@pytest.mark.parametrize(("current", "to"), [*itertools.product(J, J)])
def test_a_job_moves_along_its_ways_alone(current: JobState, to: JobState) -> None:
    if (current, to) in JOB_WAYS:
        assert move_job(current, to) is to
    else:
        with pytest.raises(NotAllowed, match=f"a job that is {current} cannot become {to}"):
            move_job(current, to)


def test_a_refusal_says_which_ways_there_are() -> None:
    with pytest.raises(NotAllowed) as caught:
        move_drop(D.HELD, D.TRAINING)
    assert caught.value.hint == "from held it can become: claimed, done, parsed"
    assert caught.value.details == {"current": "held", "to": "training"}
    with pytest.raises(NotAllowed) as caught:
        move_job(J.DONE, J.QUEUED)
    assert "its end" in caught.value.hint


def test_every_state_has_its_moves_and_every_drop_can_end() -> None:
    assert set(DROP_MOVES) == set(D)
    assert set(JOB_MOVES) == set(J)
    ends = {D.DONE}
    while more := {state for state in D if DROP_MOVES[state] & ends} - ends:
        ends |= more
    assert ends == set(D)


def test_a_job_that_is_over_goes_nowhere() -> None:
    assert {state for state in J if JOB_MOVES[state]} == OPEN_JOBS


@pytest.mark.parametrize(
    ("states", "descriptor", "prefix"),
    [
        (DropState, common_pb2.DropState.DESCRIPTOR, "DROP_STATE_"),
        (JobState, learning_pb2.JobState.DESCRIPTOR, "JOB_STATE_"),
    ],
)
def test_the_states_are_those_of_the_api(states: type[StrEnum], descriptor: object, prefix: str) -> None:
    names = [value.name for value in descriptor.values]  # type: ignore[attr-defined]
    assert names == [f"{prefix}UNSPECIFIED"] + [prefix + state.value.upper() for state in states]

"""The two lives that the daemon writes down: of a dropped file, and of a training job."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from .errors import NotAllowed


class DropState(StrEnum):
    """The way of one dropped file.

    ::

        ARRIVED ──► CLAIMED ──► PARSED ──► AUDITED ──► PLANNED ◄──► TRAINING ──► EVALUATED ──► DONE
                                                          └─────────── rehearse only ───────────►┘

        HELD          from CLAIMED, PARSED, AUDITED, PLANNED, TRAINING (cancelled) and EVALUATED (contradicting)
        QUARANTINED   from CLAIMED, PARSED and AUDITED
        FAILED        from every state that is worked on
        where another version is champion by now, PLANNED goes to PARSED; and so does TRAINING whose job was lost
        released, HELD and FAILED go to PARSED, or to CLAIMED if they were not parsed; QUARANTINED to CLAIMED
        learned again, since rows were forgotten, DONE goes to PARSED
        forgotten as a whole, HELD, FAILED and QUARANTINED go to DONE

    - ARRIVED: lies in the inbox and has not settled; there is no row yet.
    - CLAIMED: moved into the spool and hashed; the first state that a row has.
    - PARSED: its rows are read, the bad ones set aside.
    - AUDITED: its rows are checked, and split into those to train on and those to judge by.
    - PLANNED: it is decided what to do with it: train, rehearse only, hold, reject. If the champion's lineage or the
      golden set is another one when its job is to begin, it is PARSED again.
    - TRAINING: a job trains on it. Cancelled, or tried again, it is PLANNED again.
    - EVALUATED: the training process has ended: with a candidate that is judged, or with why there is none.
    - DONE: nothing is left to do, unless it is to be learned again.
    - HELD: waits for a person, who releases it.
    - QUARANTINED: unfit to learn from. A person may release it, having raised the limit that it broke.
    - FAILED: a step failed for good. A person may release it, having removed the cause.
    """

    ARRIVED = "arrived"
    CLAIMED = "claimed"
    PARSED = "parsed"
    AUDITED = "audited"
    PLANNED = "planned"
    TRAINING = "training"
    EVALUATED = "evaluated"
    DONE = "done"
    HELD = "held"
    QUARANTINED = "quarantined"
    FAILED = "failed"


class JobState(StrEnum):
    """The life of one training job.

    ::

        QUEUED ◄──► RUNNING ──► DONE
           │           ├──────► FAILED
           └───────────┴──────► CANCELLED

    - QUEUED: waits for its turn and for its `not_before`. A job whose process died is QUEUED again.
    - RUNNING: a process trains; each time counts as an attempt.
    - DONE, FAILED, CANCELLED: ends. A drop that is tried again gets a new job.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


DROP_MOVES: Final[Mapping[DropState, frozenset[DropState]]] = {
    DropState.ARRIVED: frozenset({DropState.CLAIMED}),
    DropState.CLAIMED: frozenset({DropState.PARSED, DropState.HELD, DropState.QUARANTINED, DropState.FAILED}),
    DropState.PARSED: frozenset({DropState.AUDITED, DropState.HELD, DropState.QUARANTINED, DropState.FAILED}),
    DropState.AUDITED: frozenset({DropState.PLANNED, DropState.HELD, DropState.QUARANTINED, DropState.FAILED}),
    DropState.PLANNED: frozenset(
        {DropState.TRAINING, DropState.PARSED, DropState.DONE, DropState.HELD, DropState.FAILED}
    ),
    DropState.TRAINING: frozenset(
        {DropState.EVALUATED, DropState.PLANNED, DropState.PARSED, DropState.HELD, DropState.FAILED}
    ),
    DropState.EVALUATED: frozenset({DropState.DONE, DropState.HELD, DropState.FAILED}),
    DropState.DONE: frozenset({DropState.PARSED}),
    DropState.HELD: frozenset({DropState.CLAIMED, DropState.PARSED, DropState.DONE}),
    DropState.QUARANTINED: frozenset({DropState.CLAIMED, DropState.DONE}),
    DropState.FAILED: frozenset({DropState.CLAIMED, DropState.PARSED, DropState.DONE}),
}
"""Where a drop may go from each state."""

JOB_MOVES: Final[Mapping[JobState, frozenset[JobState]]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.DONE, JobState.FAILED, JobState.CANCELLED}),
    JobState.DONE: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
"""Where a job may go from each state."""

OPEN_JOBS: Final = frozenset({JobState.QUEUED, JobState.RUNNING})
"""The states of a job that is not over."""


def move_drop(current: DropState, to: DropState) -> DropState:
    """Return `to`, the state after the move from `current`.

    Staying where one is, is not a move: a step that may run twice asks first whether it is done.

    Raises:
        NotAllowed: the life drawn in `DropState` does not lead there.
    """
    if to not in DROP_MOVES[current]:
        raise _refusal("drop", current, to, DROP_MOVES[current])
    return to


def move_job(current: JobState, to: JobState) -> JobState:
    """Return `to`, the state after the move from `current`.

    Raises:
        NotAllowed: the life drawn in `JobState` does not lead there.
    """
    if to not in JOB_MOVES[current]:
        raise _refusal("job", current, to, JOB_MOVES[current])
    return to


def _refusal(what: str, current: StrEnum, to: StrEnum, legal: frozenset[DropState] | frozenset[JobState]) -> NotAllowed:
    ways = ", ".join(sorted(legal)) or "nothing, this is its end"
    return NotAllowed(
        f"a {what} that is {current.value} cannot become {to.value}",
        hint=f"from {current.value} it can become: {ways}",
        current=current.value,
        to=to.value,
    )

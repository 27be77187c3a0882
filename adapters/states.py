"""The two lives of a version: of its files, and of its weights in the running engine."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from .errors import IllegalTransition


class VersionState(StrEnum):
    """The life of a version's files; it is kept in the ledger.

    ::

        CANDIDATE ──┬──► AVAILABLE ◄──► RETIRED ──► DELETED
                    │        ▲             ▲           ▲
                    ├──► REJECTED ─────────┴───────────┤
                    └──────────────────────────────────┘

    - CANDIDATE: published, not judged yet (just trained, or imported). A person may delete it.
    - REJECTED: judged by the gate and not served. A person may still promote, retire or delete it.
    - AVAILABLE: an alias may point at it, and requests may name it. It is retired before it is deleted.
    - RETIRED: kept and not served. A revert to it makes it AVAILABLE again.
    - DELETED: the files are gone; its number is never given out again.
    """

    CANDIDATE = "candidate"
    REJECTED = "rejected"
    AVAILABLE = "available"
    RETIRED = "retired"
    DELETED = "deleted"


class ServingState(StrEnum):
    """The life of a version in the running engine; it is kept in memory alone.

    ::

        START ──► LOADING ──► AVAILABLE ◄──► DRAINING ──► END ──► LOADING
                     ▲            │              │         ▲
                     ▼            ▼              ▼         │
                   ERROR ◄────────┴──────────────┘         │
                     └─────────────────────────────────────┘

    - START: wanted, nothing done yet; not wanted any more, it goes to END.
    - LOADING: files are read and checked, weights copied into a slot and tried if need be.
    - AVAILABLE: answers requests. Reported after the fact, never before.
    - DRAINING: takes no new request and waits for its leases; reported before the slot is freed. Wanted again
      meanwhile, it is AVAILABLE again at once.
    - END: not resident. Wanted again, it is LOADING again.
    - ERROR: the last load or drain failed, with a reason; it is retried (LOADING) or given up (END).
    """

    START = "start"
    LOADING = "loading"
    AVAILABLE = "available"
    DRAINING = "draining"
    END = "end"
    ERROR = "error"


VERSION_MOVES: Final[Mapping[VersionState, frozenset[VersionState]]] = {
    VersionState.CANDIDATE: frozenset({VersionState.REJECTED, VersionState.AVAILABLE, VersionState.DELETED}),
    VersionState.REJECTED: frozenset({VersionState.AVAILABLE, VersionState.RETIRED, VersionState.DELETED}),
    VersionState.AVAILABLE: frozenset({VersionState.RETIRED}),
    VersionState.RETIRED: frozenset({VersionState.AVAILABLE, VersionState.DELETED}),
    VersionState.DELETED: frozenset(),
}
"""Where the files of a version may go from each state."""

SERVING_MOVES: Final[Mapping[ServingState, frozenset[ServingState]]] = {
    ServingState.START: frozenset({ServingState.LOADING, ServingState.END}),
    ServingState.LOADING: frozenset({ServingState.AVAILABLE, ServingState.ERROR}),
    ServingState.AVAILABLE: frozenset({ServingState.DRAINING, ServingState.ERROR}),
    ServingState.DRAINING: frozenset({ServingState.AVAILABLE, ServingState.END, ServingState.ERROR}),
    ServingState.END: frozenset({ServingState.LOADING}),
    ServingState.ERROR: frozenset({ServingState.LOADING, ServingState.END}),
}
"""Where a version may go in the engine from each state."""

State = TypeVar("State", VersionState, ServingState)


def move(current: State, to: State) -> State:
    """Return `to`, the state after the move from `current`.

    Staying where one is, is not a move: a step that may run twice asks first whether it is done.

    Raises:
        IllegalTransition: the life drawn in the enum's docstring does not lead there.
    """
    legal = VERSION_MOVES[current] if isinstance(current, VersionState) else SERVING_MOVES[current]
    if to not in legal:
        ways = ", ".join(sorted(legal)) or "nothing, this is its end"
        raise IllegalTransition(
            f"a version that is {current.value} cannot become {to.value}",
            hint=f"from {current.value} it can become: {ways}",
            current=current.value,
            to=to.value,
        )
    return to

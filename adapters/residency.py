"""What should happen next to one version's weights in the engine: a function of what is, without memory of its own.

Called again and again with what then is, it leads every version from where it stands to where it should be
(TensorFlow Serving calls this an aspired-version policy).
"""

from dataclasses import dataclass
from enum import StrEnum

from .states import ServingState


class Action(StrEnum):
    """What the manager does about a version."""

    NOTHING = "nothing"
    LOAD = "load"  # read it, check it, give it a slot, warm it up
    DRAIN = "drain"  # give it no new request
    RESUME = "resume"  # give it requests again
    UNLOAD = "unload"  # empty its slot
    REPORT = "report"  # tell that its requests take too long to end
    GIVE_UP = "give up"  # forget that it could not be loaded


@dataclass(frozen=True, slots=True)
class Residence:
    """A version as it stands in the engine. Times are unix seconds."""

    state: ServingState
    wanted: bool  # an alias points at it or waits for it, and there is room for it
    servable: bool  # neither retired nor deleted nor forgotten
    leases: int = 0
    retry_at: float = 0.0  # of a failed load
    draining_since: float = 0.0
    reported: bool = False  # that it drains slowly


def next_action(it: Residence, now: float, drain_timeout_s: float) -> Action:
    """What to do about a version now."""
    match it.state:
        case ServingState.START | ServingState.END if it.wanted:
            return Action.LOAD
        case ServingState.ERROR if not it.servable:
            return Action.GIVE_UP
        case ServingState.ERROR if it.wanted and now >= it.retry_at:
            return Action.LOAD
        case ServingState.AVAILABLE if not it.servable:
            return Action.DRAIN
        case ServingState.DRAINING if it.servable:
            return Action.RESUME
        case ServingState.DRAINING if it.leases == 0:
            return Action.UNLOAD
        case ServingState.DRAINING if not it.reported and now - it.draining_since > drain_timeout_s:
            return Action.REPORT
        case _:
            return Action.NOTHING

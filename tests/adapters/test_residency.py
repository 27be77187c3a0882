"""What happens next to a version in the engine, case by case."""

import pytest
from adapterd.adapters.residency import Action, Residence, next_action
from adapterd.adapters.states import ServingState

START, LOADING, AVAILABLE, DRAINING, END, ERROR = ServingState


def here(state: ServingState, *, wanted: bool = False, servable: bool = True, **more: float) -> Residence:
    return Residence(state=state, wanted=wanted, servable=servable, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("residence", "action"),
    [
        (here(START, wanted=True), Action.LOAD),
        (here(END, wanted=True), Action.LOAD),
        (here(START), Action.NOTHING),
        (here(LOADING, wanted=True), Action.NOTHING),
        (here(AVAILABLE, wanted=True), Action.NOTHING),
        (here(AVAILABLE), Action.NOTHING),  # stays as long as nobody needs the slot
        (here(AVAILABLE, servable=False, leases=3), Action.DRAIN),
        (here(DRAINING, leases=1), Action.RESUME),
        (here(DRAINING, servable=False, leases=1, draining_since=95), Action.NOTHING),
        (here(DRAINING, servable=False, leases=1, draining_since=80), Action.REPORT),
        (here(DRAINING, servable=False, leases=1, draining_since=80, reported=True), Action.NOTHING),
        (here(DRAINING, servable=False), Action.UNLOAD),
        (here(ERROR, wanted=True, retry_at=101), Action.NOTHING),
        (here(ERROR, wanted=True, retry_at=100), Action.LOAD),
        (here(ERROR, retry_at=0), Action.NOTHING),
        (here(ERROR, servable=False), Action.GIVE_UP),
    ],
)
def test_each_state_leads_to_one_action(residence: Residence, action: Action) -> None:
    assert next_action(residence, now=100, drain_timeout_s=10) is action

"""What is done with a drop follows from its counts."""

import pytest
from adapterd.continual.plan import Action, Counts, plan


@pytest.mark.parametrize(
    ("counts", "released", "action"),
    [
        (Counts(rows=100, fresh=100, effective=100, train=85, heldout=15), False, Action.TRAIN),
        (Counts(rows=0, fresh=0, effective=0, train=0, heldout=0), False, Action.REJECT),
        (Counts(rows=50, fresh=0, effective=0, train=0, heldout=0), False, Action.REHEARSE),
        (Counts(rows=5, fresh=5, effective=5, train=4, heldout=1), False, Action.HOLD),
        (Counts(rows=5, fresh=5, effective=5, train=4, heldout=1), True, Action.TRAIN),
        (Counts(rows=1, fresh=1, effective=1, train=1, heldout=0), True, Action.REJECT),
        (Counts(rows=5, fresh=5, effective=5, train=0, heldout=5, golden=True), False, Action.GOLDEN),
        (Counts(rows=5, fresh=0, effective=0, train=0, heldout=0, golden=True), False, Action.REJECT),
    ],
)
def test_action_for_counts(counts: Counts, released: bool, action: Action) -> None:
    assert plan(counts, released=released).action is action


def test_a_held_drop_is_told_how_to_go_on() -> None:
    assert "release to train anyway" in plan(Counts(3, 3, 3, 2, 1), released=False).reason

"""What the gate would reject for going too far goes less far."""

import pytest
import torch
from adapterd.continual.gate import Decision, Verdict
from adapterd.continual.part_way import PARTS, go_part_way
from adapterd.continual.rescue import rescue
from torch import Tensor

TOO_FAR = Verdict(Decision.REJECT, "drop 1 is forgotten", (), went_too_far=True)
START, END = torch.tensor([1.0, 1.0]), torch.tensor([5.0, -3.0])


class Gate:
    """Promotes what has gone no farther than `most` of the way, and notes what it was asked."""

    def __init__(self, most: float) -> None:
        self.theta = {"w": END.clone()}
        self.most = most
        self.asked: list[float] = []

    def __call__(self) -> tuple[float, Verdict]:
        part = float((self.theta["w"][0] - 1) / 4)
        self.asked.append(part)
        return part, Verdict(Decision.PROMOTE, "kept", ()) if part <= self.most else TOO_FAR


@pytest.mark.parametrize(("most", "part"), [(0.95, 0.9), (0.8, 0.75), (0.6, 0.5), (0.3, 0.25)])
def test_the_farthest_point_that_the_gate_promotes_is_taken(most: float, part: float) -> None:
    gate = Gate(most)
    found = rescue(gate.theta, {"w": START}, TOO_FAR, gate)
    assert found is not None
    assert found.part == part
    assert found.measured == pytest.approx(part)
    assert found.said == f"{part:.0%} of the way, for the whole would not do: drop 1 is forgotten"
    torch.testing.assert_close(gate.theta["w"], START + part * (END - START))
    assert gate.asked == pytest.approx([one for one in PARTS if one >= part])


def test_where_no_point_is_promoted_the_candidate_is_as_it_was() -> None:
    gate = Gate(0.1)
    assert rescue(gate.theta, {"w": START}, TOO_FAR, gate) is None
    assert torch.equal(gate.theta["w"], END)
    assert gate.asked == pytest.approx(list(PARTS))


@pytest.mark.parametrize(
    "verdict", [Verdict(Decision.REJECT, "a label is lost", ()), Verdict(Decision.PROMOTE, "", ())]
)
def test_what_is_not_rejected_for_going_too_far_is_not_asked_again(verdict: Verdict) -> None:
    gate = Gate(0.9)
    assert rescue(gate.theta, {"w": START}, verdict, gate) is None
    assert torch.equal(gate.theta["w"], END)
    assert gate.asked == []


@pytest.mark.parametrize(("part", "expected"), [(0.0, [1.0, 1.0]), (0.25, [2.0, 0.0]), (1.0, [5.0, -3.0])])
def test_a_part_of_the_way_lies_between_start_and_end(part: float, expected: list[float]) -> None:
    theta: dict[str, Tensor] = {"w": torch.zeros(2)}
    go_part_way(theta, {"w": START}, {"w": END}, part)
    assert theta["w"].tolist() == expected

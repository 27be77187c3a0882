"""How much memory a training may take."""

import sys

import psutil
import pytest
from adapterd.daemon import memory


def test_what_is_available_is_what_the_machine_or_the_control_group_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = psutil.virtual_memory().available
    monkeypatch.setattr(memory, "_groups", list)
    assert memory.limit() == sys.maxsize
    assert memory.available() == pytest.approx(machine, rel=0.2)
    monkeypatch.setattr(memory, "_groups", lambda: [(4 << 20, 1 << 20), (8 << 20, 0)])
    assert memory.limit() == 4 << 20
    assert memory.available() == 3 << 20
    monkeypatch.setattr(memory, "_groups", lambda: [(1 << 20, 2 << 20)])
    assert memory.available() == 0


@pytest.mark.parametrize(
    ("megabytes", "device", "budget"), [(7, "cpu", 7 << 20), (7, "cuda", 7 << 20), (0, "cuda", 0), (0, "cpu", 900)]
)
def test_the_budget_is_what_is_set_or_nine_tenths_of_what_is_available(
    monkeypatch: pytest.MonkeyPatch, megabytes: int, device: str, budget: int
) -> None:
    monkeypatch.setattr(memory, "_groups", lambda: [(1000, 0)])
    assert memory.training_budget(megabytes, device) == budget

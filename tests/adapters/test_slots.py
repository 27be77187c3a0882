"""The slot table, also against a plain model of it under random histories."""

import pytest
from adapterd.adapters.errors import NoFreeSlot, StillLeased
from adapterd.adapters.slots import BASE_SLOT, Placement, SlotTable
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

Key = tuple[str, int]

A, B, C, D = ("a", 1), ("b", 1), ("c", 1), ("d", 1)


def test_a_version_takes_the_lowest_free_slot_and_never_the_bases() -> None:
    table: SlotTable[Key] = SlotTable(3)
    assert [table.place(key).slot for key in (A, B, C)] == [1, 2, 3]
    assert BASE_SLOT not in table.residents.values()


def test_placing_a_resident_again_moves_nothing() -> None:
    table: SlotTable[Key] = SlotTable(2)
    table.place(A)
    assert table.place(A) == Placement(1)
    assert len(table) == 1


def test_the_least_recently_used_idle_version_makes_room() -> None:
    table: SlotTable[Key] = SlotTable(3)
    for key in (A, B, C):
        table.place(key)
    table.lease(A, "r1")
    table.release(A, "r1")  # now B is the oldest
    assert table.place(D) == Placement(2, B)
    assert B not in table


def test_leased_and_pinned_versions_are_never_evicted() -> None:
    table: SlotTable[Key] = SlotTable(2)
    table.place(A)
    table.place(B)
    table.pin(A)
    table.lease(B, "r1")
    with pytest.raises(NoFreeSlot) as error:
        table.place(C)
    assert error.value.details == {"capacity": "2", "leased": "1"}
    assert set(table.residents) == {A, B}
    table.unpin(A)
    assert table.place(C).evicted == A


def test_a_lease_is_released_exactly_once() -> None:
    table: SlotTable[Key] = SlotTable(1)
    table.place(A)
    table.lease(A, "r1")
    with pytest.raises(ValueError, match="leases"):
        table.lease(A, "r1")
    table.release(A, "r1")
    with pytest.raises(KeyError):
        table.release(A, "r1")


def test_a_leased_version_cannot_be_removed() -> None:
    table: SlotTable[Key] = SlotTable(1)
    table.place(A)
    table.lease(A, "r1")
    with pytest.raises(StillLeased):
        table.remove(A)
    table.release(A, "r1")
    assert table.remove(A) == 1
    assert table.place(B) == Placement(1)


def test_a_table_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SlotTable(0)


keys = st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 3))
requests = st.sampled_from(["r1", "r2", "r3"])


class SlotHistory(RuleBasedStateMachine):
    """Any history of calls, beside a model made of a list (by recency), a dict of slots, and sets."""

    capacity = 3

    def __init__(self) -> None:
        super().__init__()
        self.table: SlotTable[Key] = SlotTable(self.capacity)
        self.recency: list[Key] = []
        self.slots: dict[Key, int] = {}
        self.pins: set[Key] = set()
        self.held: set[tuple[Key, str]] = set()

    def leased(self, key: Key) -> bool:
        return any(holder == key for holder, _ in self.held)

    def touch(self, key: Key) -> None:
        if key in self.recency:
            self.recency.remove(key)
        self.recency.append(key)

    @rule(key=keys)
    def place(self, key: Key) -> None:
        idle = [k for k in self.recency if not self.leased(k) and k not in self.pins]
        if key not in self.slots and len(self.slots) == self.capacity and not idle:
            with pytest.raises(NoFreeSlot):
                self.table.place(key)
            return
        placement = self.table.place(key)
        if key in self.slots:
            assert placement == Placement(self.slots[key])
        elif len(self.slots) < self.capacity:
            assert placement.evicted is None
            assert placement.slot not in self.slots.values()
        else:
            assert placement == Placement(self.slots[idle[0]], idle[0])
            self.recency.remove(idle[0])
            del self.slots[idle[0]]
        self.slots[key] = placement.slot
        self.touch(key)

    @rule(key=keys, request=requests)
    def lease(self, key: Key, request: str) -> None:
        if key not in self.slots:
            with pytest.raises(KeyError):
                self.table.lease(key, request)
        elif (key, request) in self.held:
            with pytest.raises(ValueError, match="leases"):
                self.table.lease(key, request)
        else:
            assert self.table.lease(key, request) == self.slots[key]
            self.held.add((key, request))
            self.touch(key)

    @rule(key=keys, request=requests)
    def release(self, key: Key, request: str) -> None:
        if (key, request) in self.held:
            self.table.release(key, request)
            self.held.remove((key, request))
        else:
            with pytest.raises(KeyError):
                self.table.release(key, request)

    @rule(key=keys)
    def remove(self, key: Key) -> None:
        if key not in self.slots:
            with pytest.raises(KeyError):
                self.table.remove(key)
        elif self.leased(key):
            with pytest.raises(StillLeased):
                self.table.remove(key)
        else:
            assert self.table.remove(key) == self.slots.pop(key)
            self.recency.remove(key)
            self.pins.discard(key)

    @precondition(lambda self: self.slots)
    @rule(data=st.data(), pinned=st.booleans())
    def pin(self, data: st.DataObject, pinned: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.slots)))
        if pinned:
            self.table.pin(key)
            self.pins.add(key)
        else:
            self.table.unpin(key)
            self.pins.discard(key)

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert dict(self.table.residents) == self.slots
        assert list(self.table.residents) == self.recency
        assert len(set(self.slots.values())) == len(self.slots)
        assert all(1 <= slot <= self.capacity for slot in self.slots.values())
        for key in self.slots:
            assert self.table.leases(key) == sum(1 for holder, _ in self.held if holder == key)
            assert self.table.pinned(key) == (key in self.pins)


SlotHistory.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestSlotHistory = SlotHistory.TestCase

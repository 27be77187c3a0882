"""Which version sits in which slot of the engine, and who uses it. Pure bookkeeping: no weights, no threads, no clock.

A version takes a free slot, or that of the version least recently used among those that nobody leases and nobody
pinned. A lease is a request's id in a set, so that it is counted once and given back once.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from .errors import NoFreeSlot, StillLeased

BASE_SLOT: Final = 0
"""The slot of the base without adapter: always there, never given to a version."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Placement(Generic[Key]):
    """Where a version was put, and which one had to leave for it, if any."""

    slot: int
    evicted: Key | None = None


@dataclass(slots=True)
class _Resident:
    slot: int
    used: int  # the table's tick at the last placement or lease
    pinned: bool = False
    leases: set[str] = field(default_factory=set)


class SlotTable(Generic[Key]):
    """Slots 1 to `capacity`, each empty or holding one key (a version's task and number).

    Not thread-safe: the manager calls it under its lock.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a slot table needs at least one slot, not {capacity}")
        self.capacity: Final = capacity
        self._residents: dict[Key, _Resident] = {}
        self._free = list(range(capacity, BASE_SLOT, -1))  # popped from the end: lowest slot first
        self._tick = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._residents

    def __len__(self) -> int:
        return len(self._residents)

    @property
    def residents(self) -> Mapping[Key, int]:
        """The slot of each resident key, least recently used first."""
        ordered = sorted(self._residents.items(), key=lambda entry: entry[1].used)
        return {key: resident.slot for key, resident in ordered}

    def place(self, key: Key) -> Placement[Key]:
        """Give `key` a slot; one that is resident already keeps its own.

        Raises:
            NoFreeSlot: every slot holds a version that is leased or pinned; nothing was changed.
        """
        resident = self._residents.get(key)
        if resident is not None:
            resident.used = self._next_tick()
            return Placement(resident.slot)
        evicted: Key | None = None
        if self._free:
            slot = self._free.pop()
        else:
            evicted = self._victim(key)
            slot = self._residents.pop(evicted).slot
        self._residents[key] = _Resident(slot, self._next_tick())
        return Placement(slot, evicted)

    def check_room(self, key: Key) -> None:
        """Raise `NoFreeSlot` if `place` would."""
        if key not in self._residents and not self._free:
            self._victim(key)

    def remove(self, key: Key) -> int:
        """Take `key` out and return the slot it had; a pin falls with it. Raises `KeyError` if it is not resident.

        Raises:
            StillLeased: requests still use it; nothing was changed.
        """
        resident = self._residents[key]
        if resident.leases:
            raise StillLeased(
                f"{key} cannot leave slot {resident.slot}: {len(resident.leases)} running requests use it",
                hint="wait until they have ended",
                leases=str(len(resident.leases)),
            )
        del self._residents[key]
        self._free.append(resident.slot)
        return resident.slot

    def lease(self, key: Key, request_id: str) -> int:
        """Note that a request uses `key` and return its slot.

        Raises `KeyError` if it is not resident and `ValueError` if this request leases it already.
        """
        resident = self._residents[key]
        if request_id in resident.leases:
            raise ValueError(f"request {request_id!r} leases {key} already")
        resident.leases.add(request_id)
        resident.used = self._next_tick()
        return resident.slot

    def release(self, key: Key, request_id: str) -> None:
        """Take a lease back. Raises `KeyError` if there is none, so a second release cannot go unnoticed."""
        self._residents[key].leases.remove(request_id)

    def leases(self, key: Key) -> int:
        """How many requests use `key`; 0 if it is not resident."""
        resident = self._residents.get(key)
        return len(resident.leases) if resident else 0

    def pin(self, key: Key) -> None:
        """Keep `key` from being evicted. Raises `KeyError` if it is not resident."""
        self._residents[key].pinned = True

    def unpin(self, key: Key) -> None:
        """Let `key` be evicted again. Raises `KeyError` if it is not resident."""
        self._residents[key].pinned = False

    def pinned(self, key: Key) -> bool:
        """Whether `key` is resident and pinned."""
        resident = self._residents.get(key)
        return resident is not None and resident.pinned

    def _victim(self, key: Key) -> Key:
        idle = [
            (resident.used, other)
            for other, resident in self._residents.items()
            if not resident.leases and not resident.pinned
        ]
        if not idle:
            leased = sum(1 for resident in self._residents.values() if resident.leases)
            raise NoFreeSlot(
                f"no slot for {key}: of {self.capacity}, {leased} are leased by running requests and the others pinned",
                hint="try again when requests have ended, or give the engine more slots",
                capacity=str(self.capacity),
                leased=str(leased),
            )
        return min(idle, key=lambda entry: entry[0])[1]

    def _next_tick(self) -> int:
        self._tick += 1
        return self._tick

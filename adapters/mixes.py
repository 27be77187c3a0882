"""The adapters of a forward side by side in one matrix, and the mixes that were needed last.

Requests come and go, and with them the set of adapters that a forward needs. Putting one together copies some 5 MB for
an adapter of rank 8 on a base of 135M weights. So a mix serves every forward that needs no more than it holds, and the
last few are kept: where a handful of tasks is asked in turn, their mixes come back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .low_rank import Factors
from .slot_layers import SlotGroup

#: A mix may hold up to this many times the ranks that a forward needs: each costs what it adds to every product.
SLACK: Final = 2

#: What mixes may take besides the one at hand.
KEPT_BYTES: Final = 128 << 20


@dataclass(eq=False)
class Mix:
    """The adapters of `slots`, of so many `ranks` together: by group, None where none of them changes it.

    `bytes`: what its matrices take.
    """

    slots: tuple[int, ...]
    ranks: int
    factors: tuple[Factors | None, ...]
    bytes: int

    @classmethod
    def of(cls, slots: Sequence[int], ranks: int, groups: Sequence[SlotGroup]) -> "Mix":
        """Put together what the groups hold for `slots`."""
        factors = tuple(group.joined(slots) for group in groups)
        return cls(tuple(slots), ranks, factors, sum(found.bytes for found in factors if found is not None))


class Mixes:
    """The mixes of some groups of layers, the one used last at the end."""

    def __init__(self, groups: Sequence[SlotGroup]) -> None:
        self._groups = groups
        self._kept: list[Mix] = []

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, active: frozenset[int], ranks: Mapping[int, int]) -> Mix:
        """One that holds the adapters of all `active` slots and not much besides; `ranks`: of each written slot."""
        needed = sum(ranks[slot] for slot in active)
        fitting = [mix for mix in self._kept if active.issubset(mix.slots) and mix.ranks <= SLACK * needed]
        if not fitting:
            mix = Mix.of(sorted(active), needed, self._groups)
        elif fitting[-1] is self._kept[-1]:
            return fitting[-1]  # a smaller one would save less than going back and forth costs
        else:
            mix = min(fitting, key=lambda one: one.ranks)
            self._kept.remove(mix)
        self._kept.append(mix)
        while len(self._kept) > 1 and sum(one.bytes for one in self._kept[:-1]) > KEPT_BYTES:
            del self._kept[0]
        return mix

    def drop(self, slot: int) -> None:
        """Forget every mix with the adapter in `slot`."""
        self._kept = [mix for mix in self._kept if slot not in mix.slots]

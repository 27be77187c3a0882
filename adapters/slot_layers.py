"""The layers of the base that add the requests' adapters, in groups that read the same input."""

from collections.abc import Iterable
from typing import Final, Protocol

from torch import Tensor, nn

from .gathered import PackedGroup
from .low_rank import Factors


class Part(Protocol):
    """What the adapters of a forward add to the layers of a group."""

    def hidden(self, x: Tensor) -> Tensor:
        """What all layers need of their input x [..., in]: [N, any width]."""
        ...

    def add_up(self, hidden: Tensor, y: Tensor, place: int) -> None:
        """Add what it gives for the layer at `place` to its output y [N, out], in place."""
        ...


#: Layers below one parent that read the same input. Only a matter of speed: identity of the input decides.
SIBLINGS: Final = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class SlotLinear(nn.Module):
    """A linear layer of the base, of torch or bitsandbytes and used as it is, that adds the requests' adapters."""

    def __init__(self, base: nn.Module, group: "SlotGroup", place: int) -> None:
        super().__init__()
        self.base = base
        # Not registered: the group's tensors are no part of the model's state.
        self.group: Final = group
        self.place: Final = place

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., in] to [..., out]; the tokens of x are in the order that `SlotBank.route` was told."""
        y: Tensor = self.base(x)
        return y if self.group.active is None else self.group.add(x, y, self.place)


class PackedSlotLinear(nn.Module):
    """A linear layer that is computed together with those that read the same input."""

    def __init__(self, group: PackedGroup, place: int) -> None:
        super().__init__()
        self.group: Final = group
        self.place: Final = place

    def forward(self, x: Tensor) -> Tensor:
        """As `SlotLinear.forward`."""
        return self.group.output(x, self.place)


class SlotGroup:
    """Layers that read the same input, with their adapters by slot and what the coming forward adds of them."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names: Final = names
        self.slots: dict[int, Factors] = {}
        self.active: Part | None = None
        self._input: Tensor | None = None
        self._hidden: Tensor | None = None

    def add(self, x: Tensor, y: Tensor, place: int) -> Tensor:
        """Add the adapters' part for the layer at `place` to its output `y`."""
        assert self.active is not None
        if x is not self._input:
            self._input, self._hidden = x, self.active.hidden(x)
        assert self._hidden is not None
        flat = y.reshape(-1, y.shape[-1])
        self.active.add_up(self._hidden, flat, place)
        if place == len(self.names) - 1:  # or they would stay in memory until the next forward
            self._input = self._hidden = None
        return flat.view(y.shape)

    def joined(self, slots: Iterable[int]) -> Factors | None:
        """The factors of those of `slots` that change the group."""
        own = {slot: self.slots[slot] for slot in slots if slot in self.slots}
        return Factors.joined(own) if own else None

    def select(self, part: Part | None) -> None:
        """Set what the coming forward adds."""
        self.active = part
        self._input = self._hidden = None


def grouped(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Put siblings of one parent together, in the order of `SIBLINGS`; all others alone, in the order given."""
    known = list(names)
    grouped: list[tuple[str, ...]] = []
    seen: set[str] = set()
    for name in known:
        if name in seen:
            continue
        parent, _, leaf = name.rpartition(".")
        family = next((siblings for siblings in SIBLINGS if leaf in siblings), (leaf,))
        members = [f"{parent}.{sibling}" if parent else sibling for sibling in family]
        group = tuple(member for member in members if member in known)
        seen.update(group)
        grouped.append(group)
    return grouped

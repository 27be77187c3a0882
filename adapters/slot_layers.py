"""The layers of the base that add the requests' adapters, in groups that read the same input."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final

from torch import Tensor, nn

from .gathered import GatheredFactors, Gathering
from .low_rank import Factors
from .packing import PackedLinear

AnyFactors = Factors | GatheredFactors
"""The form depends on the group: gathered where its layers are packed."""

Routing = Mapping[Hashable, Tensor | Gathering]
"""By the `key` of factors, what the tokens of a forward do with them: for dense ones a mask bool [N, R] of columns that
are not the token's own, nothing where all are."""

#: Layers below one parent that read the same input. Only a matter of speed: identity of the input decides.
SIBLINGS: Final = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class SlotLinear(nn.Module):
    """A linear layer of the base, of torch or bitsandbytes and used as it is, that adds the requests' adapters.

    `base` is None where the group computes it together with its siblings.
    """

    def __init__(self, base: nn.Module | None, group: "SlotGroup", place: int) -> None:
        super().__init__()
        self.base = base
        # Not registered: the group's tensors are no part of the model's state.
        self.group: Final = group
        self.place: Final = place

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., in] to [..., out]; the tokens of x are in the order that `SlotBank.route` was told."""
        if self.base is None:
            return self.group.output(x, self.place)
        y: Tensor = self.base(x)
        return y if self.group.active is None else self.group.add(x, y, self.place)


class SlotGroup:
    """Layers that read the same input, with their adapters by slot and what the coming forward needs of them.

    `together` computes all of them at once, where they are packed.
    """

    def __init__(self, names: tuple[str, ...], together: PackedLinear | None) -> None:
        self.names: Final = names
        self.together: Final = together
        self.slots: dict[int, AnyFactors] = {}
        self.active: AnyFactors | None = None
        self._route: Tensor | Gathering | None = None
        self._input: Tensor | None = None
        self._hidden: Tensor | None = None
        self._outputs: tuple[Tensor, ...] = ()

    def outputs(self, x: Tensor) -> Tensor:
        """What all layers give for x, side by side, where they are packed."""
        assert self.together is not None
        if self.active is None:
            y: Tensor = self.together(x)
            return y
        return self.together.added_to(self._adapters_part(x), x)

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """The sum of `residual` and `outputs(x)`."""
        assert self.together is not None
        if self.active is not None:
            residual = self._adapters_part(x).add_(residual)
        return self.together.added_to(residual, x)

    def output(self, x: Tensor, place: int) -> Tensor:
        """What the layer at `place` gives for x; computed with all others when the first of them is asked."""
        assert self.together is not None
        if x is not self._input:
            self._input, self._outputs = x, tuple(self.outputs(x).split_with_sizes(self.together.widths, dim=-1))
        output = self._outputs[place]
        self._forget_after(place)
        return output

    def add(self, x: Tensor, y: Tensor, place: int) -> Tensor:
        """Add the adapters' part for the layer at `place` to its output `y`, where each is computed by itself."""
        assert isinstance(self.active, Factors)
        if x is not self._input:
            assert not isinstance(self._route, Gathering)
            self._input, self._hidden = x, self.active.hidden(x, self._route)
        assert self._hidden is not None
        flat = y.reshape(-1, y.shape[-1])
        self.active.add_up(self._hidden, flat, place)
        self._forget_after(place)
        return flat.view(y.shape)

    def in_its_form(self, factors: Factors) -> AnyFactors:
        """One adapter's factors in the form that the group computes with."""
        return factors if self.together is None else GatheredFactors.of(factors)

    def joined(self, slots: Iterable[int]) -> AnyFactors | None:
        """The factors of those of `slots` that change the group."""
        own = {slot: self.slots[slot] for slot in slots if slot in self.slots}
        if not own:
            return None
        form: Any = Factors if self.together is None else GatheredFactors
        joined: AnyFactors = form.joined(own)
        return joined

    def select(self, factors: AnyFactors | None, routing: Routing) -> None:
        """Set what the coming forward adds."""
        self.active = factors
        self._route = routing.get(factors.key) if factors is not None else None
        self._forget_after(len(self.names) - 1)

    def _adapters_part(self, x: Tensor) -> Tensor:
        """What the adapters add to `outputs(x)`."""
        assert isinstance(self.active, GatheredFactors)
        assert isinstance(self._route, Gathering)
        if x.dim() == 2:
            return self.active.part(x, self._route)
        return self.active.part(x.flatten(0, -2), self._route).view(*x.shape[:-1], -1)

    def _forget_after(self, place: int) -> None:
        """After the last layer, or its activations would stay in memory until the next forward."""
        if place == len(self.names) - 1:
            self._input = self._hidden = None
            self._outputs = ()


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

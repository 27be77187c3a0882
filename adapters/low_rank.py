"""The arithmetic of adapters: what a wrapped linear layer adds for the tokens of a forward.

For a token x of a request in slot s a layer gives `y = W x + (alpha / r) B_s A_s x` (Hu et al., arXiv 2106.09685);
slot 0 is the base and adds nothing. The adapters that a forward needs stand side by side as one dense matrix [sum of
ranks, in], so that a layer costs two products whatever the number of adapters; between the two, the columns that are
not the token's own are set to zero. On a CPU that took a fifth of the time of gathering each row's own matrices for a
batched product, and less than a loop over the adapters. Layers that read the same input (q, k and v; gate and up)
share the first product.

A column that is not the token's own is overwritten, not multiplied by zero: an adapter that overflows (0 x inf is NaN)
must spoil nobody else's answer.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .packing import PackedLinear, laid_out, product, product_and

#: Layers below one parent that read the same input. Only a matter of speed: identity of the input decides.
SIBLINGS: Final = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


@dataclass(frozen=True)
class Factors:
    """One adapter's matrices for the layers of one group, or those of several adapters side by side.

    `down` [R, in] holds the rows of A, layer after layer; `ups[j]` [R_j, out_j] is B transposed, with alpha / r
    multiplied in, and belongs to the rows `spans[j]` of `down`. `owners[i]` is the slot of row i.
    """

    down: Tensor
    ups: tuple[Tensor, ...]
    spans: tuple[tuple[int, int], ...]
    owners: tuple[int, ...] = ()

    @property
    def bytes(self) -> int:
        """What the matrices take."""
        return self.down.nbytes + sum(up.nbytes for up in self.ups)

    def to(self, device: torch.device) -> "Factors":
        """The same on `device`; nothing is copied where it is there already."""
        return replace(self, down=self.down.to(device), ups=tuple(up.to(device) for up in self.ups))

    def hidden(self, x: Tensor, foreign: Tensor | None) -> Tensor:
        """A x of all layers and adapters [N, R] for x [..., in], zero in the columns that are `foreign` to a token."""
        hidden = F.linear(x.reshape(-1, x.shape[-1]).to(self.down.dtype), self.down)
        return hidden if foreign is None else hidden.masked_fill_(foreign, 0.0)

    def add_up(self, hidden: Tensor, y: Tensor, place: int) -> None:
        """Add B of the layer at `place` times `hidden` to its output y [N, out], in place."""
        begin, end = self.spans[place]
        if begin == end:
            return
        if y.dtype == hidden.dtype:
            y.addmm_(hidden[:, begin:end], self.ups[place])
        else:
            y += (hidden[:, begin:end] @ self.ups[place]).to(y.dtype)

    def add(self, x: Tensor, y: Tensor, foreign: Tensor | None) -> Tensor:
        """The sum of y [..., sum of out], which may be written over, and what the adapters give for x [..., in]."""
        hidden = self.hidden(x, foreign)
        widths = [up.shape[1] for up in self.ups]
        for place, part in enumerate(y.view(-1, y.shape[-1]).split_with_sizes(widths, dim=-1)):
            self.add_up(hidden, part, place)
        return y


@dataclass(frozen=True)
class PackedFactors:
    """The same in oneDNN's layout, B of all layers as one block-diagonal matrix [sum of out, R].

    In bfloat16 each product costs 14 microseconds besides what it computes: two for a group, where there were up to
    four, and weights that need no arranging cost 8 ms in 30 layers where they cost 13 (8 tokens, 4 adapters of rank 8).
    In float32 torch's own products of this size cost 2 microseconds each, and `Factors` are faster.
    """

    down: Tensor
    up: Tensor
    owners: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """What the matrices take, without what blocks are filled up with."""
        return self.down.nbytes + self.up.nbytes

    @classmethod
    def of(cls, factors: Factors) -> "PackedFactors":
        """Copies of `factors`."""
        up: Tensor = torch.block_diag(*(up.t() for up in factors.ups))  # type: ignore[no-untyped-call]
        return cls(laid_out(factors.down), laid_out(up), factors.owners)

    def add(self, x: Tensor, y: Tensor, foreign: Tensor | None) -> Tensor:
        """As `Factors.add`."""
        hidden = product(x.reshape(-1, x.shape[-1]), self.down)
        if foreign is not None:
            hidden.masked_fill_(foreign, 0.0)
        return product_and(y.view(-1, y.shape[-1]), hidden, self.up).view(y.shape)


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
        self.slots: dict[int, Factors] = {}
        self.active: Factors | PackedFactors | None = None
        self.foreign: Tensor | None = None  # bool [N, R]: columns that are not the token's own
        self._input: Tensor | None = None
        self._hidden: Tensor | None = None
        self._outputs: tuple[Tensor, ...] = ()

    def outputs(self, x: Tensor) -> Tensor:
        """What all layers give for x, side by side, where they are packed."""
        assert self.together is not None
        y: Tensor = self.together(x)
        return y if self.active is None else self.active.add(x, y, self.foreign)

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """The sum of `residual` and `outputs(x)`, rounded once."""
        assert self.together is not None
        y = self.together.added_to(residual, x)
        return y if self.active is None else self.active.add(x, y, self.foreign)

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
            self._input, self._hidden = x, self.active.hidden(x, self.foreign)
        assert self._hidden is not None
        flat = y.reshape(-1, y.shape[-1])
        self.active.add_up(self._hidden, flat, place)
        self._forget_after(place)
        return flat.view(y.shape)

    def laid_out(self, factors: Factors | PackedFactors | None) -> Factors | PackedFactors | None:
        """The same as the group computes with them fastest."""
        if self.together is None or not isinstance(factors, Factors):
            return factors
        fit = factors.down.dtype == self.together.dtype == torch.bfloat16
        return PackedFactors.of(factors) if fit else factors

    def select(self, factors: Factors | PackedFactors | None, foreign: Tensor | None) -> None:
        """Set what the coming forward adds."""
        self.active, self.foreign = factors, foreign
        self._forget_after(len(self.names) - 1)

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


def side_by_side(factors: dict[int, Factors]) -> Factors | None:
    """Pack several adapters of one group: layer after layer, within a layer slot after slot."""
    if not factors:
        return None
    places = range(len(next(iter(factors.values())).ups))
    owners = tuple(s for p in places for s, f in factors.items() for _ in range(*f.spans[p]))
    if len(factors) == 1:
        (own,) = factors.values()
        return Factors(own.down, own.ups, own.spans, owners)
    down = torch.cat([f.down[slice(*f.spans[p])] for p in places for f in factors.values()])
    ups = tuple(torch.cat([f.ups[p] for f in factors.values()]) for p in places)
    ends = [0]
    for up in ups:
        ends.append(ends[-1] + up.shape[0])
    return Factors(down, ups, tuple(pairwise(ends)), owners)

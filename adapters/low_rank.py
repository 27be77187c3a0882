"""The arithmetic of adapters: what a wrapped linear layer adds for the tokens of a forward.

For a token x of a request in slot s a layer gives `y = W x + (alpha / r) B_s A_s x` (Hu et al., arXiv 2106.09685);
slot 0 is the base and adds nothing. Beside packed layers each token gathers its own (`gathered.py`). Beside all others,
as on a GPU, the adapters that a forward needs stand side by side as one dense matrix [sum of ranks, in], so that a
layer costs two products whatever the number of adapters; between the two, the columns that are not the token's own are
set to zero. Layers that read the same input (q, k and v; gate and up) share the first product. For prompts of many
adapters there is another way (`grouped_product.py`).

A column that is not the token's own is overwritten, not multiplied by zero: an adapter that overflows (0 x inf is NaN)
must spoil nobody else's answer.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from .peft_files import is_finite

Routing = Mapping[Hashable, Tensor]
"""By the `key` of factors: which of their columns are not the token's own, bool [N, R]; nothing where all are."""


@dataclass(frozen=True)
class GroupWeights:
    """One adapter's A [r, inner] and B [width, r] for each layer of a group, None where it does not change the layer,
    and what their product is scaled by. All layers have `inner` inputs, and `widths` outputs each.
    """

    layers: Sequence[tuple[Tensor, Tensor] | None]
    inner: int
    widths: Sequence[int]
    scaling: float


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

    @classmethod
    def of(cls, weights: GroupWeights, device: torch.device, dtype: torch.dtype) -> "Factors":
        """Copies of an adapter's weights for a group."""
        downs, ups, ends = [], [], [0]
        for layer, width in zip(weights.layers, weights.widths, strict=True):
            a, b = layer if layer is not None else (torch.empty(0, weights.inner), torch.empty(width, 0))
            downs.append(a.to(device, dtype))
            ups.append((b.float() * weights.scaling).to(device, dtype).t().contiguous())
            ends.append(ends[-1] + len(a))
        return cls(torch.cat(downs), tuple(ups), tuple(pairwise(ends)))

    @classmethod
    def joined(cls, by_slot: Mapping[int, "Factors"]) -> "Factors":
        """Pack the factors of several slots: layer after layer, within a layer slot after slot."""
        places = range(len(next(iter(by_slot.values())).ups))
        owners = tuple(s for p in places for s, f in by_slot.items() for _ in range(*f.spans[p]))
        if len(by_slot) == 1:
            (own,) = by_slot.values()
            return cls(own.down, own.ups, own.spans, owners)
        down = torch.cat([f.down[slice(*f.spans[p])] for p in places for f in by_slot.values()])
        ups = tuple(torch.cat([f.ups[p] for f in by_slot.values()]) for p in places)
        ends = [0]
        for up in ups:
            ends.append(ends[-1] + up.shape[0])
        return cls(down, ups, tuple(pairwise(ends)), owners)

    @property
    def rank(self) -> int:
        """Of the layer that has the most."""
        return max(end - begin for begin, end in self.spans)

    @property
    def bytes(self) -> int:
        """What the matrices take."""
        return self.down.nbytes + sum(up.nbytes for up in self.ups)

    @property
    def gain(self) -> float:
        """How many times as long as its input at most is what it adds to a layer; NaN or infinite if a value is."""
        return norm_of(self.down) * math.hypot(*map(norm_of, self.ups))

    @property
    def finite(self) -> bool:
        """Whether every value is a finite number."""
        return all(is_finite(matrix) for matrix in (self.down, *self.ups) if matrix.numel())

    @property
    def key(self) -> tuple[int, ...]:
        """What tells apart how tokens are routed to the factors."""
        return self.owners

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


@dataclass(frozen=True)
class MaskedPart:
    """What adapters side by side add to a group of layers; `foreign` bool [N, R]: the columns that are not a token's
    own, None where all are."""

    factors: Factors
    foreign: Tensor | None

    def hidden(self, x: Tensor) -> Tensor:
        """As `Factors.hidden`."""
        return self.factors.hidden(x, self.foreign)

    def add_up(self, hidden: Tensor, y: Tensor, place: int) -> None:
        """As `Factors.add_up`."""
        self.factors.add_up(hidden, y, place)


def norm_of(matrix: Tensor) -> float:
    """The Frobenius norm, which no spectral norm exceeds; as exact as the matrix's numbers are."""
    return float(torch.linalg.vector_norm(matrix))


def filled_up(count: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-count // step) * step

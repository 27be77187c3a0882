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

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from .packing import laid_out, product, product_and

#: Ranks of a layer, of all adapters of a forward together, up to which bfloat16 is slower than float32 on a CPU.
FEW_RANKS: Final = 16


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
class _Joined:
    """Factors whose B of all layers are one block-diagonal matrix; `owners` as in `Factors`."""

    down: Tensor
    up: Tensor
    owners: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """What the matrices take, without what blocks of a layout are filled up with."""
        return self.down.nbytes + self.up.nbytes


class PackedFactors(_Joined):
    """The same in oneDNN's layout, B of all layers as one block-diagonal matrix [sum of out, R].

    In bfloat16 each product costs 14 microseconds besides what it computes: two for a group, where there were up to
    four, and weights that need no arranging cost 8 ms in 30 layers where they cost 13 (8 tokens, 4 adapters of rank 8).
    In float32 torch's own products of this size cost 2 microseconds each, and `Factors` are faster.
    """

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


class FloatFactors(_Joined):
    """The same in float32 beside a base in bfloat16, where ranks are few.

    torch's own float32 products of this size start in 2 microseconds, and a single token of one adapter of rank 8 costs
    a third of what it does in bfloat16. `down` [in, R], `up` [R, sum of out].
    """

    @classmethod
    def of(cls, factors: Factors) -> "FloatFactors":
        """Copies of `factors`."""
        up: Tensor = torch.block_diag(*factors.ups)  # type: ignore[no-untyped-call]
        return cls(factors.down.t().float().contiguous(), up.float(), factors.owners)

    def add(self, x: Tensor, y: Tensor, foreign: Tensor | None) -> Tensor:
        """As `Factors.add`."""
        # Rounded between the products as the other forms are, or an answer would change when a mix gets another form.
        hidden = torch.mm(x.reshape(-1, x.shape[-1]).float(), self.down).to(y.dtype).float()
        if foreign is not None:
            hidden.masked_fill_(foreign, 0.0)
        y.view(-1, y.shape[-1]).add_(torch.mm(hidden, self.up))
        return y


AnyFactors = Factors | PackedFactors | FloatFactors


def fastest(factors: Factors, dtype: torch.dtype) -> AnyFactors:
    """The form in which `factors` cost least beside packed layers in `dtype`."""
    if not factors.down.dtype == dtype == torch.bfloat16:
        return factors
    few = all(end - begin <= FEW_RANKS for begin, end in factors.spans)
    return FloatFactors.of(factors) if few else PackedFactors.of(factors)


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

"""Adapters beside packed layers: each token gathers the rows of its own A and B, whoever else is in the forward.

What Punica calls a batched gather matrix-vector product (Chen et al., arXiv 2310.18547), by torch's embedding bag: a
bag is one token, its members the rows of its adapter, their weights the token's own values, and its sum the product.
Nothing of other adapters is read and no token computes with it, so an answer has the same bits alone and in company.
Compared with dense products over all adapters, of which most is masked away, it took 3 ms instead of 7 for the 120
groups of the default base with 8 tokens over 4 adapters of rank 8, and 5 instead of 12 for 16 over 16.

A bag costs per token, a dense product per adapter. So the tokens of a long prompt have dense products of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .low_rank import Factors

#: Tokens of a prompt from which on dense products cost less than bags. Whoever reads it in pieces asks for the whole.
MANY_TOKENS: Final = 32

#: Rows of a dense product, and ranks, come in multiples of these, the last of them nobody's: where they do not, a row's
#: sums round otherwise by its place and by the number of rows (MKL).
_ROWS: Final = 8
_RANKS: Final = 4


class Structure(NamedTuple):
    """What must be known of some factors to say which rows a token gathers: shared by all layers of the base."""

    slots: tuple[int, ...]  # whose factors they are, in the order of their rows
    inner: int
    tiles: int
    rank: int


@dataclass(frozen=True)
class Gathering:
    """Which rows the tokens of a forward gather, for all factors of one structure.

    `tokens` [B]: those that have bags, `None` if all; they are among the first `reach`. `down_rows`, `down_begins`,
    `up_rows` and `up_begins`: what `embedding_bag` takes for A and for B. `runs`: spans of tokens that have dense
    products, and the place of their slot.
    """

    tokens: Tensor | None
    reach: int
    down_rows: Tensor
    down_begins: Tensor
    up_rows: Tensor
    up_begins: Tensor
    runs: tuple[tuple[slice, int], ...]


def gathering(
    structure: Structure, slots: tuple[int, ...], lengths: tuple[int, ...], dense: tuple[bool, ...]
) -> Gathering:
    """That of `lengths[i]` tokens of `slots[i]`, one after the other, by dense products where `dense[i]`."""
    if any(dense) or max(lengths) > 1:
        return _gathering(structure, slots, lengths, dense)
    return _of_single_tokens(structure, slots)


@lru_cache(maxsize=32)
def _of_single_tokens(structure: Structure, slots: tuple[int, ...]) -> Gathering:
    """Kept, for the same requests decode for many steps, and in all layers."""
    return _gathering(structure, slots, (1,) * len(slots), (False,) * len(slots))


def _gathering(
    structure: Structure, slots: tuple[int, ...], lengths: tuple[int, ...], dense: tuple[bool, ...]
) -> Gathering:
    places = {slot: place for place, slot in enumerate(structure.slots)}
    taking: list[int] = []
    owners: list[int] = []
    runs: list[tuple[slice, int]] = []
    begin = 0
    for slot, length, densely in zip(slots, lengths, dense, strict=True):
        place, end = places.get(slot), begin + length
        if place is not None and densely:
            runs.append((slice(begin, end), place))
        elif place is not None:
            taking += range(begin, end)
            owners += [place] * length
        begin = end
    reach = taking[-1] + 1 if taking else 0
    per_token = structure.tiles * structure.rank
    owner = torch.tensor(owners, dtype=torch.int32).unsqueeze(1)
    # A token among the first `reach` that takes no part has empty bags: they begin where the next one's do.
    parts = torch.zeros(reach, dtype=torch.int32)
    parts[taking] = per_token
    begins = parts.cumsum(0, dtype=torch.int32) - parts
    within = torch.arange(structure.tiles, dtype=torch.int32) * structure.rank
    return Gathering(
        tokens=torch.tensor(taking) if len(taking) < begin else None,
        reach=reach,
        down_rows=(owner * structure.inner + torch.arange(structure.inner, dtype=torch.int32)).flatten(),
        down_begins=torch.arange(len(owners), dtype=torch.int32) * structure.inner,
        up_rows=(owner * per_token + torch.arange(per_token, dtype=torch.int32)).flatten(),
        up_begins=(begins.unsqueeze(1) + within * (parts > 0).unsqueeze(1)).flatten(),
        runs=tuple(runs),
    )


@dataclass(frozen=True)
class GatheredFactors:
    """One adapter's matrices for the layers of a packed group, or those of several adapters below each other.

    `down` [S x in, L x R] holds A of each layer transposed, side by side. The outputs of all layers are cut into tiles
    of one width: `up` [S x T x R, width] holds, for each tile, B transposed with alpha / r multiplied in. A layer of a
    lower rank is filled up with zeros. `columns` [T x R]: for each column that the tiles multiply, the one of A that it
    is; `None` where there is a tile for each layer. `own`: what was joined.
    """

    down: Tensor
    up: Tensor
    columns: Tensor | None
    structure: Structure
    own: "tuple[GatheredFactors, ...]" = ()

    @property
    def bytes(self) -> int:
        """What the matrices take."""
        return self.down.nbytes + self.up.nbytes

    @property
    def width(self) -> int:
        """Of the outputs of all layers together."""
        return self.structure.tiles * self.up.shape[1]

    @property
    def key(self) -> Structure:
        """What tells apart how tokens are routed to the factors."""
        return self.structure

    def to(self, device: torch.device) -> "GatheredFactors":
        """The same on `device`; nothing is copied where it is there already."""
        columns = self.columns.to(device) if self.columns is not None else None
        return replace(self, down=self.down.to(device), up=self.up.to(device), columns=columns)

    @classmethod
    def of(cls, factors: Factors) -> "GatheredFactors":
        """Copies of one adapter's factors."""
        widths = [up.shape[1] for up in factors.ups]
        rank, width = _filled_up(max(end - begin for begin, end in factors.spans), _RANKS), gcd(*widths)
        downs, ups = [], []
        for (begin, end), up in zip(factors.spans, factors.ups, strict=True):
            downs.append(_up_to(rank, factors.down[begin:end]).t())
            ups.append(_up_to(rank, up).view(rank, -1, width).transpose(0, 1))
        down, up = torch.cat(downs, dim=1), torch.cat(ups).view(-1, width)
        columns = _columns(tuple(map(len, ups)), rank)
        return cls(down, up, columns, Structure((), len(down), sum(map(len, ups)), rank))

    @classmethod
    def joined(cls, by_slot: Mapping[int, "GatheredFactors"]) -> "GatheredFactors":
        """The factors of several slots, of whatever ranks."""
        largest = max(by_slot.values(), key=lambda one: one.structure.rank)
        structure = largest.structure._replace(slots=tuple(by_slot))
        own = tuple(by_slot.values())
        filled = [one._filled(structure.rank) for one in own]
        down, up = (torch.cat(parts) if len(own) > 1 else parts[0] for parts in zip(*filled, strict=True))
        return cls(down, up, largest.columns, structure, own)

    def part(self, x: Tensor, route: Gathering) -> Tensor:
        """What the adapters add [N, sum of out] to the outputs for x [N, in]."""
        if not route.reach:
            part = x.new_zeros(len(x), self.width)
        else:
            own = x if route.tokens is None else x[route.tokens]
            hidden = self._by_tile(_bags(self.down, route.down_rows, route.down_begins, own))
            part = _up_to(len(x), _bags(self.up, route.up_rows, route.up_begins, hidden).view(route.reach, -1))
        for span, place in route.runs:
            self.own[place]._fill_in(x[span], part[span])
        return part

    def _fill_in(self, x: Tensor, part: Tensor) -> None:
        tiles, rank = self.structure.tiles, self.structure.rank
        hidden = self._by_tile(_up_to(_filled_up(len(x), _ROWS), x) @ self.down).view(-1, tiles, rank)
        product = torch.bmm(hidden.transpose(0, 1), self.up.view(tiles, rank, -1))
        part.view(len(part), tiles, -1).copy_(product[:, : len(part)].transpose(0, 1))

    def _by_tile(self, hidden: Tensor) -> Tensor:
        """What each tile multiplies [N, T x R], of what each layer gave [N, L x R]."""
        return hidden if self.columns is None else hidden.index_select(1, self.columns)

    def _filled(self, rank: int) -> tuple[Tensor, Tensor]:
        """`down` and `up`, filled up to a rank."""
        own = self.structure.rank
        if own == rank:
            return self.down, self.up
        down = F.pad(self.down.view(len(self.down), -1, own), (0, rank - own)).flatten(1)
        up = F.pad(self.up.view(-1, own, self.up.shape[-1]), (0, 0, 0, rank - own)).flatten(0, 1)
        return down, up


def _filled_up(count: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-count // step) * step


def _up_to(rows: int, part: Tensor) -> Tensor:
    """[r, n] filled up with zeros to [rows, n]."""
    return F.pad(part, (0, 0, 0, rows - len(part))) if len(part) < rows else part


@lru_cache(maxsize=32)
def _columns(tiles: tuple[int, ...], rank: int) -> Tensor | None:
    """As `GatheredFactors.columns`, for layers of so many `tiles` each."""
    if max(tiles) == 1:
        return None
    layers = torch.arange(len(tiles)).repeat_interleave(torch.tensor(tiles))
    return (layers.unsqueeze(1) * rank + torch.arange(rank)).flatten()


def _bags(table: Tensor, rows: Tensor, begins: Tensor, weights: Tensor) -> Tensor:
    """For each bag, the sum of its rows of a table times their weights.

    Not by `functional.embedding_bag`, whose checks take as long as a bag.
    """
    return torch.embedding_bag(table, rows, begins, False, 0, False, weights.flatten())[0]

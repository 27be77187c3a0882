"""Adapters beside packed layers: each token computes with its own A and B, whoever else is in the forward.

What Punica calls a batched gather matrix-vector product (Chen et al., arXiv 2310.18547): a token is told where its
adapter's matrices lie and reads nothing of others, so an answer has the same bits alone and in company, and adapters
need not be put together for a forward. The tokens of a long prompt share theirs in dense products instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import kernels
from .loops import RANK_STEP
from .low_rank import Factors, filled_up
from .packing import PackedLinear
from .slots import BASE_SLOT

#: Tokens of a prompt from which on dense products cost less. Whoever reads it in pieces asks for the whole.
MANY_TOKENS: Final = 32

#: Rows of one dense product, the last of them nobody's where there are fewer: libraries add up the products of a row in
#: an order that depends on how many rows there are (`batch_invariance.py`), so there are always as many.
_ROWS: Final = MANY_TOKENS

Table = np.ndarray[tuple[int, int, int], np.dtype[np.int64]]
"""Where matrices lie, and their rank [groups, N, 2]."""

Runs = Sequence[tuple[slice, int]]
"""Spans of tokens that have dense products, and their slots."""


@dataclass(frozen=True)
class GatheredFactors:
    """One adapter's matrices for the layers of a packed group, one after the other in one tensor.

    `matrices`: A of each layer [L x R, in], then for each layer B transposed [R, out] with alpha / r multiplied in. A
    layer of a lower rank, or of none, is filled up with zeros.
    """

    matrices: Tensor
    inner: int
    widths: tuple[int, ...]
    rank: int

    @property
    def bytes(self) -> int:
        """What the matrices take."""
        return self.matrices.nbytes

    def to(self, device: torch.device) -> "GatheredFactors":
        """The same on `device`; nothing is copied where it is there already."""
        return replace(self, matrices=self.matrices.to(device))

    @classmethod
    def of(cls, factors: Factors) -> "GatheredFactors":
        """Copies of one adapter's factors."""
        rank = filled_up(factors.rank, RANK_STEP)
        downs = [_up_to(rank, factors.down[begin:end]) for begin, end in factors.spans]
        ups = [_up_to(rank, up) for up in factors.ups]
        matrices = torch.cat([matrix.flatten() for matrix in (*downs, *ups)])
        return cls(matrices, factors.down.shape[1], tuple(up.shape[1] for up in ups), rank)

    def add_densely(self, x: Tensor, y: Tensor) -> None:
        """Add what the adapter gives for x [N, in] to y [N, sum of out]."""
        sizes = [len(self.widths) * self.rank * self.inner, *(self.rank * width for width in self.widths)]
        down, *ups = self.matrices.split_with_sizes(sizes)
        turned = down.view(-1, self.inner).t()
        pieces = _up_to(filled_up(len(x), _ROWS), x).view(-1, _ROWS, self.inner)
        hidden = torch.cat([piece @ turned for piece in pieces.unbind()])
        parts = zip(hidden.split_with_sizes([self.rank] * len(ups), 1), ups, strict=True)
        y += torch.cat([part @ up.view(self.rank, -1) for part, up in parts], dim=1)[: len(x)]


class PackedGroup:
    """Layers that read the same input and are packed as one, with their adapters by slot."""

    def __init__(self, names: tuple[str, ...], together: PackedLinear) -> None:
        self.names: Final = names
        self.together: Final = together
        self.slots: dict[int, GatheredFactors] = {}
        self._kernels = kernels(together.dtype)
        self._widths = torch.tensor(together.widths)
        self._table = 0  # address of what `Kernels.add_low_rank` is told of each token; 0 while no adapter has a part
        self._runs: Runs = ()
        self._input: Tensor | None = None
        self._outputs: tuple[Tensor, ...] = ()

    def select(self, table: int, runs: Runs) -> None:
        """Say what the coming forward adds."""
        self._table, self._runs = table, [run for run in runs if run[1] in self.slots]
        self._input, self._outputs = None, ()

    def outputs(self, x: Tensor) -> Tensor:
        """What all layers give for x [N, in], side by side [N, sum of out]."""
        y = self.together(x)
        if self._table:
            self._add_adapters(x, y)
        return y

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """The sum of `residual`, which is of no use afterwards, and `outputs(x)`."""
        if self._table:
            self._add_adapters(x, residual)
        return self.together.added_to(residual, x)

    def output(self, x: Tensor, place: int) -> Tensor:
        """What the layer at `place` gives for x [..., in]; computed with all others when the first of them is asked."""
        if x is not self._input:
            y = self.outputs(x.reshape(-1, x.shape[-1]).contiguous()).view(*x.shape[:-1], -1)
            self._input, self._outputs = x, tuple(y.split_with_sizes(self.together.widths, dim=-1))
        output = self._outputs[place]
        if place == len(self.names) - 1:  # or its activations would stay in memory until the next forward
            self._input, self._outputs = None, ()
        return output

    def _add_adapters(self, x: Tensor, y: Tensor) -> None:
        """Add to y what the adapters add to `outputs(x)`."""
        self._kernels.add_low_rank(x, self._table, self._widths, y)
        for span, slot in self._runs:
            self.slots[slot].add_densely(x[span], y[span])


class Gathering:
    """Tells the packed groups of a base whose tokens the coming forward holds. Used by one thread."""

    def __init__(self, groups: Sequence[PackedGroup], slots: int) -> None:
        self._groups = groups
        # Of each slot and group the address of its matrices and their rank, zeros where it has none.
        self._places: Table = np.zeros((slots + 1, len(groups), 2), dtype=np.int64)
        self._told: tuple[tuple[int, ...], ...] = ()
        self._tables: Table = self._places[:0].swapaxes(0, 1)

    def write(self, slot: int) -> None:
        """Take up what the groups hold for `slot` by now."""
        for places, group in zip(self._places[slot], self._groups, strict=True):
            own = group.slots.get(slot)
            places[:] = (0, 0) if own is None else (own.matrices.data_ptr(), own.rank)
        self._tell((), self._places[:0].swapaxes(0, 1), ())

    def route(self, slots: Sequence[int], lengths: Sequence[int], many: Sequence[bool]) -> None:
        """As `SlotBank.route`."""
        told = (tuple(slots), tuple(lengths), tuple(many))
        if told == self._told:  # the same requests decode for many steps
            return
        gathered = [BASE_SLOT if densely else slot for slot, densely in zip(slots, many, strict=True)]
        runs, begin = [], 0
        for slot, length, densely in zip(slots, lengths, many, strict=True):
            if densely and slot != BASE_SLOT:
                runs.append((slice(begin, begin + length), slot))
            begin += length
        self._tell(told, self._places[np.repeat(gathered, lengths)].swapaxes(0, 1), runs)

    def _tell(self, told: tuple[tuple[int, ...], ...], tables: Table, runs: Runs) -> None:
        """`tables`: of each group and token the place of its adapter."""
        tables = np.ascontiguousarray(tables)
        dense = {slot for _, slot in runs}
        for group, table in zip(self._groups, tables, strict=True):
            adds = table.any() or not dense.isdisjoint(group.slots)
            group.select(table.ctypes.data if adds else 0, runs)
        self._told, self._tables = told, tables  # which lie where the groups look as long as they are kept


def _up_to(rows: int, part: Tensor) -> Tensor:
    """[r, n] filled up with zeros to [rows, n]."""
    return F.pad(part, (0, 0, 0, rows - len(part))) if len(part) < rows else part

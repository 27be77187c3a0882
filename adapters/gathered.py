"""Adapters beside packed layers: each token computes with its own A and B, whoever else is in the forward.

What Punica calls a batched gather matrix-vector product (Chen et al., arXiv 2310.18547): a token is told where its
adapter's matrices lie and reads nothing of others, so an answer has the same bits alone and in company, and adapters
need not be put together for a forward. So do the tokens of a prompt: matrices of rank 8 are too narrow for a library's
products, which take longer to start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from .kernels import kernels
from .loops import RANK_STEP
from .low_rank import GroupWeights, filled_up, norm_of
from .packing import PackedLinear
from .peft_files import is_finite
from .slots import BASE_SLOT

Table = np.ndarray[tuple[int, int, int], np.dtype[np.int64]]
"""By group: rows of numbers [groups, N, 2 or 3]."""


@dataclass(frozen=True)
class GatheredFactors:
    """One adapter's matrices for the layers of a packed group, one after the other in one tensor; `down_size` values
    are of A.

    `matrices`: A of each layer [L x R, in], then for each layer B transposed [R, out] with alpha / r multiplied in. A
    layer of a lower rank, or of none, is filled up with zeros.
    """

    matrices: Tensor
    rank: int
    down_size: int

    @property
    def bytes(self) -> int:
        """What the matrices take."""
        return self.matrices.nbytes

    def to(self, device: torch.device) -> "GatheredFactors":
        """The same on `device`; nothing is copied where it is there already."""
        return replace(self, matrices=self.matrices.to(device))

    @classmethod
    def of(cls, weights: GroupWeights, dtype: torch.dtype) -> "GatheredFactors":
        """Copies of an adapter's weights for a group.

        Each value is copied once, to its place, and rounded and turned on the way: a version has some hundred of these
        matrices, and is read while somebody waits for it.
        """
        layers, widths = weights.layers, weights.widths
        rank = filled_up(max(len(layer[0]) for layer in layers if layer is not None), RANK_STEP)
        sizes = [rank * weights.inner] * len(widths) + [rank * width for width in widths]
        matrices = torch.zeros(sum(sizes), dtype=dtype)
        places = [place.view(rank, -1) for place in matrices.split_with_sizes(sizes)]
        for layer, down, up in zip(layers, places, places[len(widths) :], strict=False):
            if layer is not None:
                a, b = layer
                down[: len(a)].copy_(a)
                torch.mul(b.t().float(), weights.scaling, out=up[: b.shape[1]])
        return cls(matrices, rank, sum(sizes[: len(widths)]))

    @property
    def gain(self) -> float:
        """As `Factors.gain`."""
        downs = self.matrices[: self.down_size]
        return norm_of(downs) * norm_of(self.matrices[self.down_size :])

    @property
    def finite(self) -> bool:
        """Whether every value is a finite number."""
        return is_finite(self.matrices)


class PackedGroup:
    """Layers that read the same input and are packed as one, with their adapters by slot."""

    def __init__(self, names: tuple[str, ...], together: PackedLinear) -> None:
        self.names: Final = names
        self.together: Final = together
        self.slots: dict[int, GatheredFactors] = {}
        self._kernels = kernels(together.dtype)
        self._widths = torch.tensor(together.widths)
        # Of how many tokens the coming forward is, and what `Kernels.add_low_rank` is told: the address of a table of
        # those that have an adapter, how many these are, and the sum of their ranks, 0 while no adapter has a part.
        self._tokens, self._table, self._adapted, self._ranks = 0, 0, 0, 0
        self._input: Tensor | None = None
        self._outputs: tuple[Tensor, ...] = ()

    def select(self, tokens: int, table: int, adapted: int, ranks: int) -> None:
        """Say what the coming forward of so many tokens adds."""
        self._tokens, self._table, self._adapted, self._ranks = tokens, table, adapted, ranks
        self._input, self._outputs = None, ()

    def outputs(self, x: Tensor) -> Tensor:
        """What all layers give for x [N, in], side by side [N, sum of out]."""
        y = self.together(x)
        self._add(x, y)
        return y

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """The sum of `residual`, which is of no use afterwards, and `outputs(x)`."""
        self._add(x, residual)
        return self.together.added_to(residual, x)

    def _add(self, x: Tensor, y: Tensor) -> None:
        if not self._ranks:
            return
        if len(x) != self._tokens:  # the loop would read and write beyond them
            raise ValueError(f"a forward of {len(x)} tokens, where adapters were told of {self._tokens}")
        self._kernels.add_low_rank(x, self._table, self._adapted, self._ranks, self._widths, y)

    def output(self, x: Tensor, place: int) -> Tensor:
        """What the layer at `place` gives for x [..., in]; computed with all others when the first of them is asked."""
        if x is not self._input:
            y = self.outputs(x.reshape(-1, x.shape[-1]).contiguous()).view(*x.shape[:-1], -1)
            self._input, self._outputs = x, tuple(y.split_with_sizes(self.together.widths, dim=-1))
        output = self._outputs[place]
        if place == len(self.names) - 1:  # or its activations would stay in memory until the next forward
            self._input, self._outputs = None, ()
        return output


class Gathering:
    """Tells the packed groups of a base whose tokens the coming forward holds. Used by one thread."""

    def __init__(self, groups: Sequence[PackedGroup], slots: int) -> None:
        self._groups = groups
        # Of each group and slot the address of its matrices and their rank, zeros where it has none.
        self._places: Table = np.zeros((len(groups), slots + 1, 2), dtype=np.int64)
        self._tell((), ())

    def write(self, slot: int) -> None:
        """Take up what the groups hold for `slot` by now."""
        for places, group in zip(self._places[:, slot], self._groups, strict=True):
            own = group.slots.get(slot)
            places[:] = (0, 0) if own is None else (own.matrices.data_ptr(), own.rank)
        self._tell((), ())

    def route(self, slots: Sequence[int], lengths: Sequence[int]) -> None:
        """As `SlotBank.route`."""
        if (tuple(slots), tuple(lengths)) != self._told:  # the same requests decode for many steps
            self._tell(slots, lengths)

    def _tell(self, slots: Sequence[int], lengths: Sequence[int]) -> None:
        """Give each group its table: tokens that have an adapter, where its matrices lie, and their rank."""
        slot_of = np.repeat(np.array(slots, dtype=np.int64), lengths)
        # Tokens of one adapter follow each other: who has read its matrices has them at hand for the next.
        tokens = np.argsort(slot_of, kind="stable")
        tokens = tokens[slot_of[tokens] != BASE_SLOT]
        tables = np.empty((len(self._groups), len(tokens), 3), dtype=np.int64)
        tables[..., 0] = tokens
        tables[..., 1:] = self._places[:, slot_of[tokens]]
        ranks = tables[..., 2].sum(axis=1).tolist()
        for group, table, of_group in zip(self._groups, tables, ranks, strict=True):
            group.select(len(slot_of), table.ctypes.data, len(tokens), of_group)
        # The tables lie where the groups look as long as they are kept.
        self._told, self._tables = (tuple(slots), tuple(lengths)), tables

"""What a decoding step computes between two products: norms, gates, rotation, attention, adapters.

Every token is computed by itself, so what it gets has the same bits whoever else is in the forward. All tensors are
contiguous, on the CPU and of one type; a loop reads and writes beyond them if they are not of the shapes said.
"""

import struct
import sys
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from . import loops
from .compiled import ELEMENTS
from .device import choose_device, compute_dtype
from .packing import packs

#: What a gate counts for, in products: a team is asked for from eleven tokens of the default base on.
_GATE: Final = 8


@lru_cache
def kernels(dtype: torch.dtype) -> "Kernels":
    """Those for a type, compiled when first asked for: some two seconds."""
    return Kernels(dtype)


def compile_ahead(device: str) -> None:
    """Compile what serving on the device called so will need, while something else is waited for.

    Raises:
        BaseUnavailable: there is no such device.
    """
    found = choose_device(device)
    dtype = compute_dtype(found)
    if packs(found, dtype):
        kernels(dtype)


class Kernels:
    """The loops for one type of numbers.

    What the forward hands from one to the next is looked at: `ValueError` for a tensor of another type or not
    contiguous, in which a loop would go astray.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        element = ELEMENTS[dtype]
        self._dtype = dtype
        self._normed = loops.normed_loop(element)
        self._gated = loops.gated_loop(element)
        self._rotated = loops.rotated_loop(element)
        self._attended = loops.attended_loop(element)
        self._add_low_rank = loops.add_low_rank_loop(element)

    def normed(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """RMSNorm (Zhang & Sennrich, arXiv 1910.07467) of the last dimension."""
        out = torch.empty_like(x)
        width = len(weight)
        self._normed(self._at(x), weight.data_ptr(), out.data_ptr(), x.numel() // width, width, epsilon)
        return out

    def gated(self, gate_up: Tensor) -> Tensor:
        """silu(g) u [N, w] of g and u side by side [N, 2 w] (SwiGLU, Shazeer, arXiv 2002.05202)."""
        rows, width = len(gate_up), gate_up.shape[1] // 2
        out = gate_up.new_empty(rows, width)
        self._gated(rows, (self._at(gate_up), out.data_ptr(), rows, width), _GATE * out.numel())
        return out

    def rotated(
        self, qkv: Tensor, turns: tuple[Tensor, Tensor], places: Tensor, keys: Tensor, values: Tensor, heads: int
    ) -> Tensor:
        """Turn queries and keys [N, heads + 2 kv heads, size] (RoPE, Su et al., arXiv 2104.09864) and fill the cache.

        `turns`: cosine and sine [N, size]. `places` int64 [N, 2]: row and column of each token in the cache's `keys`
        and `values` [rows, kv heads, columns, size]. Returns the queries [N, heads, size].
        """
        (tokens, _, size), kv_heads, columns = qkv.shape, keys.shape[1], keys.shape[2]
        queries = qkv.new_empty(tokens, heads, size)
        self._rotated(
            self._at(qkv), turns[0].data_ptr(), turns[1].data_ptr(), places.data_ptr(),
            queries.data_ptr(), self._at(keys), values.data_ptr(), tokens, heads, kv_heads, columns, size,
        )  # fmt: skip
        return queries

    def attended(
        self, queries: Tensor, places: Tensor, keys: Tensor, values: Tensor, scale: float, out: Tensor, seen: list[int]
    ) -> None:
        """Let the first queries [N, heads, size] look at the cache, and put what they see into `out` [N, heads, size].

        `seen`: for each of those queries how many columns of its row, of which `places` says, it sees. The work is
        shared among threads where it is much; who computes it changes no bit.
        """
        heads, (_, kv_heads, columns, size) = queries.shape[1], keys.shape
        told = (
            self._at(queries), places.data_ptr(), keys.data_ptr(), values.data_ptr(), out.data_ptr(),
            len(places), heads, kv_heads, columns, size, _bits(scale),
        )  # fmt: skip
        self._attended(len(seen) * heads, told, 2 * sum(seen) * heads * size, columns + 2 * size)

    def add_low_rank(self, x: Tensor, table: int, adapted: int, ranks: int, widths: Tensor, y: Tensor) -> None:
        """Add to y [N, width] what tokens' adapters add for x [N, in]; shared among threads as in `attended`.

        `table`: address of int64 [adapted, 3]: tokens that have an adapter, where its matrices lie, 0 if nowhere, and
        their rank; `ranks` is the sum of these. `widths` int64 [L]: the outputs of each layer. The matrices: A of all
        layers [L x R, in], then for each B transposed [R, out].
        """
        (tokens, inner), width, layers = x.shape, y.shape[1], len(widths)
        told = (self._at(x), table, widths.data_ptr(), self._at(y), tokens, adapted, inner, layers, width)
        # Each counts twice, for most of the time matrices are waited for.
        products = 2 * ranks * (layers * inner + width)
        self._add_low_rank(adapted, told, products, inner + width)

    def _at(self, tensor: Tensor) -> int:
        """Where the tensor's memory begins."""
        if tensor.dtype != self._dtype or not tensor.is_contiguous():
            raise ValueError(f"a loop for {self._dtype} got {tensor.dtype}, {tensor.shape} by {tensor.stride()}")
        return tensor.data_ptr()


@lru_cache
def _bits(value: float) -> int:
    """Those of the nearest float32."""
    return int.from_bytes(struct.pack("=f", value), sys.byteorder)

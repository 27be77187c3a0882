"""Keys and values of the running requests: one row each, rows [0, n) without holes.

Each layer has two tensors [rows, heads, columns, head size] that grow with what runs, so that the requests that decode
together are a view and no step gathers or copies a cache. When a request leaves, the last row takes its place and what
it left behind is set to zero. Hence the invariant that everything right of a row's `extent` is zero: a masked
column must not hold a NaN of a request that is gone (0 x NaN is NaN), nor anything else of it.
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor

#: Columns are added this many at least, and a quarter of what is there: growing copies the whole cache.
COLUMN_STEP: Final = 128


Columns = Mapping[int, tuple[Tensor, Tensor]]
"""Keys and values of some columns by layer, each [heads, columns, head size]."""


class RowCache:
    """The cache of all layers. Layers are made when first asked for, in the shape of the keys they are asked with."""

    def __init__(self, column_step: int = COLUMN_STEP) -> None:
        self.lengths: list[int] = []
        """Tokens of each row that count; the next one goes to this column."""
        self.extents: list[int] = []
        """Columns of each row ever written since it was entered."""
        self.moves = 0
        """How often a layer's tensors were replaced by others."""
        self._column_step = column_step
        self._columns = 0
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def bytes(self) -> int:
        """Memory held, touched or not."""
        return sum(tensor.nbytes for pair in self._layers.values() for tensor in pair)

    @property
    def settled(self) -> bool:
        """Whether the next forward writes to the tensors that are there: none has to grow for what is announced."""
        return bool(self._layers) and all(self._fits(keys) for keys, _ in self._layers.values())

    @property
    def columns(self) -> int:
        """Columns that every layer has, or is going to have when it is next asked for."""
        return self._columns

    def enter(self) -> int:
        """Add an empty row at the end and return its index."""
        self.lengths.append(0)
        self.extents.append(0)
        return len(self.lengths) - 1

    def reserve(self, row: int, columns: int) -> None:
        """Announce that columns up to `columns` of `row` will be written. Layers grow when they are next asked for."""
        self.extents[row] = max(self.extents[row], columns)
        if columns > self._columns:
            grown = max(columns, self._columns + self._columns // 4)
            self._columns = -(-grown // self._column_step) * self._column_step

    def layer(self, index: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, each [rows or more, heads, columns or more, head size].

        `like` [1, heads, T, head size] are keys that will be written.
        """
        held = self._layers.get(index)
        if held is not None and self._fits(held[0]):
            return held
        rows, columns = (held[0].shape[0], held[0].shape[2]) if held is not None else (0, 0)
        rows = rows if rows >= len(self) else max(len(self), 2 * rows)
        shape = (rows, like.shape[1], max(columns, self._columns), like.shape[3])
        # zeros, because of the invariant; on a CPU they cost memory only where they are written
        grown = (like.new_zeros(shape), like.new_zeros(shape))
        if held is not None:
            for old, new in zip(held, grown, strict=True):
                for row in range(min(old.shape[0], len(self))):
                    extent = min(self.extents[row], old.shape[2])
                    new[row, :, :extent] = old[row, :, :extent]
        self._layers[index] = grown
        self.moves += 1
        return grown

    def save(self, row: int, columns: int) -> Columns:
        """A copy of the first `columns` of a row."""
        return {
            index: (keys[row, :, :columns].clone(), values[row, :, :columns].clone())
            for index, (keys, values) in self._layers.items()
        }

    def load(self, row: int, saved: Columns, columns: int) -> None:
        """Let an empty row begin with the first `columns` of what was saved."""
        self.reserve(row, columns)
        for index, sides in saved.items():
            for held, side in zip(self.layer(index, sides[0][None]), sides, strict=True):
                held[row, :, :columns] = side[:, :columns]
        self.lengths[row] = columns

    def retract(self, row: int) -> None:
        """Forget what was written to a row beyond what counts."""
        length, extent = self.lengths[row], self.extents[row]
        if extent > length:
            for tensor in self._tensors():
                tensor[row, :, length:extent] = 0
            self.extents[row] = length

    def swap(self, one: int, other: int) -> None:
        """Exchange two rows."""
        extent = max(self.extents[one], self.extents[other])
        for tensor in self._tensors():
            held = tensor[one, :, :extent].clone()
            tensor[one, :, :extent] = tensor[other, :, :extent]
            tensor[other, :, :extent] = held
        for counts in (self.lengths, self.extents):
            counts[one], counts[other] = counts[other], counts[one]

    def copy(self, source: int, target: int) -> None:
        """Write `source` over `target`."""
        if source == target:
            return
        extent = max(self.extents[source], self.extents[target])
        for tensor in self._tensors():
            if target < tensor.shape[0]:
                # a row beyond the tensor was never written to
                tensor[target, :, :extent] = tensor[source, :, :extent] if source < tensor.shape[0] else 0
        self.lengths[target] = self.lengths[source]
        self.extents[target] = self.extents[source]

    def drop(self, row: int) -> None:
        """Take a row out: the last one takes its place, and where that stood becomes zero."""
        last = len(self) - 1
        self.copy(last, row)
        for tensor in self._tensors():
            if last < tensor.shape[0]:
                tensor[last, :, : self.extents[last]] = 0
        self.lengths.pop()
        self.extents.pop()

    def release(self) -> None:
        """Give the memory back; only an empty cache can."""
        if self.lengths:
            raise ValueError(f"the cache holds {len(self)} rows")
        self._layers.clear()
        self._columns = 0
        self.moves += 1

    def _fits(self, held: Tensor) -> bool:
        return held.shape[0] >= len(self) and held.shape[2] >= self._columns

    def _tensors(self) -> list[Tensor]:
        return [tensor for pair in self._layers.values() for tensor in pair]

"""Adapters beside layers that are not packed, for steps with prompts: each adapter multiplies its own tokens alone.

Masked dense products (`low_rank.py`) compute every adapter for every token, which costs nothing for a token each of a
few requests and as much as the base itself for thousands of tokens and dozens of adapters. Tokens of one request lie
one after the other, as those of one expert do in a mixture of experts, and torch has a product for such runs: one
kernel for all adapters (`torch.nn.functional.grouped_mm`), for bfloat16 on CUDA from compute capability 9 on. Elsewhere
torch takes the runs one by one and makes the processor wait for the GPU, so masked products stay.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from .low_rank import Factors, filled_up
from .slot_layers import SlotGroup
from .slots import BASE_SLOT

_log = logging.getLogger(__name__)

#: Rows of matrices begin at multiples of 16 bytes, as the kernel wants them: of so many values of 2 bytes.
_STEP: Final = 8

#: Tokens from which on a prompt has a product of its own. Whoever reads it in pieces asks for the whole.
MANY_TOKENS: Final = 32

_LEAST_CAPABILITY: Final = (9, 0)


@dataclass(frozen=True)
class TokenRuns:
    """Tokens of one adapter after the other, both tensors on the device.

    Run i ends before token `ends[i]` (int32) and is of the adapter that was stacked at `which[i]` (int64).
    """

    ends: Tensor
    which: Tensor


@dataclass(frozen=True)
class StackedFactors:
    """The matrices of several adapters for the layers of a group, one behind the other, the first of them nothing.

    `down` [S, layers x r, in] has the rows of A, layer after layer; `ups[j]` [S, r, out_j] is B transposed, with
    alpha / r multiplied in. Lower ranks are filled up with zeros.
    """

    down: Tensor
    ups: tuple[Tensor, ...]

    @classmethod
    def of(cls, factors: Sequence[Factors | None]) -> "StackedFactors | None":
        """Those of several slots, in their order, after an adapter that adds nothing; None if none adds anything."""
        known = [one for one in factors if one is not None]
        if not known:
            return None
        first = known[0]
        rank = filled_up(max(one.rank for one in known), _STEP)
        down = first.down.new_zeros(1 + len(factors), len(first.spans), rank, first.down.shape[1])
        ups = tuple(up.new_zeros(1 + len(factors), rank, up.shape[1]) for up in first.ups)
        for place, own in enumerate(factors, 1):
            if own is None:
                continue
            for layer, (begin, end) in enumerate(own.spans):
                down[place, layer, : end - begin] = own.down[begin:end]
                ups[layer][place, : end - begin] = own.ups[layer]
        return cls(down.flatten(1, 2), ups)

    @property
    def rank(self) -> int:
        """Of each adapter."""
        return self.ups[0].shape[1]


@dataclass(frozen=True)
class GroupedPart:
    """What adapters add to a group of layers, run by run."""

    factors: StackedFactors
    runs: TokenRuns

    def hidden(self, x: Tensor) -> Tensor:
        """A x of all layers [N, layers x r] for x [..., in]."""
        down = self.factors.down
        x = x.reshape(-1, x.shape[-1]).to(down.dtype)
        return F.grouped_mm(x, down[self.runs.which].transpose(1, 2), offs=self.runs.ends)

    def add_up(self, hidden: Tensor, y: Tensor, place: int) -> None:
        """Add B of the layer at `place` times `hidden` to its output y [N, out], in place."""
        rank, up = self.factors.rank, self.factors.ups[place]
        own = hidden[:, place * rank : (place + 1) * rank]
        y += F.grouped_mm(own, up[self.runs.which], offs=self.runs.ends).to(y.dtype)


class Grouping:
    """Tells groups of layers whose tokens the coming forward holds. Used by one thread.

    The adapters that were stacked last are kept: a prompt that is read in several steps needs the same ones.
    """

    def __init__(self, groups: Sequence[SlotGroup], device: torch.device) -> None:
        self._groups = groups
        self._device = device
        self._slots: tuple[int, ...] = ()
        self._stacked: list[StackedFactors | None] = [None] * len(groups)

    def forget(self, slot: int) -> None:
        """The adapter in `slot` is another one, or none, by now."""
        if slot in self._slots:
            self._slots, self._stacked = (), [None] * len(self._groups)

    def route(self, slots: Sequence[int], lengths: Sequence[int]) -> None:
        """As `SlotBank.route`."""
        needed = set(slots) - {BASE_SLOT}
        if not needed.issubset(self._slots) or len(self._slots) > 2 * len(needed):
            self._slots = tuple(sorted(needed))
            self._stacked = [
                StackedFactors.of([group.slots.get(slot) for slot in self._slots]) for group in self._groups
            ]
        runs = self._runs(slots, lengths)
        for group, factors in zip(self._groups, self._stacked, strict=True):
            group.select(None if factors is None else GroupedPart(factors, runs))

    def _runs(self, slots: Sequence[int], lengths: Sequence[int]) -> TokenRuns:
        which, ends, end = [], [], 0
        for slot, same in groupby(zip(slots, lengths, strict=True), key=lambda one: one[0]):
            end += sum(length for _, length in same)
            ends.append(end)
            which.append(0 if slot == BASE_SLOT else 1 + self._slots.index(slot))
        return TokenRuns(
            torch.tensor(ends, dtype=torch.int32).to(self._device, non_blocking=True),
            torch.tensor(which).to(self._device, non_blocking=True),
        )


def pays(device: torch.device, dtype: torch.dtype, shapes: Iterable[tuple[int, int]]) -> bool:
    """Whether grouped products are one kernel on this device for layers of such (in, out), and right.

    Where they are wrong or fail the log says so.
    """
    if device.type != "cuda" or dtype != torch.bfloat16 or any(size % _STEP for shape in shapes for size in shape):
        return False
    if torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return False
    try:
        wrong = None if computes_rightly(device, dtype) else "they give something else"
    except RuntimeError as failure:
        wrong = str(failure)
    if wrong is not None:
        _log.warning("grouped products are not used, so prompts of many adapters take longer: %s", wrong)
    return wrong is None


def computes_rightly(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether two adapters of two layers, in runs of many lengths, give what each gives alone."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    adapters = [
        Factors(drawn(8 + rank, 64), (drawn(8, 48), drawn(rank, 128)), ((0, 8), (8, 8 + rank))) for rank in (8, 3)
    ]
    runs = [(1, 1), (0, 5), (2, 200), (1, 64), (2, 1)]  # of which adapter, 0 for none, and how many tokens
    lengths = [length for _, length in runs]
    ends = torch.tensor(lengths).cumsum(0).to(device, torch.int32)
    stacked = StackedFactors.of(adapters)
    assert stacked is not None
    part = GroupedPart(stacked, TokenRuns(ends, torch.tensor([which for which, _ in runs]).to(device)))
    with torch.inference_mode():
        x = drawn(sum(lengths), 64)
        hidden = part.hidden(x)
        for place, width in enumerate((48, 128)):
            found, expected = (torch.zeros(len(x), width, dtype=dtype, device=device) for _ in range(2))
            part.add_up(hidden, found, place)
            pieces = zip(runs, x.split_with_sizes(lengths), expected.split_with_sizes(lengths), strict=True)
            for (which, _), tokens, y in pieces:
                if which:
                    own = adapters[which - 1]
                    own.add_up(own.hidden(tokens, None), y, place)
            if not (found - expected).float().norm() <= 0.01 * expected.float().norm():
                return False
    return True

"""What weights lose on rows that the optimizer does not see, and whether other weights are better beyond chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean, variance

import torch
from torch import nn

from .batches import TOKENS_AT_ONCE, Decode, collate, per_token_losses
from .lessons import Rows
from .parallel import each, shared_out, threads_for
from .template import Encoded


@dataclass(frozen=True)
class Look:
    """The loss of each validation row, in nats per completion token, with some weights: `new` ones of the drop, and
    `kept` ones of earlier drops, which count for `rho` of the whole.
    """

    new: tuple[float, ...]
    kept: tuple[float, ...]
    rho: float

    @property
    def loss(self) -> float:
        """The weighted mean, which decides when to stop and which weights are kept; 0 without rows."""
        return sum(share * fmean(losses) for share, losses in self._strata())

    def beats(self, other: "Look") -> bool:
        """Whether this loss is lower than the `other`'s, on the same rows, by more than its standard error.

        A drop has few validation rows, and of many looks the lowest is so by chance: therefore the rule of one standard
        error (Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3), here of the paired
        differences, row by row. Of one row nothing can be told, and the lower loss counts.
        """
        error = 0.0
        for (share, ours), (_, theirs) in zip(self._strata(), other._strata(), strict=True):
            if len(ours) > 1:
                changes = [a - b for a, b in zip(ours, theirs, strict=True)]
                error += share**2 * variance(changes) / len(changes)
        return self.loss < other.loss - math.sqrt(error)

    def _strata(self) -> list[tuple[float, tuple[float, ...]]]:
        rho = self.rho if self.kept else 0.0
        return [(share, losses) for share, losses in ((1 - rho, self.new), (rho, self.kept)) if losses]


def look(model: nn.Module, rows: Rows, rho: float, decode: Decode | None) -> Look:
    """A look at the validation rows with the weights that `model` has.

    Without rows of the drop there is nothing to see: by earlier drops' alone no weights are better than the champion's.
    """
    looked_at = (rows.validation, rows.kept) if rows.validation else ((), ())
    new, kept = (tuple(row_losses(model, some, decode)) for some in looked_at)
    return Look(new, kept, rho)


def validation_loss(model: nn.Module, rows: Sequence[Encoded], decode: Decode | None = None) -> float:
    """Mean over `rows` of the loss per completion token, in nats; NaN-free: 0 rows give 0."""
    return sum(row_losses(model, rows, decode)) / len(rows) if rows else 0.0


def row_losses(model: nn.Module, rows: Sequence[Encoded], decode: Decode | None = None) -> list[float]:
    """The loss of each of `rows` per completion token, in nats, without dropout."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device

    @torch.inference_mode()
    def losses(group: list[int]) -> list[float]:
        return per_token_losses(model, collate([rows[index] for index in group], device), decode).tolist()

    threads = threads_for(device)
    groups = shared_out(rows, threads, 4 * TOKENS_AT_ONCE)
    found = dict(zip(chain.from_iterable(groups), chain.from_iterable(each(losses, groups, threads)), strict=True))
    model.train(was_training)
    return [found[index] for index in range(len(rows))]

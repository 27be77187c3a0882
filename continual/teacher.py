"""What a model said of rows before a training: kept small, to hold the trained one against it.

Of each completion position the `LIKELIEST` tokens and their log-probabilities are kept, and the rest of the vocabulary
counts as one more token. The divergence between two models' distributions so coarsened is a lower bound of that between
the whole ones (data processing inequality; Cover & Thomas 2006, theorem 2.8.1) and within a percent or two of it, at a
two-thousandth of the memory.

Distillation of a model into its successor: Hinton et al. 2015, arXiv:1503.02531; against forgetting: Li & Hoiem 2016
("Learning without Forgetting"), arXiv:1606.09282. A teacher that is wrong misleads, so it is followed as far as it is
right, `Taught.trust` (Meng et al. 2019, "Conditional Teacher-Student Learning", arXiv:1904.12399: only where it is).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import torch
from torch import Tensor, nn

from .batches import TOKENS_AT_ONCE, Decode, collate, completion_logits, losses_by_row
from .parallel import each, shared_out, threads_for
from .template import Encoded

LIKELIEST: Final = 20

_SMALLEST: Final = 1e-6  # probability of the rest: below it a logarithm says nothing in float32


@dataclass(frozen=True)
class Soft:
    """Of one row, for its n completion tokens: `tokens` int64 [n, k] and their `log_p` float32 [n, k], in nats."""

    tokens: Tensor
    log_p: Tensor


@dataclass(frozen=True)
class Taught:
    """A row, and what a teacher said of it. `loss`: of the row's own completion, in nats per token; 0 if not asked."""

    row: Encoded
    soft: Soft
    loss: float = 0.0

    @property
    def trust(self) -> float:
        """How far the teacher is to be followed: the geometric mean of what it gives the tokens of the completion."""
        return math.exp(-self.loss)


def teach(model: nn.Module, rows: Sequence[Encoded], decode: Decode | None = None) -> list[Taught]:
    """`rows` with what `model` says of them now."""
    if not rows:
        return []
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device

    @torch.no_grad()
    def said(group: list[int]) -> list[tuple[int, Taught]]:
        batch = collate([rows[index] for index in group], device)
        logits, targets, row_of = completion_logits(model, batch, decode)
        losses = (losses_by_row(logits, targets, row_of, batch.rows) / batch.completion_tokens).tolist()
        log_p, tokens = logits.log_softmax(-1).topk(LIKELIEST, dim=-1)
        return [
            (index, Taught(rows[index], Soft(tokens[row_of == place], log_p[row_of == place]), losses[place]))
            for place, index in enumerate(group)
        ]

    threads = threads_for(device)
    taught = dict(chain.from_iterable(each(said, shared_out(rows, threads, 4 * TOKENS_AT_ONCE), threads)))
    model.train(was_training)
    return [taught[index] for index in range(len(rows))]


def divergence(soft: Soft, logits: Tensor) -> Tensor:
    """KL(teacher || student) at each of n positions, in nats: float32 [n]; `logits` [n, vocabulary] the student's."""
    normalizer = logits.logsumexp(-1, keepdim=True)
    student = logits.gather(-1, soft.tokens) - normalizer
    rest_teacher = (1 - soft.log_p.exp().sum(-1)).clamp_min(_SMALLEST)
    rest_student = (1 - student.exp().sum(-1)).clamp_min(_SMALLEST)
    likeliest = (soft.log_p.exp() * (soft.log_p - student)).sum(-1)
    return likeliest + rest_teacher * (rest_teacher.log() - rest_student.log())

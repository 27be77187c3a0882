"""Rows of token ids made into padded tensors, and the loss of a batch on its completion tokens only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, cast

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn

from .template import Encoded

# Tokens that go through the model at once where gradients are kept: each LoRA layer keeps its inputs until the backward
# pass, measured as some 2 MB a token for a base of 135M parameters, so this bounds memory whatever the rows' length.
TOKENS_AT_ONCE = 1024

# Tokens of padding that cost as much as another pass forward and backward with its fixed costs.
_PADDING_WORTH_A_PASS = 96

Decode = Callable[[Tensor, Tensor], Tensor]
"""From ids and mask, int64 [rows, tokens], to last hidden states [rows, tokens, width]."""

# Rows are sorted by length within windows of this many batches: little padding, and the order stays nearly random.
_WINDOW = 8


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right to the longest.

    `ids`, `mask`: int64 [rows, tokens]; `targets`: int64 [rows, tokens], the next token where it belongs to the
    completion, else -100. `tokens`: how many ids are not padding.
    """

    ids: Tensor
    mask: Tensor
    targets: Tensor
    tokens: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.ids.shape[0]

    @property
    def completion_tokens(self) -> Tensor:
        """How many targets each row has: int64 [rows]."""
        return (self.targets != -100).sum(1)


def collate(rows: Sequence[Encoded], device: torch.device | str = "cpu") -> Batch:
    """One batch of `rows`, which must not be empty."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros(len(rows), width, dtype=torch.int64)
    targets = torch.full((len(rows), width), -100, dtype=torch.int64)
    for index, row in enumerate(rows):
        tokens = torch.tensor([*row.prompt_ids, *row.completion_ids])
        first = max(len(row.prompt_ids), 1)  # nothing predicts the very first token
        ids[index, : len(tokens)] = tokens
        mask[index, : len(tokens)] = 1
        targets[index, first - 1 : len(tokens) - 1] = tokens[first:]
    total = int(mask.sum())
    return Batch(ids.to(device), mask.to(device), targets.to(device), total)


def completion_losses(model: nn.Module, batch: Batch, decode: Decode | None = None) -> Tensor:
    """Negative log-likelihood of each row's completion, summed over its tokens: float32 [rows], in nats.

    The vocabulary-wide product is made for completion positions only: with short answers it is most of the cost
    of the head that is saved. `decode` stands for the model's own stack of layers where it has a quicker way.
    """
    logits, targets, row_of = completion_logits(model, batch, decode)
    return losses_by_row(logits, targets, row_of, batch.rows)


def per_token_losses(model: nn.Module, batch: Batch, decode: Decode | None = None) -> Tensor:
    """The same per completion token: float32 [rows], in nats."""
    return completion_losses(model, batch, decode) / batch.completion_tokens


def completion_logits(model: nn.Module, batch: Batch, decode: Decode | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(logits float32 [n, vocabulary], targets [n], row of each [n]) at the n positions that predict completion tokens.

    They lie row after row, and within a row in the order of the text.
    """
    decoder, head = decoder_and_head(model)
    hidden = decode(batch.ids, batch.mask) if decode else run_decoder(decoder, batch.ids, batch.mask)
    wanted = batch.targets != -100
    rows = torch.arange(batch.rows, device=wanted.device)[:, None].expand_as(wanted)[wanted]
    return head(hidden[wanted]).float(), batch.targets[wanted], rows


def losses_by_row(logits: Tensor, targets: Tensor, row_of: Tensor, rows: int) -> Tensor:
    """What `completion_logits` gives as the loss of each row, summed over its tokens: float32 [rows], in nats."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    return torch.zeros(rows, device=losses.device).index_add(0, row_of, losses)


def run_decoder(decoder: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Last hidden states [rows, tokens, width] of a stack of layers; `ids` and `mask` int64 [rows, tokens]."""
    hidden: Tensor = decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return hidden


def decoder_and_head(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The stack of layers below the vocabulary product, and that product, of a (PEFT-wrapped) transformers model."""
    inner = cast(Any, model.get_base_model() if isinstance(model, PeftModel) else model)
    return inner.get_decoder(), inner.get_output_embeddings()


def token_groups(rows: Sequence[Encoded], most: int = TOKENS_AT_ONCE) -> list[list[int]]:
    """Indices of `rows` in groups of at most `most` tokens, padding included, neighbours in length together.

    A row that is longer than `most` makes a group of its own, and so do rows beside which the shorter ones before them
    would be padded by more than another pass costs.
    """
    groups: list[list[int]] = []
    width = 0
    for index in sorted(range(len(rows)), key=lambda at: len(rows[at])):
        # Rows come in growing length, so this one sets the width of its group.
        length, held = len(rows[index]), len(groups[-1]) if groups else 0
        if groups and (held + 1) * length <= most and held * (length - width) <= _PADDING_WORTH_A_PASS:
            groups[-1].append(index)
        else:
            groups.append([index])
        width = length
    return groups


def epoch_order(rows: Sequence[Encoded], size: int, seed: int) -> list[list[int]]:
    """One pass over `rows` in shuffled batches of `size` indices, the same for the same `seed`."""
    random = Random(seed)  # noqa: S311 - reproducible order, not secrecy
    shuffled = list(range(len(rows)))
    random.shuffle(shuffled)
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), size * _WINDOW):
        window = sorted(shuffled[start : start + size * _WINDOW], key=lambda index: len(rows[index]))
        batches += [window[at : at + size] for at in range(0, len(window), size)]
    random.shuffle(batches)
    return batches

"""Log-likelihood of given continuations, the prompt computed once.

A prompt and its continuations c1, c2, ... are laid out as one row, `[prompt, c1, c2, ...]`, in which a
continuation sees the prompt and itself but none of its siblings, and every continuation starts at the position
after the prompt. This is the tree attention of SpecInfer (Miao et al., arXiv 2305.09781), for a tree of depth
one. A row of 40 prompt tokens and 20 labels of 2 tokens costs 60 tokens instead of 840.

The last token of a continuation is predicted but never read, so it is not part of the row.

`score_choices` serves any causal language model that takes a 4D attention mask (a trainer's PEFT model among
them); the engine lays the same `Tree` into its own cache.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

#: Tokens of one padded forward. Beyond it a CPU gains nothing and a mask of T x T per row starts to cost.
TOKEN_BUDGET = 2048

#: Positions that go through the output head at once: 128 x 50,000 logits in fp32 are 25 MB.
HEAD_CHUNK = 128

_PROMPT = -1
_PADDING = -2


@dataclass(frozen=True)
class Tree:
    """The tokens `[prompt from start, c1 less its last, c2 less its last, ...]` and how they hang together.

    `positions[i]` is a token's position in its own text and `branch[i]` the index of its continuation, -1 for the
    prompt. `sources` lists the places (indices into `tokens`) whose next-token distribution is needed; a target
    `(k, token, c)` adds log p(token) at `sources[k]` to the score of continuation `c`.
    """

    tokens: list[int]
    positions: list[int]
    branch: list[int]
    sources: list[int]
    targets: list[tuple[int, int, int]]

    @classmethod
    def grow(cls, prompt: Sequence[int], continuations: Sequence[Sequence[int]], start: int = 0) -> "Tree":
        """Lay out a prompt whose first `start` tokens are computed already; its last token never is.

        Raises `ValueError` for an empty prompt or continuation, or a `start` that leaves no prompt token.
        """
        if not 0 <= start < len(prompt):
            raise ValueError(f"a tree needs at least one prompt token: {len(prompt)} given, {start} computed")
        tokens, positions = list(prompt[start:]), list(range(start, len(prompt)))
        branch = [_PROMPT] * len(tokens)
        root = len(tokens) - 1
        sources, targets = [root], []
        for index, continuation in enumerate(continuations):
            if not continuation:
                raise ValueError(f"continuation {index} is empty")
            source = 0
            for depth, token in enumerate(continuation):
                targets.append((source, token, index))
                if depth + 1 < len(continuation):
                    source = len(sources)
                    sources.append(len(tokens))
                    tokens.append(token)
                    positions.append(len(prompt) + depth)
                    branch.append(index)
        return cls(tokens, positions, branch, sources, targets)

    def __len__(self) -> int:
        return len(self.tokens)


def visible(branch: Tensor) -> Tensor:
    """Which token sees which: `branch` int64 [..., T] to bool [..., T, T], query first.

    A token sees what stands at or before it in the prompt and in its own branch. Padding (branch -2) sees the
    prompt too, so that no row of the softmax is empty.
    """
    here, there = branch.unsqueeze(-1), branch.unsqueeze(-2)
    order = torch.ones(branch.shape[-1], branch.shape[-1], dtype=torch.bool, device=branch.device).tril_()
    return order & ((there == _PROMPT) | (there == here))


def log_likelihoods(
    hidden: Tensor, head: Callable[[Tensor], Tensor], targets: Sequence[tuple[int, int, int]], outputs: int
) -> list[float]:
    """Sum log p(token) over targets `(row of hidden, token, output)`, in nats.

    `hidden` [M, d] are the last hidden states of the sources, `head` maps them to logits [M, V]. Softmax in fp32,
    the sum in fp64.
    """
    totals = torch.zeros(outputs, dtype=torch.float64, device=hidden.device)
    for met in _meet(hidden, head, targets):
        totals.index_add_(0, met.outputs, met.log_p.double())
    return [float(total) for total in totals.tolist()]


def follow(
    hidden: Tensor, head: Callable[[Tensor], Tensor], targets: Sequence[tuple[int, int, int]], outputs: int
) -> tuple[list[float], list[bool]]:
    """The same, and of each output whether every one of its tokens is the likeliest at its place: then it is what
    greedy decoding writes.
    """
    totals = torch.zeros(outputs, dtype=torch.float64, device=hidden.device)
    strayed = torch.zeros(outputs, dtype=torch.int64, device=hidden.device)
    for met in _meet(hidden, head, targets):
        totals.index_add_(0, met.outputs, met.log_p.double())
        strayed.index_add_(0, met.outputs, (met.logits < met.all_logits.amax(dim=-1)[met.rows]).long())
    return [float(total) for total in totals.tolist()], [not count for count in strayed.tolist()]


class _Met(NamedTuple):
    """Targets whose source is among the rows of `all_logits` [rows, V]: of each its row there, output, logit, log p."""

    rows: Tensor
    outputs: Tensor
    logits: Tensor
    log_p: Tensor
    all_logits: Tensor


def _meet(hidden: Tensor, head: Callable[[Tensor], Tensor], targets: Sequence[tuple[int, int, int]]) -> Iterator[_Met]:
    """The targets, by as many rows of `hidden` as go through the head at once."""
    table = torch.tensor(targets, dtype=torch.int64, device=hidden.device).reshape(-1, 3)
    rows, tokens, outputs = table.unbind(dim=1)
    for begin in range(0, hidden.shape[0], HEAD_CHUNK):
        logits = head(hidden[begin : begin + HEAD_CHUNK]).float()
        here = (rows >= begin) & (rows < begin + HEAD_CHUNK)
        local = rows[here] - begin
        reached = logits[local, tokens[here]]
        yield _Met(local, outputs[here], reached, reached - logits.logsumexp(dim=-1)[local], logits)


@torch.inference_mode()
def score_choices(
    model: Any,
    items: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]],
    route: Callable[[Sequence[int], int], None] | None = None,
    *,
    token_budget: int = TOKEN_BUDGET,
) -> list[list[float]]:
    """Log-likelihood in nats of each continuation of each `(prompt, continuations)`, summed over its tokens.

    `model` is a causal language model of transformers with sdpa or eager attention, or a PEFT model around one, in
    evaluation mode (the caller's duty: dropout would make scores random). Items of like length share a forward
    of at most `token_budget` tokens, padding included; a longer item gets a forward of its own. `route(indices,
    length)` is called before each forward with the items in it and the length they are padded to.

    Raises `ValueError` for an empty prompt or continuation.
    """
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    embedding = model.get_input_embeddings().weight
    device, dtype = embedding.device, embedding.dtype
    trees = [Tree.grow(prompt, continuations) for prompt, continuations in items]
    scores: list[list[float]] = [[] for _ in items]
    for batch in batches([len(tree) for tree in trees], token_budget):
        length = max(len(trees[index]) for index in batch)
        if route is not None:
            route(batch, length)
        grown = [trees[index] for index in batch]
        branch = padded([tree.branch for tree in grown], length, _PADDING).to(device)
        # Additive, because eager attention knows no boolean masks.
        mask = torch.zeros(len(batch), 1, length, length, dtype=dtype, device=device)
        mask.masked_fill_(~visible(branch).unsqueeze(1), torch.finfo(dtype).min)
        hidden = decoder(
            input_ids=padded([tree.tokens for tree in grown], length, 0).to(device),
            position_ids=padded([tree.positions for tree in grown], length, 0).to(device),
            attention_mask=mask,
            use_cache=False,
        ).last_hidden_state

        sources: list[int] = []
        targets: list[tuple[int, int, int]] = []
        outputs = [(index, c) for index in batch for c in range(len(items[index][1]))]
        seen = 0
        for row, (index, tree) in enumerate(zip(batch, grown, strict=True)):
            targets += [(len(sources) + k, token, seen + c) for k, token, c in tree.targets]
            sources += [row * length + source for source in tree.sources]
            seen += len(items[index][1])
        picked = hidden.flatten(0, 1)[torch.tensor(sources, device=device)]
        totals = log_likelihoods(picked, head, targets, len(outputs))
        for (index, _), total in zip(outputs, totals, strict=True):
            scores[index].append(total)
    return scores


def padded(rows: Sequence[Sequence[int]], length: int, fill: int) -> Tensor:
    """`rows` filled up on the right: int64 [rows, length]."""
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows], dtype=torch.int64)


def batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group indices, longest first, so that no group padded to its longest exceeds the budget (or it is alone)."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        group = groups[-1] if groups else []
        if group and lengths[group[0]] * (len(group) + 1) <= token_budget:
            group.append(index)
        else:
            groups.append([index])
    return groups

"""Whether the right answer of a row is the likeliest of many, without computing the others.

An answer is never likelier than its own beginning: each further token multiplies its probability by at most one. One
forward of `[prompt, right answer]` gives the right answer's log-likelihood, and at each of its tokens the
log-probability of leaving it for another answer; the sum up to there bounds that answer from above. Answers whose
bound is not above the right one's score need no forward of their own. What is left is scored, the most promising
answer first, as it mostly decides, then the next four, and so on. The outcome is that of scoring all answers
(`score_choices`); the cost is that of the right one and, where a model hesitates, of a few more, however many labels
there are.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .scoring import TOKEN_BUDGET, batches, follow, padded, score_choices

Item = tuple[Sequence[int], Sequence[int], Sequence[Sequence[int]]]
"""Token ids of a prompt, of its right answer, and of all other answers."""

Decode = Callable[[Tensor, Tensor], Tensor]
"""From ids and mask, int64 [rows, tokens], to last hidden states [rows, tokens, width]."""


# How many times as many answers are scored at each further try: the prompt is read anew for each.
_MORE_AT_ONCE = 4


class Judged(NamedTuple):
    """`score`: log-likelihood of the right answer in nats. `best`: no other answer's is higher. `exact`: the right
    answer is what greedy decoding writes, token by token.
    """

    score: float
    best: bool
    exact: bool


def judge_right(
    model: Any, items: Sequence[Item], *, decode: Decode | None = None, token_budget: int = TOKEN_BUDGET
) -> list[Judged]:
    """Judge the right answer of each item. `model` and errors as in `score_choices`.

    `decode` stands for the model's own stack of layers, where rows met before have a quicker way.
    """
    found, exact = _right_and_bounds(model, items, decode or _decoder_of(model), token_budget)
    scores = [row[0] for row in found]
    # For each item the answers that may still be likelier, most promising first.
    open_still = [
        sorted((place for place, bound in enumerate(row[1:]) if bound > row[0]), key=lambda place: -row[1 + place])
        for row in found
    ]
    lost = [False] * len(items)
    at_once = 1
    while any(open_still):
        beaten = _beaten(model, items, scores, [places[:at_once] for places in open_still], token_budget)
        lost = [before or now for before, now in zip(lost, beaten, strict=True)]
        open_still = [[] if gone else places[at_once:] for gone, places in zip(lost, open_still, strict=True)]
        at_once *= _MORE_AT_ONCE
    return [Judged(score, not gone, written) for score, gone, written in zip(scores, lost, exact, strict=True)]


@torch.inference_mode()
def _right_and_bounds(
    model: Any, items: Sequence[Item], decode: Decode, token_budget: int
) -> tuple[list[list[float]], list[bool]]:
    """For each item the log-likelihood of its right answer, and after it a bound from above for each other answer; and
    for each item whether greedy decoding writes the right answer.
    """
    head, device = model.get_output_embeddings(), model.get_input_embeddings().weight.device
    found: list[list[float]] = [[] for _ in items]
    exact = [False] * len(items)
    # The last token of an answer is predicted but never read.
    rows = [[*prompt, *right[:-1]] for prompt, right, _ in items]
    if not all(prompt and right and all(others) for prompt, right, others in items):
        raise ValueError("a prompt or an answer is empty")
    for batch in batches([len(row) for row in rows], token_budget):
        length = max(len(rows[index]) for index in batch)
        ids = padded([rows[index] for index in batch], length, 0).to(device)
        mask = padded([[1] * len(rows[index]) for index in batch], length, 0).to(device)
        hidden = decode(ids, mask).flatten(0, 1)

        sources: list[int] = []
        targets: list[tuple[int, int, int]] = []
        owners: list[int] = []
        for row, index in enumerate(batch):
            prompt, right, others = items[index]
            paths = [[(depth, token) for depth, token in enumerate(right)], *(_bound(right, other) for other in others)]
            for path in paths:
                targets += [(len(sources) + depth, token, len(owners)) for depth, token in path]
                owners.append(index)
            sources += [row * length + len(prompt) - 1 + depth for depth in range(len(right))]
        picked = hidden[torch.tensor(sources, device=device)]
        totals, greedy = follow(picked, head, targets, len(owners))
        for index, total, written in zip(owners, totals, greedy, strict=True):
            if not found[index]:  # the right answer stands before the bounds
                exact[index] = written
            found[index].append(total)
    return found, exact


def _bound(right: Sequence[int], other: Sequence[int]) -> list[tuple[int, int]]:
    """(place, token) of the other answer up to and with the token by which it leaves the right one."""
    most = min(len(right), len(other)) - 1
    shared = next((depth for depth in range(most) if right[depth] != other[depth]), most)
    return list(enumerate(other[: shared + 1]))


def _beaten(
    model: Any, items: Sequence[Item], scores: Sequence[float], places: Sequence[Sequence[int]], token_budget: int
) -> list[bool]:
    """Whether any of the other answers at `places` of each item is likelier than the right one."""
    asked = [index for index, wanted in enumerate(places) if wanted]
    found = score_choices(
        model,
        [(items[index][0], [items[index][2][place] for place in places[index]]) for index in asked],
        token_budget=token_budget,
    )
    beaten = [False] * len(items)
    for index, others in zip(asked, found, strict=True):
        beaten[index] = max(others) > scores[index]
    return beaten


def _decoder_of(model: Any) -> Decode:
    decoder = model.get_decoder()

    def decode(ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        return hidden

    return decode

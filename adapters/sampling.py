"""The next token from its logits.

Temperature first, then the `top_k` likeliest, then of these the smallest set that holds `top_p` of the probability
(nucleus sampling, Holtzman et al., arXiv 1904.09751). One uniform number a token, looked up in the cumulative
distribution in order of token ids: what a request draws depends on its seed and its own logits alone, and the last
bits of a logit, which may vary with the pieces in which a request was computed, almost never reach the choice.
"""

from typing import Final

import torch
from torch import Tensor

#: Candidates tried before all are sorted: a nucleus is nearly always smaller, and sorting 50,000 takes milliseconds.
NUCLEUS_GUESS: Final = 512


class Sampler:
    """One request's way of choosing tokens, with its own random numbers."""

    def __init__(self, *, temperature: float = 0.0, top_p: float = 1.0, top_k: int = 0, seed: int = 0) -> None:
        """`temperature` 0 is greedy; `top_k` 0 and `top_p` 1 keep every token; `seed` is in [0, 2^64)."""
        self._temperature = temperature
        self._top_p = top_p
        self._top_k = top_k
        self._random = torch.Generator().manual_seed(seed)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, so that the engine may take the maxima of a whole batch at once."""
        return self._temperature == 0

    def draw(self, logits: Tensor) -> int:
        """Choose a token by finite `logits` [V]."""
        if self.greedy:
            return int(logits.argmax())
        # Less the maximum before the division: a tiny temperature must not overflow.
        logits = (logits.float() - logits.max()) / self._temperature
        tokens: Tensor | None = None
        if 0 < self._top_k < logits.numel():
            logits, tokens = logits.topk(self._top_k)
        probabilities = logits.double().softmax(dim=-1)
        if self._top_p < 1:
            kept = _nucleus(probabilities, self._top_p)
            probabilities = probabilities[kept]
            tokens = kept if tokens is None else tokens[kept]
        if tokens is not None:
            tokens, order = tokens.sort()
            probabilities = probabilities[order]
        cumulative = probabilities.cumsum(dim=-1)
        point = torch.rand((), dtype=torch.float64, generator=self._random).to(cumulative.device) * cumulative[-1]
        choice = int(torch.searchsorted(cumulative, point, right=True).clamp_(max=cumulative.numel() - 1))
        return choice if tokens is None else int(tokens[choice])


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Indices of the smallest set of likeliest tokens whose probabilities sum to `top_p` or more, at least one."""
    for count in (min(NUCLEUS_GUESS, probabilities.numel()), probabilities.numel()):
        sorted_, indices = probabilities.topk(count)
        before = sorted_.cumsum(dim=-1) - sorted_
        if count == probabilities.numel() or bool(before[-1] >= top_p):
            break
    kept = before < top_p
    kept[0] = True
    return indices[kept]

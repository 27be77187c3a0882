"""A model that has read the same beginning before every row: its keys and values are computed once.

Asking a base with examples in the prompt means some hundred tokens before each question. They are the same for all, so
they are read once and every batch begins behind them. What comes out is what the model says of the whole rows.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


class Prefixed:
    """Stands for `model` where rows are read by `get_decoder()` and `get_output_embeddings()`, as in `scoring.py`.

    `model`: a causal language model of transformers, or a PEFT model around one, in evaluation mode. It must go on
    answering as the one that it was when this was made (the base, say). Raises `ValueError` for an empty prefix.
    """

    def __init__(self, model: Any, prefix: list[int]) -> None:
        if not prefix:
            raise ValueError("a prefix has one token at least")
        self._model = model
        self._decoder = model.get_decoder()
        self._tokens = len(prefix)
        device = model.get_input_embeddings().weight.device
        with torch.inference_mode():
            read = self._decoder(input_ids=torch.tensor([prefix], device=device), use_cache=True)
        self._layers = [(layer[0], layer[1]) for layer in read.past_key_values]

    def get_decoder(self) -> Any:
        """The stack of layers, behind the prefix: takes `input_ids` [rows, tokens] and masks as it always does."""
        return self._decode

    def get_output_embeddings(self) -> Any:
        """The product with the vocabulary."""
        return self._model.get_output_embeddings()

    def get_input_embeddings(self) -> Any:
        """The table of token embeddings."""
        return self._model.get_input_embeddings()

    def _decode(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor | None = None,
        use_cache: bool = False,
    ) -> Any:
        """`attention_mask` is [rows, tokens] of ones and zeros, or additive [rows, 1, tokens, tokens]."""
        rows, tokens = input_ids.shape
        if attention_mask.dim() == 4:
            seen = attention_mask.new_zeros(rows, 1, tokens, self._tokens)
        else:
            seen = attention_mask.new_ones(rows, self._tokens)
        if position_ids is None:
            position_ids = torch.arange(tokens, device=input_ids.device).expand(rows, tokens)
        # The cache grows as it is read, so each batch gets one of its own over the same keys and values.
        layers = [(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)) for keys, values in self._layers]
        return self._decoder(
            input_ids=input_ids,
            attention_mask=torch.cat([seen, attention_mask], dim=-1),
            position_ids=position_ids + self._tokens,
            past_key_values=DynamicCache(layers),
            use_cache=use_cache,
        )

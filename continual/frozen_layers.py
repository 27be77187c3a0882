"""The layers below the first adapter: frozen in every version, so that each row goes through them once.

Adapters sit on the upper layers of the base only. What a row is when it leaves the layers below them does not depend on
any adapter, so it is computed the first time the row is met and kept: later passes over the row, its replay, its
validation and its Fisher information begin at the first adapted layer, forward and backward.
"""

import copy
import threading
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from .batches import Decode, decoder_and_head, run_decoder

# Of kept states. A row of 50 tokens takes 115 kB on a base of width 576 in float32; rows beyond are computed anew.
BUDGET_BYTES: Final = 1 << 30

_Key = tuple[int, ...]


def skip_frozen_layers(model: nn.Module) -> Decode:
    """A quicker way through the layers of `model`, whose trainable weights are adapters: see above.

    Good for every adapter that changes none of the layers below the lowest trainable weight, and for the base.
    """
    decoder: Any = decoder_and_head(model)[0]
    trained = [any(weight.requires_grad for weight in layer.parameters()) for layer in decoder.layers]
    return FrozenLayers(decoder, trained.index(True) if any(trained) else 0).last_hidden


class FrozenLayers:
    """The lowest `count` layers of `decoder`, a transformers stack of `layers`, and what came out of them.

    Any number of threads may use one.
    """

    def __init__(self, decoder: nn.Module, count: int, budget_bytes: int = BUDGET_BYTES) -> None:
        self._decoder: Any = decoder
        self._count = count
        self._budget = budget_bytes
        self._kept: dict[_Key, Tensor] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def last_hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states [rows, tokens, width]; `ids` and `mask` int64 [rows, tokens], padded on the right.

        They carry gradients down to the first layer that is not frozen.
        """
        if not self._count:
            return run_decoder(self._decoder, ids, mask)
        given = _Give(self._states(ids, mask))
        below = [_Pass() for _ in range(self._count - 1)]
        return run_decoder(
            _with_layers(self._decoder, [*below, given, *self._decoder.layers[self._count :]]), ids, mask
        )

    def _states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """What goes into the first layer that is not frozen: kept or computed, [rows, tokens, width]."""
        lengths = mask.sum(1).tolist()
        keys = [tuple(row[:length]) for row, length in zip(ids.tolist(), lengths, strict=True)]
        missing = [place for place, key in enumerate(keys) if key not in self._kept]
        fresh: dict[_Key, Tensor] = {}
        if missing:
            width = max(lengths[place] for place in missing)
            found = self._compute(ids[missing, :width], mask[missing, :width])
            for place, states in zip(missing, found, strict=True):
                fresh[keys[place]] = states[: lengths[place]].clone()
            with self._lock:
                for key, states in fresh.items():
                    if key not in self._kept and self._bytes + states.nbytes <= self._budget:
                        self._kept[key] = states
                        self._bytes += states.nbytes
        states = pad_sequence([self._kept[key] if key in self._kept else fresh[key] for key in keys], batch_first=True)
        return nn.functional.pad(states, (0, 0, 0, ids.shape[1] - states.shape[1]))

    def _compute(self, ids: Tensor, mask: Tensor) -> Tensor:
        layers = self._decoder.layers
        take = _Take()
        above = [_Pass() for _ in range(len(layers) - self._count - 1)]
        lower = [*layers[: self._count], take, *above]
        # Kept states outlive an inference mode that they may be computed in, and take part in training later.
        with torch.inference_mode(False), torch.no_grad():
            run_decoder(_with_layers(self._decoder, lower), ids, mask)
        assert take.states is not None
        return take.states


def _with_layers(decoder: Any, layers: Sequence[nn.Module]) -> Any:
    """`decoder` with `layers` in place of its own: as many, for some models look a layer's kind up by its place.

    It shares everything else with `decoder`, which is not changed: other threads may be using it.
    """
    assert len(decoder.layers) == len(layers)
    other = copy.copy(decoder)
    other._modules = {**decoder._modules, "layers": nn.ModuleList(layers)}
    return other


class _Pass(nn.Module):
    """A layer that changes nothing."""

    def forward(self, hidden: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        return hidden


class _Give(nn.Module):
    """A layer that puts kept states in the place of what came in."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self._states = states

    def forward(self, _hidden: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        return self._states


class _Take(nn.Module):
    """A layer that keeps what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.states: Tensor | None = None

    def forward(self, hidden: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        self.states = hidden
        return hidden

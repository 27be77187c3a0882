"""Attention of one forward over many requests at different places: some decode, some read their prompt, some score.

The tokens of a step are one flat row [1, N], without padding, so that every linear layer works on N tokens and no
more: first one token of each decoding request, then a segment of each other request. Attention alone takes them
apart: the decoding tokens attend as one batch over the rows of the cache, every segment over its own row.

transformers lets a model's attention be replaced by name (`AttentionInterface`) and hands a forward's extra arguments
on to it, so this serves every architecture that goes through that interface. A call without `ragged` is sdpa's,
so a model set to `RAGGED` still works like any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .cache import RowCache
from .errors import BaseUnavailable

RAGGED: Final = "adapterd_ragged"
"""The name under which a model's configuration asks for this attention."""

#: On a CPU tokens look at columns in multiples of this, the last of them masked away. A sum over columns is split by
#: the width of the processor's vectors: else the last bits of an answer would depend on how far its neighbours are, and
#: on the pieces in which its prompt was read.
WINDOW_STEP: Final = 32

#: Queries of a head attend on a CPU in multiples of this, the last of them nobody's: torch multiplies fewer by other
#: kernels, whose sums have other last bits and which are no faster.
QUERY_STEP: Final = 4


@dataclass(frozen=True)
class Segment:
    """`count` tokens of `row` at columns `past` and after; `visible` bool [count, past + count] says which columns each
    sees, `None` that each sees all up to its own. `guessed`: they may be what a decoding request says next."""

    row: int
    past: int
    count: int
    visible: Tensor | None = None
    guessed: bool = False


@dataclass
class Ragged:
    """How the N tokens of a forward lie: one for each of rows [0, `decoding`) of the cache, then the segments, of which
    guessed ones come first.

    `columns` int64 [decoding], on the device, where a forward is recorded: the columns of the cache that the decoding
    tokens go to, which a replay finds changed. The cache is `settled` then, and all its columns are looked at.
    """

    cache: RowCache
    decoding: int
    segments: Sequence[Segment]
    columns: Tensor | None = None
    layers: int = 0  # attended so far: proof that the model hands the argument on
    _columns: Tensor | None = field(default=None, repr=False)
    _rows: Tensor | None = field(default=None, repr=False)
    _mask: Tensor | None = field(default=None, repr=False)  # additive [decoding, 1, 1, window]
    _masks: list[Tensor | None] = field(default_factory=list, repr=False)  # additive [count, past + count]

    def places(self) -> Tensor:
        """Row and column of each token in the cache, int64 [N, 2]; the columns are announced."""
        self._reserve()
        places = list(enumerate(self.cache.lengths[: self.decoding]))
        for segment in self.segments:
            places += [(segment.row, segment.past + place) for place in range(segment.count)]
        return torch.tensor(places)

    def prepare(self, query: Tensor) -> None:
        """Make the masks, once a forward, in the type and on the device of the queries."""
        self._reserve()
        if self.decoding:
            if self.columns is None:
                lengths = torch.tensor(self.cache.lengths[: self.decoding])
                window = self._window(max(self.cache.lengths[: self.decoding]) + 1, query)
            else:
                lengths, window = self.columns, self.cache.columns
            beyond = torch.arange(window, device=lengths.device) > lengths.unsqueeze(1)
            self._columns = lengths.to(query.device, non_blocking=True)
            self._rows = torch.arange(self.decoding, device=query.device)
            self._mask = _additive(~beyond, query)[:, None, None, :]
        self._masks = [self.mask(segment, query) for segment in self.segments]

    def mask(self, segment: Segment, query: Tensor) -> Tensor | None:
        """What the segment's tokens see, additive [count, columns looked at]; None where a causal one is implied."""
        seen, columns = segment.visible, segment.past + segment.count
        window = self._window(columns, query)
        if seen is None and (query.device.type == "cpu" or (segment.past and segment.count > 1)):
            seen = torch.ones(segment.count, columns, dtype=torch.bool).tril_(segment.past)
        return None if seen is None else _additive(F.pad(seen, (0, window - columns)), query)

    def _reserve(self) -> None:
        for row, length in enumerate(self.cache.lengths[: self.decoding]):
            self.cache.reserve(row, length + 1)
        for segment in self.segments:
            self.cache.reserve(segment.row, segment.past + segment.count)

    def _window(self, columns: int, query: Tensor) -> int:
        """How many columns are looked at where `columns` count."""
        if query.device.type != "cpu":
            return columns
        return min(-(-columns // WINDOW_STEP) * WINDOW_STEP, self.cache.columns)


def ragged_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    ragged: Ragged | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Write keys and values [1, heads, N, head size] to the cache, attend, and return [1, N, query heads, head size].

    Without `ragged` it is `sdpa_attention_forward`.
    """
    if ragged is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output, None
    if ragged.layers == 0:
        ragged.prepare(query)
    ragged.layers += 1
    keys, values = ragged.cache.layer(module.layer_idx, key)
    heads, kv_heads, size = query.shape[1], key.shape[1], query.shape[3]
    attended = query.new_empty(query.shape[2], heads, value.shape[3])

    done = ragged.decoding
    if done:
        assert ragged._mask is not None
        keys[ragged._rows, :, ragged._columns] = key[0, :, :done].transpose(0, 1)
        values[ragged._rows, :, ragged._columns] = value[0, :, :done].transpose(0, 1)
        window = ragged._mask.shape[-1]
        # The query heads that share a key head stand where the queries would: no key is repeated.
        grouped = query[0, :, :done].transpose(0, 1).reshape(done, kv_heads, heads // kv_heads, size)
        out = attend(grouped, keys[:done, :, :window], values[:done, :, :window], ragged._mask, scale=scaling)
        attended[:done].view(out.shape).copy_(out)
    for segment, mask in zip(ragged.segments, ragged._masks, strict=True):
        span = slice(done, done + segment.count)
        columns = slice(segment.past, segment.past + segment.count)
        keys[segment.row, :, columns] = key[0, :, span]
        values[segment.row, :, columns] = value[0, :, span]
        # Without a mask a fresh prompt attends over itself, as it came; all others over their row.
        window = columns.stop if mask is None else mask.shape[-1]
        fresh = mask is None and not segment.past
        own_keys = key[:, :, span] if fresh else keys[segment.row : segment.row + 1, :, :window]
        own_values = value[:, :, span] if fresh else values[segment.row : segment.row + 1, :, :window]
        out = attend(
            query[:, :, span],
            own_keys,
            own_values,
            mask,
            is_causal=mask is None and segment.count > 1,
            scale=scaling,
            enable_gqa=heads != kv_heads,
        )
        attended[span] = out[0].transpose(0, 1)
        done = span.stop
    return attended.unsqueeze(0), None


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, **options: Any) -> Tensor:
    """torch's attention, for [.., heads, queries, head size] and an additive mask [.., queries or 1, columns]."""
    count = query.shape[-2]
    missing = -count % QUERY_STEP
    if not missing or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, **options)
    last = query[..., -1:, :].expand(*query.shape[:-2], missing, -1)
    query = torch.cat((query, last), dim=-2)
    if mask is not None and mask.shape[-2] > 1:
        mask = F.pad(mask, (0, 0, 0, missing))
    return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, **options)[..., :count, :]


def check_architecture(config: PretrainedConfig) -> None:
    """Raise `BaseUnavailable` if a base computes what the engine does not: windows, capped or scaled logits."""
    reasons = [
        f"{name} is {value}"
        for name, neutral in _NEUTRAL.items()
        if (value := getattr(config, name, None)) is not None and value != neutral
    ]
    reasons += [
        f"layers of type {kind}" for kind in set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    ]
    if reasons:
        raise BaseUnavailable(
            f"the engine cannot serve a {config.model_type} base: {'; '.join(sorted(reasons))}",
            hint="use a base with full attention in every layer and plain logits, such as Llama, Qwen or SmolLM",
        )


_NEUTRAL: Final[dict[str, object]] = {
    "sliding_window": None,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "logits_scaling": 1.0,
    "logit_scale": 1.0,
}


def _additive(seen: Tensor, like: Tensor) -> Tensor:
    """0 where seen, minus infinity elsewhere: sdpa would convert a boolean mask anew in every layer."""
    mask = torch.zeros(seen.shape, dtype=like.dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
    return mask.to(like.device, non_blocking=True)


AttentionInterface.register(RAGGED, ragged_attention)
AttentionMaskInterface.register(RAGGED, sdpa_mask)

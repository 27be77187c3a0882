"""A forward of Llama-like decoders over packed layers, with few and large operations.

Of the 29 ms that transformers' own forward of the default base takes for one token, 14 are products; the rest is a
thousand small operations and the Python around them. This one has four products a layer, with the residual sum as part
of the one before it, and between them compiled loops (`kernels.py`). What it computes is the same, rounded less often.

It knows the layers that it replaces by their class. Every other architecture goes through its own forward.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from .attention import Ragged, Segment, attend
from .gathered import PackedGroup
from .kernels import kernels
from .slot_layers import PackedSlotLinear

#: By name, for importing them takes time and most are not there to be used.
_LAYERS: Final = frozenset(
    f"transformers.models.{kind}.modeling_{kind}.{kind.title()}DecoderLayer"
    for kind in ("llama", "mistral", "qwen2", "qwen3")
)


@dataclass(frozen=True)
class _Layer:
    """What a decoder layer computes with."""

    index: int
    qkv: PackedGroup
    output: PackedGroup
    gate_up: PackedGroup
    down: PackedGroup
    norms: tuple[Any, Any]  # before the attention, before what follows it
    head_norms: tuple[Any, Any] | None  # of each query's and each key's head, as Qwen3 has them


@dataclass(frozen=True)
class _Plan:
    """What all layers of a forward are told.

    `turns`: cosine and sine of each token's place [N, head size]. `places` int64 [N, 2]: its row and column in the
    cache. `keys` [1, kv heads, N, head size]: what those that go there look like. The first tokens attend each by
    itself, to as many columns as `seen` says, the `pieces` of prompts and scorings over a mask.
    """

    ragged: Ragged
    turns: tuple[Tensor, Tensor]
    places: Tensor
    keys: Tensor
    seen: list[int]
    pieces: list[tuple[Segment, slice, Tensor]]


class PackedDecoder:
    """The decoder of a model whose linear layers are wrapped and packed (`lora.attach`), as a function."""

    def __init__(self, decoder: Any, layers: list[_Layer]) -> None:
        self._embed = decoder.embed_tokens
        self._rotary = decoder.rotary_emb
        self._norm = decoder.norm
        self._layers = layers
        self._kernels = kernels(layers[0].qkv.together.dtype)
        attention = decoder.layers[0].self_attn
        self._scale = float(attention.scaling)
        self._head_size: Final = int(attention.head_dim)
        self._heads: Final = int(attention.config.num_attention_heads)
        self._kv_heads: Final = int(attention.config.num_key_value_heads)

    @classmethod
    def of(cls, decoder: Any) -> "PackedDecoder | None":
        """That of a model's decoder, or None where a layer is of an unknown kind or not packed."""
        layers = [_layer(module) for module in getattr(decoder, "layers", ())]
        known = [layer for layer in layers if layer is not None]
        if not known or len(known) < len(layers):
            return None
        types = {weight.dtype for weight in decoder.parameters()}  # of embeddings and norms: all others are packed
        return cls(decoder, known) if types == {known[0].qkv.together.dtype} else None

    def __call__(self, tokens: Tensor, positions: Tensor, ragged: Ragged) -> Tensor:
        """The last hidden states [N, d] of tokens [N] at their positions [N]."""
        x: Tensor = self._embed(tokens)
        plan = self._plan(x, positions, ragged)
        for layer in self._layers:
            before, after = layer.norms
            attended = self._attend(layer, layer.qkv.outputs(self._normed(x, before)), plan)
            x = layer.output.added_to(x, attended)
            gate_up = layer.gate_up.outputs(self._normed(x, after))
            x = layer.down.added_to(x, self._kernels.gated(gate_up))
        ragged.layers += len(self._layers)
        return self._normed(x, self._norm)

    def _plan(self, x: Tensor, positions: Tensor, ragged: Ragged) -> _Plan:
        cos, sin = self._rotary(x[None], position_ids=positions[None])
        assert cos.shape[-1] == self._head_size  # and not a part of the head alone
        assert cos.dtype == x.dtype
        places = ragged.places()
        single, pieces = ragged.decoding, list[tuple[Segment, slice, Tensor]]()
        begin = single
        for segment in ragged.segments:
            end = begin + segment.count
            if segment.guessed:
                assert not pieces
                single = end
            else:
                mask = ragged.mask(segment, x)
                assert mask is not None  # on a CPU
                pieces.append((segment, slice(begin, end), mask))
            begin = end
        keys = x.new_empty(1, self._kv_heads, len(x), self._head_size)
        seen = (places[:single, 1] + 1).tolist()
        return _Plan(ragged, (cos[0].contiguous(), sin[0].contiguous()), places, keys, seen, pieces)

    def _normed(self, x: Tensor, norm: Any) -> Tensor:
        return self._kernels.normed(x, norm.weight, norm.variance_epsilon)

    def _attend(self, layer: _Layer, qkv: Tensor, plan: _Plan) -> Tensor:
        """What the heads see [N, heads x head size], by queries, keys and values side by side."""
        heads = qkv.view(len(qkv), -1, self._head_size)
        if layer.head_norms is not None:
            sides = heads.split_with_sizes([self._heads, self._kv_heads, self._kv_heads], dim=1)
            normed = [
                self._normed(side.contiguous(), norm) for side, norm in zip(sides, layer.head_norms, strict=False)
            ]
            heads = torch.cat([*normed, sides[2]], dim=1)
        keys, values = plan.ragged.cache.layer(layer.index, plan.keys)
        queries = self._kernels.rotated(heads, plan.turns, plan.places, keys, values, self._heads)
        seen = torch.empty_like(queries)
        if plan.seen:
            self._kernels.attended(queries, plan.places, keys, values, self._scale, seen, plan.seen)
        for segment, span, mask in plan.pieces:
            rows, columns = slice(segment.row, segment.row + 1), slice(mask.shape[-1])
            out = attend(
                queries[span].transpose(0, 1)[None],
                keys[rows, :, columns],
                values[rows, :, columns],
                mask,
                scale=self._scale,
                enable_gqa=self._heads != self._kv_heads,
            )
            seen[span] = out[0].transpose(0, 1)
        return seen.view(len(qkv), -1)


def _layer(module: nn.Module) -> _Layer | None:
    if f"{type(module).__module__}.{type(module).__name__}" not in _LAYERS:
        return None
    attention: Any = module.self_attn
    mlp: Any = module.mlp
    qkv = _group(attention.q_proj, attention.k_proj, attention.v_proj)
    output, gate_up, down = _group(attention.o_proj), _group(mlp.gate_proj, mlp.up_proj), _group(mlp.down_proj)
    if qkv is None or output is None or gate_up is None or down is None or attention.config.hidden_act != "silu":
        return None
    norms: tuple[Any, Any] = (module.input_layernorm, module.post_attention_layernorm)
    head_norms = (attention.q_norm, attention.k_norm) if hasattr(attention, "q_norm") else None
    return _Layer(int(attention.layer_idx), qkv, output, gate_up, down, norms, head_norms)


def _group(*layers: Any) -> PackedGroup | None:
    """The group that computes just these layers, in this order, at once."""
    if not all(isinstance(layer, PackedSlotLinear) for layer in layers):
        return None
    group: PackedGroup = layers[0].group
    these = len(group.names) == len(layers) and all(
        layer.group is group and layer.place == place for place, layer in enumerate(layers)
    )
    return group if these else None

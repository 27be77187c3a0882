"""A forward of Llama-like decoders over packed layers, with few and large operations.

Of the 29 ms that transformers' own forward of the default base takes for one token, 14 are products; the rest is a
thousand small operations and the Python around them. This one calls as few as it can: the products that a layer has
packed, the rotation of queries and keys at once, and the residual sum as part of the product before it. What it
computes is the same, rounded less often.

It knows the layers that it replaces by their class. Every other architecture goes through its own forward.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Ragged, ragged_attention
from .slot_layers import SlotGroup, SlotLinear

#: By name, for importing them takes time and most are not there to be used.
_LAYERS: Final = frozenset(
    f"transformers.models.{kind}.modeling_{kind}.{kind.title()}DecoderLayer"
    for kind in ("llama", "mistral", "qwen2", "qwen3")
)


@dataclass(frozen=True)
class _Layer:
    """What a decoder layer computes with."""

    attention: Any  # the module, of which the attention wants its place and the cache's
    qkv: SlotGroup
    output: SlotGroup
    gate_up: SlotGroup
    down: SlotGroup
    norms: tuple[Any, Any]  # before the attention, before what follows it
    head_norms: tuple[Any, Any] | None  # of each query's and each key's head, as Qwen3 has them


class PackedDecoder:
    """The decoder of a model whose linear layers are wrapped and packed (`lora.attach`), as a function."""

    def __init__(self, decoder: Any, layers: list[_Layer]) -> None:
        self._embed = decoder.embed_tokens
        self._rotary = decoder.rotary_emb
        self._norm = decoder.norm
        self._layers = layers
        attention = layers[0].attention
        self._head_size: Final = int(attention.head_dim)
        config = attention.config
        self._heads: Final = int(config.num_attention_heads)
        self._kv_heads: Final = int(config.num_key_value_heads)

    @classmethod
    def of(cls, decoder: Any) -> "PackedDecoder | None":
        """That of a model's decoder, or None where a layer is of an unknown kind or not packed."""
        layers = [_layer(module) for module in getattr(decoder, "layers", ())]
        known = [layer for layer in layers if layer is not None]
        return cls(decoder, known) if known and len(known) == len(layers) else None

    def __call__(self, tokens: Tensor, positions: Tensor, ragged: Ragged) -> Tensor:
        """The last hidden states [N, d] of tokens [N] at their positions [N]."""
        x: Tensor = self._embed(tokens)
        cos, sin = self._rotations(x, positions)
        for layer in self._layers:
            before, after = layer.norms
            attended = self._attend(layer, layer.qkv.outputs(_normed(x, before)), cos, sin, ragged)
            x = layer.output.added_to(x, attended)
            gate, up = layer.gate_up.outputs(_normed(x, after)).chunk(2, dim=-1)
            x = layer.down.added_to(x, F.silu(gate).mul_(up))
        return _normed(x, self._norm)

    def _rotations(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines, and sines with the sign that their half of a head takes, [N, 1, head size]."""
        cos, sin = self._rotary(x[None], position_ids=positions[None])
        half = self._head_size // 2
        sign = torch.ones_like(sin)
        sign[..., :half] = -1
        return cos[0].unsqueeze(1), (sin * sign)[0].unsqueeze(1)

    def _attend(self, layer: _Layer, qkv: Tensor, cos: Tensor, sin: Tensor, ragged: Ragged) -> Tensor:
        """What the heads see [N, heads x head size], by queries, keys and values side by side."""
        heads = qkv.view(len(qkv), -1, self._head_size)
        rotated = self._heads + self._kv_heads
        both = heads[:, :rotated]
        if layer.head_norms is not None:
            of_queries, of_keys = layer.head_norms
            both = torch.cat([_normed(both[:, : self._heads], of_queries), _normed(both[:, self._heads :], of_keys)], 1)
        # (a, b) becomes (a cos - b sin, b cos + a sin): the other half of each head, times the signed sine.
        turned = torch.addcmul(both * cos, both.roll(self._head_size // 2, -1), sin)
        query, key = turned[:, : self._heads], turned[:, self._heads :]
        value = heads[:, rotated:]
        attended, _ = ragged_attention(
            layer.attention,
            query.transpose(0, 1)[None],
            key.transpose(0, 1)[None],
            value.transpose(0, 1)[None],
            None,
            scaling=layer.attention.scaling,
            ragged=ragged,
        )
        return attended.view(len(qkv), -1)


def _normed(x: Tensor, norm: Any) -> Tensor:
    """RMSNorm (Zhang & Sennrich, arXiv 1910.07467)."""
    return F.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)


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
    return _Layer(attention, qkv, output, gate_up, down, norms, head_norms)


def _group(*layers: Any) -> SlotGroup | None:
    """The group that computes just these layers, in this order, at once."""
    if not all(isinstance(layer, SlotLinear) for layer in layers):
        return None
    group: SlotGroup = layers[0].group
    these = len(group.names) == len(layers) and all(
        layer.group is group and layer.place == place for place, layer in enumerate(layers)
    )
    return group if these and group.together is not None else None

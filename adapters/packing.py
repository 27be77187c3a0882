"""Plain weights in the layout that oneDNN computes with, for serving on a CPU.

A step of a few requests multiplies a handful of tokens by every weight of the base. torch's own product reads plain
weights at a quarter of the memory's speed then; oneDNN's, which torch brings along and uses where a compiler has
arranged a model for it, gets 1.5 to 3 times as much done with weights laid out in blocks beforehand, for one token and
for hundreds. The values are the same, and the plain weights are not kept beside them.

There is no gradient through such a layer: it is for the engine, never for training.

What a token gives has the same bits whoever else is in the forward: `batch_invariance.py` finds out in which manner
oneDNN has to be called for that on the machine at hand.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Final

import torch
from torch import Tensor, nn

from .batch_invariance import Manner, manner_of
from .unpacking import plain_linear

# Outputs of the products by which a manner is chosen: a wider one takes long to try and is called as this one is.
_TRIED_WIDTH: Final = 4096

# Undocumented, so each is asked for: an operation, and the overload of it.
_OPS: Final = (
    ("_reorder_linear_weight", "default"),
    ("_linear_pointwise", "default"),
    ("_linear_pointwise", "binary"),
    ("_is_mkldnn_bf16_supported", "default"),
)


class PackedLinear:
    """Linear layers that read the same input, with packed weights: their outputs lie side by side, `widths` wide each.

    One product for all of them spares what oneDNN spends on each, 14 microseconds in bfloat16 (a layer of the default
    base has seven products, of 40 to 200).
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self.widths: Final = tuple(layer.out_features for layer in layers)
        self.width: Final = sum(self.widths)
        self._biased = tuple(layer.bias is not None for layer in layers)
        self._bias = _side_by_side(layers) if any(self._biased) else None
        weights = [layer.weight.detach() for layer in layers]
        self.dtype: Final = weights[0].dtype
        self._packed = laid_out(torch.cat(weights) if len(weights) > 1 else weights[0])
        self._manner: Final = _manner(min(self.width, _TRIED_WIDTH), layers[0].in_features, self.dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Map x [..., in] to [..., sum of widths]."""
        if self._manner.fits(x.numel() // x.shape[-1]):
            return product(x, self._packed, self._bias)
        y = self._manner.call(lambda rows: product(rows, self._packed, self._bias), x.flatten(0, -2))
        return y.view(*x.shape[:-1], self.width)

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """The sum of `residual` [N, sum of widths] and what the layers give for x [N, in], rounded once."""
        return self._manner.call(lambda y, rows: product_and(y, rows, self._packed, self._bias), residual, x)

    def plain(self) -> list[nn.Linear]:
        """The layers as they were, frozen, with their weights made anew and equal to those that came in."""
        weights = self._packed.to_dense().split_with_sizes(self.widths)
        biases = self._bias.split_with_sizes(self.widths) if self._bias is not None else [None] * len(weights)
        return [
            plain_linear(weight.clone(), bias.clone() if bias is not None and biased else None).eval()
            for weight, bias, biased in zip(weights, biases, self._biased, strict=True)
        ]


@cache
def _manner(width: int, inner: int, dtype: torch.dtype) -> Manner:
    """How products of this shape are called; tried once in a process."""
    return manner_of(lambda weight: partial(product, weight=laid_out(weight)), width, inner, dtype)


def laid_out(weight: Tensor) -> Tensor:
    """`weight` [out, in] as oneDNN computes with it; for `product` and `product_and`."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b [..., out] for x [..., in] and a weight that is `laid_out`."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return y


def product_and(y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y + x W^T + b [..., out], rounded once, for x [..., in] and a weight that is `laid_out`."""
    total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, y, weight, bias, "add")
    return total


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether packed weights can be computed with on this machine."""
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device.type != "cpu" or not built or not all(_there(*one) for one in _OPS):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _there(name: str, overload: str) -> bool:
    return hasattr(torch.ops.mkldnn, name) and overload in getattr(torch.ops.mkldnn, name).overloads()


def pack(layers: Sequence[nn.Module]) -> PackedLinear | None:
    """Layers that read the same input as one, or None unless all of them are plain and can be packed."""
    plain = [layer for layer in layers if type(layer) is nn.Linear and packs(layer.weight.device, layer.weight.dtype)]
    return PackedLinear(plain) if len(plain) == len(layers) else None


def _side_by_side(layers: Sequence[nn.Linear]) -> Tensor:
    """Their biases, zero where there is none."""
    biases = [layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers]
    return torch.cat([bias.detach() for bias in biases])

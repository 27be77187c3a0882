"""Plain weights in the layout that oneDNN computes with, for serving on a CPU.

A step of a few requests multiplies a handful of tokens by every weight of the base. torch's own product reads plain
weights at a quarter of the memory's speed then; oneDNN's, which torch brings along and uses where a compiler has
arranged a model for it, gets 1.5 to 3 times as much done with weights laid out in blocks beforehand, for one token and
for hundreds. The values are the same, and the plain weights are not kept beside them.

There is no gradient through such a layer: it is for the engine, never for training.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from .unpacking import plain_linear

_OPS: Final = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")


class PackedLinear(nn.Module):
    """A linear layer with packed weights, and bias if it had one."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = bias
        # No parameter: `state_dict` and `to` know nothing of its layout.
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., in] to [..., out]."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return y

    def weight(self) -> Tensor:
        """The plain weights [out, in], made anew and equal to those that came in."""
        return self._packed.to_dense()


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether packed weights can be computed with on this machine."""
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device.type != "cpu" or not built or not all(hasattr(torch.ops.mkldnn, name) for name in _OPS):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack(layer: nn.Module) -> nn.Module:
    """A plain linear layer packed, any other layer as it is."""
    if type(layer) is not nn.Linear or not packs(layer.weight.device, layer.weight.dtype):
        return layer
    return PackedLinear(layer.weight, layer.bias)


def unpack(layer: Any) -> Any:
    """The plain layer that was packed, frozen; any other layer as it is."""
    if not isinstance(layer, PackedLinear):
        return layer
    return plain_linear(layer.weight(), layer.bias).eval()

"""Quantized weights held as plain ones, where the memory allows.

bitsandbytes unpacks every layer at every forward, but for a single token on a GPU. On a CPU that more than doubles the
price of a decode step; with AVX512-BF16 it has a product of its own, which plain bfloat16 weights are as fast as
(`packing`). On a GPU it is two more kernels a layer, and the time of a step goes by their number. The values are the
same as those of weights that were unpacked once. So where they fit they are: 4 bytes a weight in float32, 2 in
bfloat16, instead of half a byte. What an adapter is trained on and served with does not change by it, and neither does
the fingerprint.
"""

from typing import Any, Final

import psutil
import torch
from torch import nn

SHARE_OF_MEMORY: Final = 0.25
"""What unpacked weights may take of the device's: the training process holds them a second time."""


def should_unpack(model: nn.Module, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the quantized layers of `model` had better be plain ones in `dtype`: if they fit."""
    weights: int = sum(layer.in_features * layer.out_features for _, layer in _quantized(model))
    return weights * dtype.itemsize <= SHARE_OF_MEMORY * _memory(device)


def _memory(device: torch.device) -> int:
    """Bytes that `device` has in all."""
    if device.type == "cpu":
        return int(psutil.virtual_memory().total)
    return int(torch.cuda.get_device_properties(device).total_memory)


def keep_as_they_are(model: nn.Module) -> None:
    """Let no 4-bit layer of `model`, which stays quantized on a CPU, change its weights by itself.

    With AVX512-BF16, bitsandbytes (0.50) lays a layer's weights out anew at its first forward in eval mode. Two threads
    that come first together leave wrong weights behind, and through a layer that was laid out anew no gradient flows.
    """
    for _, layer in _quantized(model):
        layer.support_avx512bf16_for_cpu = False


def unpack(model: nn.Module, dtype: torch.dtype) -> int:
    """Replace every quantized layer of `model` by a plain one with the same values in `dtype`; returns how many.

    Frees each packed weight before the next one is unpacked.
    """
    found = _quantized(model)
    for name, layer in found:
        parent, _, leaf = name.rpartition(".")
        plain = plain_linear(_values(layer).to(dtype), layer.bias).train(layer.training)
        setattr(model.get_submodule(parent), leaf, plain)
    return len(found)


def plain_linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """A frozen layer that holds `weight` [out, in] itself, and `bias` in its type; in training mode, as new ones."""
    with torch.device("meta"):
        plain = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        plain.bias = nn.Parameter(bias.detach().to(weight.dtype), requires_grad=False)
    return plain


def _quantized(model: nn.Module) -> list[tuple[str, Any]]:
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt  # noqa: PLC0415 - slow to import

    return [(name, module) for name, module in model.named_modules() if isinstance(module, Linear4bit | Linear8bitLt)]


def _values(layer: Any) -> torch.Tensor:
    """The weights [out, in] that the layer multiplies by."""
    from bitsandbytes import functional  # noqa: PLC0415 - slow to import

    state = getattr(layer.weight, "quant_state", None)
    values: torch.Tensor
    if state is not None:
        values = functional.dequantize_4bit(layer.weight.data, state)
    else:
        # The scales move from the weight to the state at the first forward.
        scales = layer.weight.SCB if layer.weight.SCB is not None else layer.state.SCB
        values = functional.int8_vectorwise_dequant(layer.weight.data, scales)
    return values

"""Quantized weights held as plain ones, where a processor has no product for the packed form.

On a GPU, and on a CPU with AVX512-BF16, bitsandbytes multiplies by packed 4-bit weights. On any other CPU it unpacks
every layer at every forward: the price of a decode step more than doubles, and the values are the same as those of
weights that were unpacked once. So there they are, if the memory allows: 4 bytes a weight in float32 instead of half
a byte. What an adapter is trained on and served with does not change by it, and neither does the fingerprint.
"""

from typing import Any, Final

import psutil
import torch
from torch import nn

from .device import has_bfloat16, read_cpuinfo

SHARE_OF_MEMORY: Final = 0.25
"""What unpacked weights may take of it: the training process holds them a second time."""


def should_unpack(model: nn.Module, device: torch.device, dtype: torch.dtype, cpuinfo: str | None = None) -> bool:
    """Whether the quantized layers of `model` had better be plain ones: a CPU without kernels, and enough memory.

    `cpuinfo` is the text of /proc/cpuinfo, read if not given.
    """
    if device.type != "cpu" or has_packed_kernels(cpuinfo):
        return False
    weights: int = sum(layer.in_features * layer.out_features for _, layer in _quantized(model))
    return weights * dtype.itemsize <= SHARE_OF_MEMORY * int(psutil.virtual_memory().total)


def has_packed_kernels(cpuinfo: str | None = None) -> bool:
    """Whether bitsandbytes multiplies by packed weights on this CPU, as it does with AVX512-BF16 (since its 0.49)."""
    return has_bfloat16(read_cpuinfo() if cpuinfo is None else cpuinfo, frozenset({"avx512_bf16"}))


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

"""An adapter as PEFT writes it: `adapter_model.safetensors` and `adapter_config.json`, checked to the last byte.

safetensors reads whatever lies in a file: of 200 files with one random byte flipped, 199 load. So bytes are hashed
before they are used, and every value is looked at before it is published, and again as it will be served.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor

from .strict_files import UnfitError, canonical_json, parse_object

WEIGHTS: Final = "adapter_model.safetensors"
CONFIG: Final = "adapter_config.json"

MAX_WEIGHTS_BYTES: Final = 2 << 30
"""Rank 64 on every linear layer of a base of 8B weights takes 0.7 GB in float32."""
MAX_HEADER_BYTES: Final = 4 << 20
"""A tensor takes about 150 bytes of the header; a base of 80 layers has 1,120 of them."""
MAX_RANK: Final = 4096
MAX_ALPHA: Final = 65536
"""Both far beyond use, so that nothing computed from them overflows."""

_KEY: Final = re.compile(r"base_model\.model\.([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)\.lora_([AB])\.weight", re.ASCII)
_DTYPES: Final = ("BF16", "F16", "F32")

#: Fields that speak of training or of where files lie, and leave what an adapter computes as it is.
_HARMLESS: Final = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "revision",
        "target_modules",
        "task_type",
        "use_rslora",
    }
)
#: These start from the base as it is; the others (pissa, olora, corda, loftq, lora_ga) change the base's own weights.
_PLAIN_INITS: Final = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class AdapterWeights:
    """An adapter's weights: a layer at path p adds `scaling * B @ A @ x`.

    `layers` maps the path of a linear layer in the base ("model.layers.0.self_attn.q_proj") to its A [rank, in] and
    B [out, rank], in the precision in which they are stored.
    """

    rank: int
    scaling: float
    layers: dict[str, tuple[Tensor, Tensor]]


class Scale(NamedTuple):
    """What the config says of the arithmetic."""

    rank: int
    scaling: float


def digest_of(weights: bytes, config: Mapping[str, Any]) -> str:
    """What a version is known by, in hex: sha256 over the sha256 of the weights' bytes and the canonical config."""
    return hashlib.sha256(hashlib.sha256(weights).digest() + canonical_json(config)).hexdigest()


def check_config(config: Mapping[str, Any]) -> Scale:
    """The rank and scaling of a PEFT config, if it describes a plain LoRA adapter: alpha / r, or alpha / sqrt(r).

    Rank-stabilized scaling is Kalajdzievski, arXiv 2312.03732. Whatever else would change the arithmetic (DoRA, biases,
    ranks by layer, whole modules, and fields that are not known here) is refused.

    Raises:
        UnfitError: says which field.
    """
    if config.get("peft_type") != "LORA":
        raise UnfitError(f"peft_type is {config.get('peft_type')!r}, and only LORA is served")
    if config.get("bias", "none") != "none":
        raise UnfitError(f"bias is {config['bias']!r}: adapters that train biases are not served")
    if config.get("init_lora_weights", True) not in _PLAIN_INITS:
        raise UnfitError(
            f"init_lora_weights is {config['init_lora_weights']!r}, which changes the base's own weights; PEFT can "
            "convert such an adapter to a plain one (`path_initial_model_for_weight_conversion`)"
        )
    for name, value in config.items():
        if name not in _HARMLESS and value not in (None, False, "", {}, []):
            raise UnfitError(f"{name} is set, and only plain LoRA is served")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MAX_RANK:
        raise UnfitError(f"r is no integer from 1 to {MAX_RANK}")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha <= MAX_ALPHA:
        raise UnfitError(f"lora_alpha is no number above 0 and up to {MAX_ALPHA}")
    rank_stabilized = config.get("use_rslora") or False
    if not isinstance(rank_stabilized, bool):
        raise UnfitError(f"use_rslora is {rank_stabilized!r}, neither true nor false")
    return Scale(rank, alpha / math.sqrt(rank) if rank_stabilized else alpha / rank)


def parse_weights(
    data: bytes,
    config: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, int]] | None = None,
    *,
    finite: bool = True,
) -> AdapterWeights:
    """Read the bytes of a safetensors file as the adapter that `config` describes.

    `shapes` gives (in, out) of the base's layers by path; without it the adapter is checked for itself alone.
    Values are looked at unless `finite` is false, for who looks at them himself.

    Raises:
        UnfitError: not plain LoRA, a header that lies, A without B, shapes that do not fit each other, the rank or the
            base, or a value that is not finite.
    """
    rank, scaling = check_config(config)
    _check_header(data)
    try:
        tensors = parse_safetensors(data)
    except (SafetensorError, ValueError, RuntimeError) as failure:
        raise UnfitError(f"{WEIGHTS} is no safetensors file: {failure}") from failure
    pairs: dict[str, dict[str, Tensor]] = {}
    for key in sorted(tensors):
        match = _KEY.fullmatch(key)
        assert match is not None, "the header was checked"
        pairs.setdefault(match[1], {})[match[2]] = tensors[key]
    layers: dict[str, tuple[Tensor, Tensor]] = {}
    for path, pair in pairs.items():
        if len(pair) != 2:
            raise UnfitError(f"{path} has lora_{next(iter(pair))} alone")
        layers[path] = (pair["A"], pair["B"])
        _check_layer(path, *layers[path], rank, shapes)
        if finite and not all(map(is_finite, layers[path])):
            raise UnfitError(f"{path} holds values that are not finite")
    return AdapterWeights(rank, scaling, layers)


def is_finite(tensor: Tensor) -> bool:
    """Whether every value of a tensor that is not empty is a finite number.

    By its extremes, which are NaN where a value is: a seventh of the time that looking at each value takes.
    """
    least, most = torch.aminmax(tensor)
    return math.isfinite(least) and math.isfinite(most)


def _check_header(data: bytes) -> None:
    """Check the header before any library sees it: names, types, and that the tensors cover the file exactly."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise UnfitError(f"{WEIGHTS} has no header of a possible length")
    header = parse_object(data[8 : 8 + size], f"the header of {WEIGHTS}")
    header.pop("__metadata__", None)
    if not header:
        raise UnfitError(f"{WEIGHTS} holds no tensor")
    spans = []
    for name, entry in header.items():
        if _KEY.fullmatch(name) is None:
            raise UnfitError(f"{WEIGHTS} holds {name[:120]!r}, which is no lora_A or lora_B of a linear layer")
        if not isinstance(entry, dict) or entry.get("dtype") not in _DTYPES:
            raise UnfitError(f"{name} is not of type {', '.join(_DTYPES)}")
        shape, span = entry.get("shape"), entry.get("data_offsets")
        if not _is_pair(shape) or not _is_pair(span) or 0 in shape:
            raise UnfitError(f"{name} is no matrix, or one without rows or columns")
        width = 4 if entry["dtype"] == "F32" else 2  # bytes
        if span[1] - span[0] != shape[0] * shape[1] * width:
            raise UnfitError(f"{name} takes another space than its shape does")
        spans.append((span[0], span[1]))
    ends = [0]
    for begin, end in sorted(spans):
        if begin != ends[-1]:
            raise UnfitError(f"the tensors of {WEIGHTS} overlap or leave gaps")
        ends.append(end)
    if ends[-1] != len(data) - 8 - size:
        raise UnfitError(f"{WEIGHTS} is truncated, or has something behind its tensors")


def _is_pair(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and len(value) == 2 and all(type(number) is int and number >= 0 for number in value)


def _check_layer(path: str, a: Tensor, b: Tensor, rank: int, shapes: Mapping[str, tuple[int, int]] | None) -> None:
    if shapes is not None and path not in shapes:
        raise UnfitError(f"it changes {path}, which is no linear layer of this base")
    inner, outer = shapes[path] if shapes is not None else (a.shape[1], b.shape[0])
    if a.shape != (rank, inner) or b.shape != (outer, rank):
        raise UnfitError(
            f"{path}: A is {list(a.shape)} and B {list(b.shape)}, where [{rank}, {inner}] and [{outer}, {rank}] belong"
        )

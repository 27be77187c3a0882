"""PEFT folders for the tiny base, made by hand, for tests that damage them."""

import json
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

RANK, ALPHA = 4, 8
KV_WIDTH = 32
#: (in, out) of the tiny base's linear layers.
SHAPES = {
    f"model.layers.{layer}.{name}": shape
    for layer in range(2)
    for name, shape in {
        "self_attn.q_proj": (64, 64),
        "self_attn.k_proj": (64, KV_WIDTH),
        "self_attn.v_proj": (64, KV_WIDTH),
        "self_attn.o_proj": (64, 64),
        "mlp.gate_proj": (64, 128),
        "mlp.up_proj": (64, 128),
        "mlp.down_proj": (128, 64),
    }.items()
}


def lora_tensors(seed: int = 0, rank: int = RANK) -> dict[str, Tensor]:
    """Random A and B for every layer, under the names that PEFT gives them."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for path, (inner, outer) in SHAPES.items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = torch.randn(rank, inner, generator=generator) * 0.1
        tensors[f"base_model.model.{path}.lora_B.weight"] = torch.randn(outer, rank, generator=generator) * 0.1
    return tensors


def lora_config(**changes: Any) -> dict[str, Any]:
    """A plain LoRA config with `changes`."""
    leaves = sorted({path.rpartition(".")[2] for path in SHAPES})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "target_modules": leaves}
    return {**config, "base_model_name_or_path": "tiny", "bias": "none", **changes}


def write_adapter(folder: Path, tensors: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    """Write a PEFT folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(lora_tensors() if tensors is None else tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(lora_config(**changes)), "utf-8")
    return folder


def safetensors_file(header: object, body: bytes = b"") -> bytes:
    """The bytes of a file with any header one likes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body

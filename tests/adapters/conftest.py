"""Adapters of random weights, and PEFT's opinion of what they should answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapterd.adapters.base import load_base, target_modules
from adapterd.adapters.kernels import kernels
from adapterd.adapters.store import AdapterWeights
from peft import LoraConfig, get_peft_model

MakeAdapter = Callable[..., AdapterWeights]

# On matrices as small as the tiny base's a second thread only costs.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def reference(tiny_base_folder: Path, device: str) -> Any:
    """The tiny base, loaded once, for plain forwards and PEFT to compare with; never wrapped by an engine."""
    return load_base(tiny_base_folder, quantization="none", device=device).model


@pytest.fixture(scope="session")
def compiled() -> None:
    """The loops of both types, so that no example of a property waits for them."""
    for dtype in (torch.float32, torch.bfloat16):
        kernels(dtype)


@pytest.fixture(scope="session")
def make_adapter(reference: Any) -> MakeAdapter:
    """`make_adapter(seed, rank=4, only=None)`: an adapter strong enough to change what the tiny base says."""
    shapes = {
        name: (module.in_features, module.out_features)
        for name in target_modules(reference)
        for module in [reference.get_submodule(name)]
    }

    def make(seed: int, rank: int = 4, only: tuple[str, ...] | None = None, strength: float = 1.0) -> AdapterWeights:
        generator = torch.Generator().manual_seed(seed)
        layers = {
            name: (
                torch.randn(rank, inner, generator=generator) / inner**0.5,
                strength * torch.randn(outer, rank, generator=generator) / rank**0.5,
            )
            for name, (inner, outer) in shapes.items()
            if only is None or name.rpartition(".")[2] in only
        }
        return AdapterWeights(rank=rank, scaling=1.0, layers=layers)

    return make


@pytest.fixture
def peft_model(reference: Any) -> Any:
    """`peft_model(weights)`: the reference with one adapter, as PEFT applies it."""
    wrapped: list[Any] = []

    def make(weights: AdapterWeights) -> Any:
        while wrapped:
            wrapped.pop().unload()
        alpha = int(weights.scaling * weights.rank)
        config = LoraConfig(r=weights.rank, lora_alpha=alpha, target_modules=list(weights.layers))
        model = get_peft_model(reference, config)
        wrapped.append(model)
        for name, (a, b) in weights.layers.items():
            layer = reference.get_submodule(name)
            layer.lora_A["default"].weight.data.copy_(a)
            layer.lora_B["default"].weight.data.copy_(b)
        return model.eval()

    yield make
    while wrapped:
        wrapped.pop().unload()

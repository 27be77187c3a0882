"""Unpacked weights are the quantized ones' values; those that stay quantized can be trained through."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from adapterd.adapters import base as base_module
from adapterd.adapters.base import load_base
from adapterd.adapters.unpacking import should_unpack, unpack
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_answers_are_the_same(tiny_base_folder: Path, quantization: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_module, "should_unpack", lambda *_: False)
    model = load_base(tiny_base_folder, quantization=quantization, device="cpu").model
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        packed = model(input_ids=ids).logits
        assert unpack(model, torch.float32) == 14
        plain = model(input_ids=ids).logits
    torch.testing.assert_close(plain, packed, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, Linear4bit | Linear8bitLt) for module in model.modules())


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_what_fits_into_a_quarter_of_the_devices_memory_is_unpacked(
    tiny_base_folder: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_module, "should_unpack", lambda *_: False)
    model = load_base(tiny_base_folder, quantization="nf4", device="cpu").model
    weights = sum(layer.in_features * layer.out_features for layer in model.modules() if isinstance(layer, Linear4bit))
    for room, dtype, fits in (
        (16 * weights, torch.float32, True),
        (16 * weights - 1, torch.float32, False),
        (8 * weights, torch.bfloat16, True),
        (8 * weights - 1, torch.bfloat16, False),
    ):
        has = SimpleNamespace(total=room, total_memory=room)
        monkeypatch.setattr("psutil.virtual_memory", lambda has=has: has)
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda _device, has=has: has)
        assert should_unpack(model, torch.device(device), dtype) == fits


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_gradients_flow_through_layers_that_stay_quantized_after_threads_have_answered_with_them(
    tiny_base_folder: Path, quantization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a training process, which judges first, rows beside each other in threads, and trains then."""
    monkeypatch.setattr(base_module, "should_unpack", lambda *_: False)
    ids = torch.arange(5, 21)[None]
    losses, gradients = {}, {}
    for threads in (1, 8):
        base = load_base(tiny_base_folder, quantization=quantization, device="cpu")

        @torch.inference_mode()
        def answer(_: int, model: Any = base.model) -> float:
            loss: float = model(ids, labels=ids).loss.item()
            return loss

        with ThreadPoolExecutor(threads) as pool:
            losses[threads] = list(pool.map(answer, range(16)))
        embedded = base.model.get_input_embeddings()(ids).detach().requires_grad_()
        base.model(inputs_embeds=embedded, labels=ids).loss.backward()
        assert embedded.grad is not None
        gradients[threads] = embedded.grad
    assert losses[8] == pytest.approx([losses[1][0]] * 16, rel=1e-4)
    unpack(base.model, torch.float32)
    exact = base.model.get_input_embeddings()(ids).detach().requires_grad_()
    base.model(inputs_embeds=exact, labels=ids).loss.backward()
    assert exact.grad is not None
    for gradient in gradients.values():
        assert ((gradient - exact.grad).norm() / exact.grad.norm()).item() < 1e-4


def test_a_base_is_loaded_unpacked_where_it_should_be_and_keeps_its_fingerprint(
    tiny_base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = {}
    for wanted in (False, True):
        monkeypatch.setattr(base_module, "should_unpack", lambda *_, wanted=wanted: wanted)
        loaded[wanted] = load_base(tiny_base_folder, quantization="nf4", device="cpu")
    assert loaded[True].fingerprint == loaded[False].fingerprint
    assert not any(isinstance(module, Linear4bit) for module in loaded[True].model.modules())
    assert not any(weight.requires_grad for weight in loaded[True].model.parameters())

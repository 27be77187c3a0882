"""Unpacked weights are the packed ones' values, and unpacking is for processors that cannot multiply by packed ones."""

from pathlib import Path

import pytest
import torch
from adapterd.adapters import base as base_module
from adapterd.adapters.base import load_base
from adapterd.adapters.unpacking import has_packed_kernels, should_unpack, unpack
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

AVX2 = "processor : 0\nflags : fpu avx2\n"
AVX512 = "processor : 0\nflags : fpu avx2 avx512_bf16\n"


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


def test_only_a_cpu_without_kernels_unpacks_and_only_what_fits(
    tiny_base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_module, "should_unpack", lambda *_: False)
    model = load_base(tiny_base_folder, quantization="nf4", device="cpu").model
    cpu = torch.device("cpu")
    assert should_unpack(model, cpu, torch.float32, AVX2)
    assert not should_unpack(model, cpu, torch.float32, AVX512)
    assert not should_unpack(model, torch.device("cuda"), torch.float16, AVX2)
    monkeypatch.setattr("adapterd.adapters.unpacking.SHARE_OF_MEMORY", 1e-12)
    assert not should_unpack(model, cpu, torch.float32, AVX2)


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


def test_kernels_are_a_matter_of_every_processor() -> None:
    assert has_packed_kernels(AVX512 + AVX512)
    assert not has_packed_kernels(AVX512 + AVX2)
    assert not has_packed_kernels("")

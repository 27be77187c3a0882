"""Packed layers compute what plain ones do, and give their weights back as they were."""

import pytest
import torch
from adapterd.adapters import packing
from adapterd.adapters.base import Base
from adapterd.adapters.engine import Engine
from adapterd.adapters.packing import pack, packs
from torch import nn

CPU = torch.device("cpu")

DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if packs(CPU, dtype)]

pytestmark = pytest.mark.skipif(not packs(CPU, torch.float32), reason="this build of torch has no oneDNN")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [1, 2, 7, 32, 300])
def test_a_packed_layer_computes_what_the_plain_one_does(bias: bool, tokens: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = [
        nn.Linear(48, 80, bias=bias).to(dtype),
        nn.Linear(48, 7).to(dtype),
        nn.Linear(48, 16, bias=bias).to(dtype),
    ]
    x = torch.randn(1, tokens, 48, dtype=dtype)
    for some in (layers[:1], layers):
        packed = pack(some)
        assert packed is not None
        with torch.inference_mode():
            expected = torch.cat([layer(x) for layer in some], dim=-1)
            torch.testing.assert_close(packed(x), expected)
            torch.testing.assert_close(packed(x[0]), expected[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inner", [576, 1024, 1536])
@pytest.mark.parametrize("out", [96, 960])
def test_a_token_gets_the_same_bits_alone_and_among_any_number(out: int, inner: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    packed = pack([nn.Linear(inner, out - 32).to(dtype), nn.Linear(inner, 32).to(dtype)])
    assert packed is not None
    x, residual = torch.randn(60, inner).to(dtype), torch.randn(60, out).to(dtype)
    with torch.inference_mode():
        whole, sums = packed(x), packed.added_to(residual, x)
        for count in (1, 2, 3, 5, 15, 20, 35):
            parts = [slice(at, at + count) for at in range(0, 60, count)]
            assert torch.equal(torch.cat([packed(x[None, part])[0] for part in parts]), whole)
            assert torch.equal(torch.cat([packed.added_to(residual[part], x[part]) for part in parts]), sums)


@pytest.mark.parametrize("dtype", DTYPES)
def test_unpacking_gives_the_very_layers_back(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(33, 65).to(dtype), nn.Linear(33, 3, bias=False).to(dtype)]
    packed = pack(layers)
    assert packed is not None
    for again, layer in zip(packed.plain(), layers, strict=True):
        assert torch.equal(again.weight, layer.weight)
        assert (again.bias is None) if layer.bias is None else torch.equal(again.bias, layer.bias)
        assert not again.weight.requires_grad
        again(torch.randn(2, 33, dtype=dtype, requires_grad=True)).sum().backward()  # as a trainer would


def test_what_is_no_plain_float_layer_stays_as_it_is() -> None:
    half, plain = nn.Linear(4, 4).to(torch.float16), nn.Linear(4, 4)
    assert pack([half]) is None
    assert pack([plain, nn.LayerNorm(4)]) is None
    assert not packs(CPU, torch.float16)
    assert not packs(torch.device("cuda"), torch.float32)


def test_a_torch_without_one_of_the_operations_packs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert packs(CPU, torch.float32)
    for missing in (("_linear_pointwise", "ternary"), ("_linear_quadratic", "default")):
        monkeypatch.setattr(packing, "_OPS", (missing,))
        assert not packs(CPU, torch.float32)


def test_the_engine_packs_the_base_and_gives_it_back_as_it_was(tiny_base: Base) -> None:
    before = {name: weight.clone() for name, weight in tiny_base.model.state_dict().items()}
    engine = Engine(tiny_base, slots=2, max_rank=8, max_batch=2, max_queue=2, max_context=64)
    plain = [name for name, module in tiny_base.model.named_modules() if type(module) is nn.Linear]
    assert plain == ["lm_head"]
    engine.stop()
    after = tiny_base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())

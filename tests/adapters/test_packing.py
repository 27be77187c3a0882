"""Packed layers compute what plain ones do, and give their weights back as they were."""

import pytest
import torch
from adapterd.adapters.base import Base
from adapterd.adapters.engine import Engine
from adapterd.adapters.packing import PackedLinear, pack, packs, unpack
from torch import nn

CPU = torch.device("cpu")

DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if packs(CPU, dtype)]

pytestmark = pytest.mark.skipif(not packs(CPU, torch.float32), reason="this build of torch has no oneDNN")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [1, 2, 7, 32, 300])
def test_a_packed_layer_computes_what_the_plain_one_does(bias: bool, tokens: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(48, 80, bias=bias).to(dtype)
    packed = pack(plain)
    assert isinstance(packed, PackedLinear)
    x = torch.randn(1, tokens, 48, dtype=dtype)
    with torch.inference_mode():
        torch.testing.assert_close(packed(x), plain(x))
        torch.testing.assert_close(packed(x[0]), plain(x[0]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_unpacking_gives_the_very_weights_back(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(33, 65).to(dtype)
    again = unpack(pack(plain))
    assert torch.equal(again.weight, plain.weight)
    assert torch.equal(again.bias, plain.bias)
    assert not again.weight.requires_grad
    again(torch.randn(2, 33, dtype=dtype, requires_grad=True)).sum().backward()  # as a trainer would


def test_what_is_no_plain_float_layer_stays_as_it_is() -> None:
    half = nn.Linear(4, 4).to(torch.float16)
    other = nn.LayerNorm(4)
    assert (pack(half), pack(other), unpack(other)) == (half, other, other)
    assert not packs(CPU, torch.float16)
    assert not packs(torch.device("cuda"), torch.float32)


def test_the_engine_packs_the_base_and_gives_it_back_as_it_was(tiny_base: Base) -> None:
    before = {name: weight.clone() for name, weight in tiny_base.model.state_dict().items()}
    engine = Engine(tiny_base, slots=2, max_rank=8, max_batch=2, max_queue=2, max_context=64)
    kinds = {type(module) for module in tiny_base.model.modules()}
    assert PackedLinear in kinds
    engine.stop()
    after = tiny_base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())

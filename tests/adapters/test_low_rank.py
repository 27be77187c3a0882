"""Adapters in oneDNN's layout add what plain ones add."""

from collections.abc import Sequence

import pytest
import torch
from adapterd.adapters.low_rank import FEW_RANKS, Factors, FloatFactors, PackedFactors, fastest, side_by_side
from adapterd.adapters.packing import pack, packs
from adapterd.adapters.slot_layers import SlotGroup
from torch import Tensor, nn

CPU = torch.device("cpu")
DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if packs(CPU, dtype)]
Form = type[PackedFactors] | type[FloatFactors]
FORMS: tuple[Form, ...] = (PackedFactors, FloatFactors)
INNER, OUTERS = 48, (32, 16, 64)


def factors(dtype: torch.dtype, ranks: Sequence[int]) -> Factors:
    """An adapter with a rank for each layer of the group, 0 where it has none."""
    ends = [sum(ranks[: place + 1]) for place in range(len(ranks))]
    spans = tuple((end - rank, end) for end, rank in zip(ends, ranks, strict=True))
    ups = tuple(torch.randn(rank, outer).to(dtype) for rank, outer in zip(ranks, OUTERS, strict=True))
    return Factors(torch.randn(sum(ranks), INNER).to(dtype), ups, spans)


def foreign(owners: Sequence[int], tokens: Sequence[int]) -> Tensor:
    return torch.tensor(tokens).unsqueeze(1) != torch.tensor(owners)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_other_forms_of_adapters_add_what_plain_ones_add(form: Form, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    plain = side_by_side({1: factors(dtype, (4, 0, 8)), 3: factors(dtype, (2, 2, 2))})
    assert plain is not None
    mask = foreign(plain.owners, [1, 0, 3, 3, 1])
    x = torch.randn(1, 5, INNER).to(dtype)
    expected, got = (torch.randn(1, 5, sum(OUTERS)).to(dtype) for _ in range(2))
    got.copy_(expected)
    expected = plain.add(x, expected, mask)
    got = form.of(plain).add(x, got, mask)
    torch.testing.assert_close(got, expected, atol=0.15 if dtype == torch.bfloat16 else 1e-5, rtol=0.02)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_adapter_that_overflows_spoils_no_other_token(form: Form, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    wild = factors(dtype, (4, 4, 4))
    wild.down.fill_(torch.finfo(dtype).max)
    mixed = side_by_side({1: factors(dtype, (4, 4, 4)), 2: wild})
    assert mixed is not None
    y = torch.zeros(1, 3, sum(OUTERS), dtype=dtype)
    x = torch.randn(1, 3, INNER).abs().to(dtype)
    y = form.of(mixed).add(x, y, foreign(mixed.owners, [1, 2, 0]))
    assert not y[0, 1].isfinite().all()
    assert y[0, 0].isfinite().all()
    assert not y[0, 2].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_siblings_in_any_order_give_what_each_layer_gives(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(INNER, outer).to(dtype) for outer in OUTERS]
    group = SlotGroup(("q", "k", "v"), pack(layers))
    own = factors(dtype, (4, 4, 4))
    group.select(group.laid_out(own), None)
    alone = [SlotGroup((name,), pack([layer])) for name, layer in zip("qkv", layers, strict=True)]
    for place, one in enumerate(alone):
        one.select(one.laid_out(Factors(own.down[4 * place : 4 * place + 4], (own.ups[place],), ((0, 4),))), None)
    with torch.inference_mode():
        for x in (torch.randn(1, 3, INNER).to(dtype), torch.randn(1, 1, INNER).to(dtype)):
            for place in (2, 0, 1, 1):
                torch.testing.assert_close(
                    group.output(x, place),
                    alone[place].output(x, 0),
                    atol=0.15 if dtype == torch.bfloat16 else 1e-5,
                    rtol=0.02,
                )


def test_few_ranks_are_computed_in_float32_and_many_in_the_bases_precision() -> None:
    few, many = factors(torch.bfloat16, (FEW_RANKS, 0, 4)), factors(torch.bfloat16, (FEW_RANKS + 1, 0, 4))
    assert isinstance(fastest(few, torch.bfloat16), FloatFactors)
    plain = factors(torch.float32, (4, 4, 4))
    assert fastest(plain, torch.float32) is plain
    if torch.bfloat16 in DTYPES:
        assert isinstance(fastest(many, torch.bfloat16), PackedFactors)

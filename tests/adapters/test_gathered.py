"""Gathered adapters add what dense products do, and to each token the same bits in any company."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from adapterd.adapters.gathered import GatheredFactors, Gathering, PackedGroup
from adapterd.adapters.low_rank import Factors, GroupWeights
from adapterd.adapters.packing import PackedLinear, packs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

CPU = torch.device("cpu")
DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if packs(CPU, dtype)]
INNER, OUTERS = 48, (32, 16, 64)
MANY = 32
RANKS = {1: (4, 0, 8), 2: (3, 3, 3), 5: (2, 4, 2)}

pytestmark = pytest.mark.usefixtures("compiled")


def factors(dtype: torch.dtype, ranks: Sequence[int], seed: int = 0) -> Factors:
    """An adapter with a rank for each layer of the group, 0 where it has none."""
    generator = torch.Generator().manual_seed(seed)
    ends = [sum(ranks[: place + 1]) for place in range(len(ranks))]
    spans = tuple((end - rank, end) for end, rank in zip(ends, ranks, strict=True))
    ups = tuple(
        torch.randn(rank, outer, generator=generator).to(dtype) for rank, outer in zip(ranks, OUTERS, strict=True)
    )
    return Factors(torch.randn(sum(ranks), INNER, generator=generator).to(dtype), ups, spans)


def laid_out(own: Factors) -> GatheredFactors:
    layers = [
        (own.down[begin:end], up.t()) if end > begin else None
        for (begin, end), up in zip(own.spans, own.ups, strict=True)
    ]
    return GatheredFactors.of(GroupWeights(layers, INNER, [up.shape[1] for up in own.ups], 1.0), own.down.dtype)


def crowd(dtype: torch.dtype) -> dict[int, Factors]:
    return {slot: factors(dtype, ranks, seed=slot) for slot, ranks in RANKS.items()}


def group_of(adapters: Mapping[int, Factors]) -> PackedGroup:
    """A group whose layers give nothing, so that what it gives is what adapters add."""
    dtype = next(iter(adapters.values())).down.dtype
    layers = [nn.Linear(INNER, outer, bias=False).to(dtype) for outer in OUTERS]
    for layer in layers:
        nn.init.zeros_(layer.weight)
    group = PackedGroup(("q", "k", "v"), PackedLinear(layers))
    group.slots |= {slot: laid_out(own) for slot, own in adapters.items()}
    return group


def route(group: PackedGroup, slots: Sequence[int], lengths: Sequence[int]) -> Gathering:
    gathering = Gathering([group], 9)
    for slot in group.slots:
        gathering.write(slot)
    gathering.route(slots, lengths)
    return gathering  # which holds what the group was told


def added(adapters: Mapping[int, Factors], x: Tensor, slots: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """What the factors add for x [N, in]."""
    group = group_of(adapters)
    kept = route(group, slots, lengths)
    with torch.inference_mode():
        y = group.outputs(x)
        torch.testing.assert_close(group.added_to(torch.zeros_like(y), x), y, rtol=0, atol=0, equal_nan=True)
    del kept
    return y


def densely(own: Factors, x: Tensor) -> Tensor:
    """The same by the dense form, one adapter."""
    y = torch.zeros(len(x), sum(OUTERS), dtype=x.dtype)
    hidden = own.hidden(x, None)
    for place, part in enumerate(y.split_with_sizes(OUTERS, dim=-1)):
        own.add_up(hidden, part, place)
    return y


@pytest.mark.parametrize("tokens", [1, 4])
def test_a_forward_of_other_tokens_than_were_told_of_is_refused(tokens: int) -> None:
    group = group_of(crowd(DTYPES[0]))
    kept = route(group, (1, 2), (1, 1))
    with pytest.raises(ValueError, match="told of 2"):
        group.outputs(torch.zeros(tokens, INNER, dtype=DTYPES[0]))
    del kept


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("slots", "lengths"),
    [
        ((1,), (1,)),
        ((1, 0, 5, 2, 1), (1, 1, 1, 1, 1)),
        ((2, 1, 2, 0), (1, 3, MANY + 5, 4)),
        ((0, 5, 0, 1), (2, MANY, MANY, 1)),
        ((7, 0), (3, 2)),
    ],
    ids=["one token", "many adapters", "a long prompt in between", "base and prompts", "nobody's"],
)
def test_gathered_adapters_add_what_dense_ones_add(
    dtype: torch.dtype, slots: tuple[int, ...], lengths: tuple[int, ...]
) -> None:
    adapters = crowd(dtype)
    x = torch.randn(sum(lengths), INNER, generator=torch.Generator().manual_seed(9)).to(dtype)
    parts = [
        densely(adapters[slot], rows) if slot in adapters else torch.zeros(len(rows), sum(OUTERS), dtype=dtype)
        for slot, rows in zip(slots, x.split_with_sizes(list(lengths)), strict=True)
    ]
    got, expected = added(adapters, x, slots, lengths), torch.cat(parts)
    torch.testing.assert_close(got, expected, atol=0.1 if dtype == torch.bfloat16 else 1e-4, rtol=0.02)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_threads_share_has_the_same_bits(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters, slots, lengths = crowd(dtype), (1, 0, 5, 2), (5, 2, 1, 7)
    x = torch.randn(sum(lengths), INNER, generator=torch.Generator().manual_seed(9)).to(dtype)
    alone = added(adapters, x, slots, lengths)
    monkeypatch.setattr("adapterd.adapters.team._SHARED", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert torch.equal(added(adapters, x, slots, lengths), alone)


@pytest.mark.parametrize("dtype", DTYPES)
@given(asked=st.lists(st.tuples(st.sampled_from([0, *RANKS]), st.integers(1, MANY + 2)), min_size=1, max_size=6))
@settings(max_examples=40)
def test_a_token_gets_the_same_bits_alone_and_in_any_company(dtype: torch.dtype, asked: list[tuple[int, int]]) -> None:
    adapters = crowd(dtype)
    slots, lengths = zip(*asked, strict=True)
    x = torch.randn(sum(lengths), INNER, generator=torch.Generator().manual_seed(9)).to(dtype)
    together = added(adapters, x, slots, lengths)
    parts = zip(slots, x.split_with_sizes(lengths), together.split_with_sizes(lengths), strict=True)
    for slot, rows, got in parts:
        if slot in adapters:
            assert torch.equal(got, added({slot: adapters[slot]}, rows, [slot], [len(rows)]))
        else:
            assert not got.any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_tokens_in_pieces_get_the_same_bits_as_together(dtype: torch.dtype) -> None:
    group = group_of({1: factors(dtype, (8, 8, 8))})
    x = torch.randn(70, INNER, generator=torch.Generator().manual_seed(9)).to(dtype)

    def given(rows: Tensor) -> Tensor:
        kept = route(group, (1,), (len(rows),))
        with torch.inference_mode():
            y = group.outputs(rows)
        del kept
        return y

    whole = given(x)
    for pieces in ([1, 2, 3, 64], [5, 33, 32], [7] * 10):
        assert torch.equal(torch.cat([given(rows) for rows in x.split_with_sizes(pieces)]), whole)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, MANY])
def test_an_adapter_that_overflows_spoils_no_other_token(dtype: torch.dtype, length: int) -> None:
    adapters = crowd(dtype)
    adapters[2].down.fill_(torch.finfo(dtype).max)
    x = torch.randn(3 * length, INNER, generator=torch.Generator().manual_seed(9)).abs().to(dtype)
    first, wild, base = added(adapters, x, (1, 2, 0), (length,) * 3).split_with_sizes([length] * 3)
    assert not wild.isfinite().all()
    assert first.isfinite().all()
    assert not base.any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_siblings_in_any_order_give_what_each_layer_gives(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(INNER, outer).to(dtype) for outer in OUTERS]
    own = factors(dtype, (4, 4, 4))
    group = PackedGroup(("q", "k", "v"), PackedLinear(layers))
    alone = [PackedGroup((name,), PackedLinear([layer])) for name, layer in zip("qkv", layers, strict=True)]
    group.slots[1] = laid_out(own)
    for place, one in enumerate(alone):
        part = Factors(own.down[4 * place : 4 * place + 4], (own.ups[place],), ((0, 4),))
        one.slots[1] = laid_out(part)
    with torch.inference_mode():
        for x in (torch.randn(1, 3, INNER).to(dtype), torch.randn(1, 1, INNER).to(dtype)):
            kept = [route(one, (1,), (x.shape[1],)) for one in (group, *alone)]
            for place in (2, 0, 1, 1):
                torch.testing.assert_close(
                    group.output(x, place),
                    alone[place].output(x, 0),
                    atol=0.15 if dtype == torch.bfloat16 else 1e-5,
                    rtol=0.02,
                )
            del kept

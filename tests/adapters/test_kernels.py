"""Compiled loops compute what torch does, each token by itself."""

import pytest
import torch
import torch.nn.functional as F
from adapterd.adapters.kernels import compile_ahead, kernels
from adapterd.adapters.loops import RANK_STEP
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16)
NAN, INF = float("nan"), float("inf")

pytestmark = [pytest.mark.parametrize("dtype", DTYPES, ids=str), pytest.mark.usefixtures("compiled")]


def drawn(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def near(found: Tensor, expected: Tensor) -> None:
    """Rounded once from what float64 gives."""
    error = 2.0**-7 if found.dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(found.double(), expected, rtol=error, atol=error, equal_nan=True)


@given(rows=st.integers(1, 9), width=st.integers(1, 130))
@settings(max_examples=30)
def test_norms(dtype: torch.dtype, rows: int, width: int) -> None:
    x, weight = 3 * drawn(rows, width, dtype=dtype), drawn(width, dtype=dtype, seed=1)
    found = kernels(dtype).normed(x, weight, 1e-5)
    near(found, F.rms_norm(x.double(), (width,), weight.double(), 1e-5))
    assert all(torch.equal(kernels(dtype).normed(x[i : i + 1], weight, 1e-5)[0], found[i]) for i in range(rows))


@given(rows=st.integers(1, 9), width=st.integers(1, 130))
@settings(max_examples=30)
def test_gates(dtype: torch.dtype, rows: int, width: int) -> None:
    both = 8 * drawn(rows, 2 * width, dtype=dtype)
    found = kernels(dtype).gated(both)
    gate, up = both.double().chunk(2, dim=-1)
    near(found / 64, F.silu(gate) * up / 64)
    assert all(torch.equal(kernels(dtype).gated(both[i : i + 1])[0], found[i]) for i in range(rows))


def test_a_gate_far_from_zero_is_shut_or_open_and_what_is_no_number_stays_so(dtype: torch.dtype) -> None:
    gates = torch.tensor([-300.0, -100.0, -90.0, 0.0, 90.0, 300.0, INF, NAN, 1.0, -1e30] * 3, dtype=dtype)
    found = kernels(dtype).gated(torch.cat([gates, torch.ones_like(gates)])[None])[0]
    expected = F.silu(gates.double())
    torch.testing.assert_close(found.double(), expected, rtol=0.005, atol=1e-6, equal_nan=True)


@given(
    tokens=st.integers(1, 6), kv_heads=st.integers(1, 3), share=st.integers(1, 3), half=st.sampled_from([2, 8, 16, 32])
)
@settings(max_examples=30)
def test_turned_queries_come_back_and_keys_and_values_lie_in_the_cache(
    dtype: torch.dtype, tokens: int, kv_heads: int, share: int, half: int
) -> None:
    heads, size = kv_heads * share, 2 * half
    qkv = drawn(tokens, heads + 2 * kv_heads, size, dtype=dtype)
    cos, sin = drawn(tokens, size, dtype=dtype, seed=1), drawn(tokens, size, dtype=dtype, seed=2)
    keys, values = (torch.zeros(tokens + 1, kv_heads, 16, size, dtype=dtype) for _ in range(2))
    places = torch.tensor([[tokens - token, 3 * token % 16] for token in range(tokens)])
    queries = kernels(dtype).rotated(qkv, (cos, sin), places, keys, values, heads)
    turned = qkv[:, : heads + kv_heads].double()
    other = torch.cat([-turned[..., half:], turned[..., :half]], dim=-1)
    turned = turned * cos.double()[:, None] + other * sin.double()[:, None]
    near(queries, turned[:, :heads])
    for token, (row, column) in enumerate(places.tolist()):
        near(keys[row, :, column], turned[token, heads:])
        assert torch.equal(values[row, :, column], qkv[token, heads + kv_heads :])
    assert keys.count_nonzero() <= tokens * kv_heads * size  # and nothing anywhere else


@given(seen=st.lists(st.integers(1, 37), min_size=1, max_size=5), kv_heads=st.integers(1, 3), share=st.integers(1, 3))
@settings(max_examples=30)
def test_attention(dtype: torch.dtype, seen: list[int], kv_heads: int, share: int) -> None:
    tokens, heads, size = len(seen), kv_heads * share, 16
    queries = 3 * drawn(tokens, heads, size, dtype=dtype)
    keys, values = (drawn(tokens, kv_heads, 40, size, dtype=dtype, seed=seed) for seed in (1, 2))
    places = torch.tensor([[tokens - 1 - token, count - 1] for token, count in enumerate(seen)])
    for row, last in places.tolist():
        keys[row, :, last + 1 :] = values[row, :, last + 1 :] = NAN  # not theirs to see
    found = torch.empty_like(queries)
    kernels(dtype).attended(queries, places, keys, values, 0.25, found, seen)
    for token, (row, last) in enumerate(places.tolist()):
        query = queries[token, :, None].double()
        own_keys, own_values = (
            side[row, :, : last + 1].double().repeat_interleave(share, 0) for side in (keys, values)
        )
        near(found[token], F.scaled_dot_product_attention(query, own_keys, own_values, scale=0.25)[:, 0])
        alone = torch.empty_like(queries[:1])
        kernels(dtype).attended(
            queries[token : token + 1], places[token : token + 1], keys, values, 0.25, alone, [last + 1]
        )
        assert torch.equal(alone[0], found[token])


def test_attention_that_threads_share_has_the_same_bits(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, keys, values = (drawn(3, 4, 200, 16, dtype=dtype, seed=seed) for seed in range(3))
    queries = queries[:, :, 0].contiguous()
    alone, shared = torch.empty_like(queries), torch.full_like(queries, NAN)
    places, seen = torch.tensor([[2, 199], [0, 150], [1, 9]]), [200, 151, 10]
    kernels(dtype).attended(queries, places, keys, values, 0.25, alone, seen)
    monkeypatch.setattr("adapterd.adapters.team._SHARED", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    kernels(dtype).attended(queries, places, keys, values, 0.25, shared, seen)
    assert torch.equal(shared, alone)


@pytest.mark.parametrize("where", ["query", "key", "value"])
@pytest.mark.parametrize("what", [NAN, INF])
def test_attention_to_what_is_not_finite_is_not_finite(dtype: torch.dtype, where: str, what: float) -> None:
    queries, keys, values = (drawn(2, 1, 9, 16, dtype=dtype, seed=seed) for seed in range(3))
    queries = queries[:, :, 0].contiguous()
    {"query": queries, "key": keys, "value": values}[where][1, 0, ..., 5] = what
    found = torch.empty_like(queries)
    kernels(dtype).attended(queries, torch.tensor([[0, 8], [1, 8]]), keys, values, 0.25, found, [9, 9])
    assert found[0].isfinite().all()
    assert not found[1].isfinite().all()


@given(
    ranks=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    inner=st.integers(1, 70),
    widths=st.lists(st.integers(1, 70), min_size=1, max_size=3),
)
@settings(max_examples=30)
def test_adapters(dtype: torch.dtype, ranks: list[int], inner: int, widths: list[int]) -> None:
    x, y = drawn(len(ranks), inner, dtype=dtype), drawn(len(ranks), sum(widths), dtype=dtype, seed=1)
    matrices, expected = [], []
    for token, rank in enumerate(steps * RANK_STEP for steps in ranks):
        downs = [0.2 * drawn(rank, inner, dtype=dtype, seed=2 + token) for _ in widths]
        ups = [0.2 * drawn(rank, width, dtype=dtype, seed=9 + token) for width in widths]
        matrices.append(torch.cat([matrix.flatten() for matrix in (*downs, *ups)]))
        products = [x[token].double() @ down.double().t() @ up.double() for down, up in zip(downs, ups, strict=True)]
        expected.append(y[token].double() + torch.cat(products))
    told = zip(matrices, ranks, strict=True)
    places = [[own.data_ptr() if own.numel() else 0, steps * RANK_STEP] for own, steps in told]
    table = torch.tensor([[token, *place] for token, place in enumerate(places)])[torch.randperm(len(ranks))]
    before = y.clone()
    kernels(dtype).add_low_rank(x, table.data_ptr(), len(table), int(table[:, 2].sum()), torch.tensor(widths), y)
    near(y, torch.stack(expected))
    for token, place in enumerate(places):
        alone, only = before[token : token + 1].clone(), torch.tensor([[0, *place]])
        kernels(dtype).add_low_rank(x[token : token + 1], only.data_ptr(), 1, place[1], torch.tensor(widths), alone)
        assert torch.equal(alone[0], y[token])


def test_memory_of_another_form_is_never_gone_through(dtype: torch.dtype) -> None:
    wrong = torch.zeros(4, 6, dtype=torch.float16), torch.zeros(6, 4, dtype=dtype).t()
    for x in wrong:
        with pytest.raises(ValueError, match="a loop for"):
            kernels(dtype).normed(x, torch.ones(6, dtype=dtype), 1e-5)
        with pytest.raises(ValueError, match="a loop for"):
            kernels(dtype).gated(x)


def test_they_are_compiled_once(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapterd.adapters.kernels.compute_dtype", lambda _device: dtype)
    before = kernels(dtype)
    compile_ahead("cpu")
    assert kernels(dtype) is before

"""Distances of adapters, against the products written out."""

import pytest
import torch
from adapterd.adapters.distance import moves
from adapterd.adapters.peft_files import AdapterWeights


def adapter(seed: int, names: tuple[str, ...], rank: int = 3, scaling: float = 2.0) -> AdapterWeights:
    generator = torch.Generator().manual_seed(seed)
    layers = {
        name: (torch.randn(rank, 6, generator=generator), torch.randn(5, rank, generator=generator)) for name in names
    }
    return AdapterWeights(rank, scaling, layers)


def test_norms_are_those_of_the_products_whatever_ranks_and_scales() -> None:
    older, newer = adapter(0, ("a", "b")), adapter(1, ("b", "c"), rank=4, scaling=0.5)

    def product(weights: AdapterWeights, name: str) -> torch.Tensor:
        if name not in weights.layers:
            return torch.zeros(5, 6)
        a, b = weights.layers[name]
        return weights.scaling * b @ a

    for moved in moves(older, newer):
        before, after = product(older, moved.layer), product(newer, moved.layer)
        assert moved.norm == pytest.approx(float(before.norm()), rel=1e-5)
        assert moved.change == pytest.approx(float((after - before).norm()), rel=1e-5)
    assert [moved.layer for moved in moves(older, newer)] == ["a", "b", "c"]


def test_another_factorisation_of_the_same_product_has_not_moved() -> None:
    older = adapter(0, ("a",))
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5)))
    a, b = older.layers["a"]
    newer = AdapterWeights(older.rank, older.scaling, {"a": (turn @ a, b @ turn.T)})
    assert moves(older, newer)[0].change == pytest.approx(0.0, abs=1e-3)

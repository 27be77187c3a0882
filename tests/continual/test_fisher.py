"""The Fisher information and the penalty made of it."""

import pytest
import torch
from adapterd.continual.batches import collate, completion_losses
from adapterd.continual.fisher import accumulate, estimate_fisher, ewc_penalty
from adapterd.continual.template import Encoded
from peft import PeftModel
from torch import Tensor, nn

ROWS = [
    Encoded([5, 9, 13], [20, 2]),
    Encoded([7, 8, 30, 31, 4], [21, 22, 2]),
    Encoded([6], [40, 41, 42, 2]),
]


def test_estimate_equals_the_mean_of_squared_gradients_taken_row_by_row(tiny_lora: PeftModel) -> None:
    expected = {name: torch.zeros_like(w) for name, w in tiny_lora.named_parameters() if w.requires_grad}
    for row in ROWS:
        completion_losses(tiny_lora, collate([row], tiny_lora.device)).sum().backward()  # type: ignore[no-untyped-call]
        for name, weight in tiny_lora.named_parameters():
            if weight.requires_grad:
                assert weight.grad is not None
                expected[name] += weight.grad.square() / len(ROWS)
        tiny_lora.zero_grad()
    found = estimate_fisher(tiny_lora, [collate(ROWS[:2], tiny_lora.device), collate(ROWS[2:], tiny_lora.device)])
    assert found.keys() == expected.keys()
    assert sum(float(value.sum()) for value in found.values()) > 0
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-9)


def test_estimate_leaves_no_hooks_and_no_gradients(tiny_lora: PeftModel) -> None:
    estimate_fisher(tiny_lora, [collate(ROWS, tiny_lora.device)])
    assert all(weight.grad is None for weight in tiny_lora.parameters())
    assert all(not module._forward_hooks and not module._backward_hooks for module in tiny_lora.modules())


def test_estimate_refuses_weights_that_are_not_of_linear_layers() -> None:
    with pytest.raises(ValueError, match="linear layers"):
        estimate_fisher(nn.Sequential(nn.LayerNorm(4)), [])


def test_accumulate_decays_the_older_information_and_counts_every_drop_the_same() -> None:
    older = {"a": torch.tensor([2.0])}
    newer = {"a": torch.tensor([1.0]), "b": torch.tensor([3.0])}  # mean 2
    total = accumulate(older, newer, 0.5)
    assert (total["a"].item(), total["b"].item()) == (1.5, 1.5)
    louder = {name: 100 * value for name, value in newer.items()}
    assert accumulate(older, louder, 0.5) == total
    assert accumulate(None, newer, 0.5) == {"a": torch.tensor([0.5]), "b": torch.tensor([1.5])}
    assert accumulate(None, {"a": torch.zeros(1)}, 0.5) == {"a": torch.zeros(1)}


def penalty_at(weights: list[float], fisher: list[float], strength: float, delta: float) -> tuple[Tensor, Tensor]:
    """The penalty and its gradient for a layer of two weights whose anchor is zero."""
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weights]))
    penalty = ewc_penalty(
        layer, {"weight": torch.tensor([fisher])}, {"weight": torch.zeros(1, 2)}, strength, {"weight": delta}
    )
    penalty.backward()  # type: ignore[no-untyped-call]
    assert layer.weight.grad is not None
    return penalty.detach(), layer.weight.grad


def test_penalty_is_half_lambda_when_every_weight_moves_by_delta_whatever_the_fishers_scale() -> None:
    for scale in (1.0, 1e-6):
        penalty, gradient = penalty_at([0.2, -0.2], [3.0 * scale, 0.5 * scale], strength=10.0, delta=0.2)
        assert penalty.item() == pytest.approx(5.0)
        # lambda F_i (theta_i - theta*_i) / (sum F delta^2)
        torch.testing.assert_close(gradient, torch.tensor([[10 * 3 * 0.2, 10 * 0.5 * -0.2]]) / (3.5 * 0.04))


def test_nothing_that_matters_costs_nothing() -> None:
    layer = nn.Linear(2, 1, bias=False)
    nothing = {"weight": torch.zeros(1, 2)}
    penalty = ewc_penalty(layer, nothing, nothing, 1.0, {"weight": 0.1})
    assert penalty.item() == 0.0


def test_a_weight_that_may_go_further_pays_no_more_for_going_as_far_as_it_can() -> None:
    a, b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    model = nn.ModuleDict({"a": a, "b": b})
    zero = {f"{name}.weight": torch.zeros(1, 1) for name in "ab"}
    with torch.no_grad():
        a.weight.fill_(0.1)
        b.weight.fill_(0.8)
    fisher = {name: torch.ones(1, 1) for name in zero}
    penalty = ewc_penalty(model, fisher, zero, 6.0, {"a.weight": 0.1, "b.weight": 0.8})
    assert penalty.item() == pytest.approx(3.0)

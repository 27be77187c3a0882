"""Rows that skip the frozen layers give what rows that go through all of them give."""

import pytest
import torch
from adapterd.adapters.base import Base, target_modules
from adapterd.continual.batches import Decode, collate, completion_losses, decoder_and_head
from adapterd.continual.frozen_layers import FrozenLayers, skip_frozen_layers
from adapterd.continual.template import Encoded
from peft import LoraConfig, PeftModel, get_peft_model

ROWS = [Encoded([5, 9, 13, 17], [20, 2]), Encoded([7], [21, 2]), Encoded([6, 6, 8], [40, 41, 2])]


@pytest.fixture
def upper_lora(tiny_base: Base) -> PeftModel:
    """The tiny base with an adapter, not at its beginning, on its topmost layer only."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=target_modules(tiny_base.model, 0.01), init_lora_weights=False)
    return get_peft_model(tiny_base.model, config)


def losses(model: PeftModel, rows: list[Encoded], decode: Decode | None = None) -> torch.Tensor:
    return completion_losses(model, collate(rows, model.device), decode)


def gradients(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def test_losses_and_gradients_are_those_of_all_layers_the_first_time_and_later(upper_lora: PeftModel) -> None:
    plain = losses(upper_lora, ROWS)
    plain.sum().backward()  # type: ignore[no-untyped-call]
    expected = gradients(upper_lora)
    decode = skip_frozen_layers(upper_lora)
    for _ in range(2):
        upper_lora.zero_grad()
        quick = losses(upper_lora, ROWS, decode)
        torch.testing.assert_close(quick, plain, rtol=1e-5, atol=1e-6)
        quick.sum().backward()  # type: ignore[no-untyped-call]
        for name, gradient in gradients(upper_lora).items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_each_row_goes_through_the_frozen_layers_once_whatever_batch_it_comes_in(upper_lora: PeftModel) -> None:
    decoder, _ = decoder_and_head(upper_lora)
    passed: list[int] = []
    decoder.layers[0].register_forward_pre_hook(lambda _layer, args: passed.append(args[0].shape[0]))  # type: ignore[index, union-attr]
    decode = skip_frozen_layers(upper_lora)
    with torch.inference_mode():
        losses(upper_lora, ROWS[:2], decode)
    losses(upper_lora, ROWS, decode).sum().backward()  # type: ignore[no-untyped-call]
    losses(upper_lora, ROWS[1:], decode)
    assert passed == [2, 1]


def test_rows_beyond_the_budget_are_computed_anew_and_give_the_same(upper_lora: PeftModel) -> None:
    decoder, _ = decoder_and_head(upper_lora)
    plain = losses(upper_lora, ROWS)
    tight = FrozenLayers(decoder, 1, budget_bytes=1)
    for _ in range(2):
        torch.testing.assert_close(losses(upper_lora, ROWS, tight.last_hidden), plain)


def test_an_adapter_on_every_layer_leaves_nothing_to_skip(tiny_lora: PeftModel) -> None:
    plain = losses(tiny_lora, ROWS)
    torch.testing.assert_close(losses(tiny_lora, ROWS, skip_frozen_layers(tiny_lora)), plain)


def test_the_base_and_other_adapters_of_the_same_layers_share_what_is_kept(upper_lora: PeftModel) -> None:
    decode = skip_frozen_layers(upper_lora)
    adapted = losses(upper_lora, ROWS, decode)
    with upper_lora.disable_adapter():
        base = losses(upper_lora, ROWS, decode)
        torch.testing.assert_close(base, losses(upper_lora, ROWS))
    assert not torch.allclose(base, adapted)

"""Slots add, for each token, what PEFT adds for its adapter, and for the base nothing at all."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from adapterd.adapters.base import Base
from adapterd.adapters.errors import CorruptVersion
from adapterd.adapters.lora import SlotBank, attach
from adapterd.adapters.slot_layers import SlotLinear
from adapterd.adapters.store import AdapterWeights
from torch import Tensor

MakeAdapter = Callable[..., AdapterWeights]

TOKENS = torch.tensor([[5, 90, 17, 200, 33], [61, 9, 250, 4, 12], [7, 7, 130, 8, 90]])


@pytest.fixture(params=["plain", "packed", "grouped"])
def bank(tiny_base: Base, request: pytest.FixtureRequest) -> SlotBank:
    """Layers as they are, where the machine can siblings packed as one, and the former with grouped products."""
    packed, grouped = (request.param == kind for kind in ("packed", "grouped"))
    return attach(tiny_base.model, slots=4, max_rank=8, packed=packed, grouped_products=grouped)


def logits(base: Base, bank: SlotBank, slots: Sequence[int], tokens: Tensor = TOKENS) -> Tensor:
    many = [bank._grouping is not None] * len(slots)  # as of long prompts
    bank.route(slots, [tokens.shape[1]] * len(slots), many)
    with torch.inference_mode():
        output: Tensor = base.model(tokens.to(base.model.device), use_cache=False).logits
    return output


def peft_logits(model: Any, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = model(tokens.to(model.device), use_cache=False).logits
    return output


def test_rows_of_different_adapters_get_what_peft_gives_each(
    tiny_base: Base, bank: SlotBank, make_adapter: MakeAdapter, peft_model: Any, reference: Any
) -> None:
    adapters = {1: make_adapter(1, rank=4), 3: make_adapter(3, rank=8)}
    for slot, weights in adapters.items():
        bank.write(slot, bank.prepare(weights))
    mixed = logits(tiny_base, bank, [3, 0, 1])
    torch.testing.assert_close(mixed[1:2], peft_logits(reference, TOKENS[1:2]), atol=1e-4, rtol=1e-4)
    for row, slot in ((0, 3), (2, 1)):
        expected = peft_logits(peft_model(adapters[slot]), TOKENS[row : row + 1])
        torch.testing.assert_close(mixed[row : row + 1], expected, atol=1e-4, rtol=1e-4)


def test_a_batch_of_one_adapter_gets_what_peft_gives(
    tiny_base: Base, bank: SlotBank, make_adapter: MakeAdapter, peft_model: Any
) -> None:
    weights = make_adapter(5, rank=3)
    bank.write(2, bank.prepare(weights))
    expected = peft_logits(peft_model(weights), TOKENS)
    torch.testing.assert_close(logits(tiny_base, bank, [2, 2, 2]), expected, atol=1e-4, rtol=1e-4)


def test_an_adapter_on_some_layers_leaves_the_others_alone(
    tiny_base: Base, bank: SlotBank, make_adapter: MakeAdapter, peft_model: Any
) -> None:
    sparse, full = make_adapter(6, only=("k_proj", "up_proj")), make_adapter(7)
    bank.write(1, bank.prepare(sparse))
    bank.write(2, bank.prepare(full))
    expected = peft_logits(peft_model(sparse), TOKENS)
    torch.testing.assert_close(logits(tiny_base, bank, [1, 1, 1]), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits(tiny_base, bank, [1, 2, 1])[::2], expected[::2], atol=1e-4, rtol=1e-4)


def test_the_base_alone_is_untouched_to_the_last_bit(
    tiny_base: Base, make_adapter: MakeAdapter, reference: Any
) -> None:
    bank = attach(tiny_base.model, slots=4, max_rank=8)
    bank.write(1, bank.prepare(make_adapter(1)))
    logits(tiny_base, bank, [1, 0, 1])
    assert torch.equal(logits(tiny_base, bank, [0, 0, 0]), peft_logits(reference, TOKENS))


def test_a_slot_written_again_gives_the_new_adapter(tiny_base: Base, bank: SlotBank, make_adapter: MakeAdapter) -> None:
    old, new, other = make_adapter(1), make_adapter(2), make_adapter(3)
    bank.write(1, bank.prepare(new))
    bank.write(2, bank.prepare(other))
    expected = logits(tiny_base, bank, [1, 2, 1])
    bank.write(1, bank.prepare(old))
    assert not torch.allclose(logits(tiny_base, bank, [1, 2, 1]), expected)
    bank.write(1, bank.prepare(new))
    torch.testing.assert_close(logits(tiny_base, bank, [1, 2, 1]), expected)


def test_a_shrinking_mix_keeps_its_answers(tiny_base: Base, bank: SlotBank, make_adapter: MakeAdapter) -> None:
    for slot in (1, 2, 3, 4):
        bank.write(slot, bank.prepare(make_adapter(slot, rank=2 * slot)))
    alone = {slot: logits(tiny_base, bank, [slot], TOKENS[:1]) for slot in (1, 2, 3, 4)}
    for mix in ([1, 2, 3, 4], [4, 3, 2], [4, 2], [2, 1], [1]):
        got = logits(tiny_base, bank, mix, TOKENS[:1].expand(len(mix), -1))
        for row, slot in enumerate(mix):
            torch.testing.assert_close(got[row : row + 1], alone[slot], atol=1e-4, rtol=1e-4)


def test_an_adapter_that_overflows_spoils_no_other_row(
    tiny_base: Base, bank: SlotBank, make_adapter: MakeAdapter
) -> None:
    bank.write(1, bank.prepare(make_adapter(1)))
    healthy = logits(tiny_base, bank, [1, 0, 1])
    bank.write(2, bank.prepare(make_adapter(2, strength=1e37)))
    mixed = logits(tiny_base, bank, [1, 2, 1])
    assert not mixed[1].isfinite().all()
    torch.testing.assert_close(mixed[::2], healthy[::2], atol=1e-4, rtol=1e-4)


def test_an_emptied_slot_is_refused_and_its_memory_free(
    tiny_base: Base, bank: SlotBank, make_adapter: MakeAdapter
) -> None:
    bank.write(1, bank.prepare(make_adapter(1)))
    assert 1 in bank
    bank.clear(1)
    assert 1 not in bank
    assert not any(group.slots for group in bank._groups)
    with pytest.raises(ValueError, match="slot 1 holds no adapter"):
        bank.route([1], [1])


@pytest.mark.parametrize("slot", [0, 5])
def test_the_base_slot_and_those_beyond_are_never_written(bank: SlotBank, make_adapter: MakeAdapter, slot: int) -> None:
    with pytest.raises(ValueError, match="not among 1 to 4"):
        bank.write(slot, bank.prepare(make_adapter(1)))


def test_weights_that_do_not_fit_are_refused(bank: SlotBank, make_adapter: MakeAdapter) -> None:
    good = make_adapter(1)
    name, (a, b) = next(iter(good.layers.items()))
    wrong = {
        "no linear layer": {"model.layers.9.self_attn.q_proj": (a, b)},
        "belong": {name: (a[:, :-1], b)},
        "not finite": {name: (a, torch.full_like(b, float("nan")))},
    }
    for message, layers in wrong.items():
        with pytest.raises(CorruptVersion, match=message):
            bank.prepare(dataclasses.replace(good, layers=layers))
    with pytest.raises(CorruptVersion, match="rank 9"):
        bank.prepare(make_adapter(1, rank=9))


def test_an_adapter_is_bounded_while_no_layer_gets_much_more_than_it_gives(
    bank: SlotBank, make_adapter: MakeAdapter
) -> None:
    plain = make_adapter(1)
    assert bank.prepare(plain).bounded
    for name in (next(iter(plain.layers)), list(plain.layers)[-1]):  # a single one is enough
        a, b = plain.layers[name]
        harmful = dataclasses.replace(plain, layers={**plain.layers, name: (a, 1e6 * b)})
        assert not bank.prepare(harmful).bounded
    bank._norms = {}  # as where the base's weights are not plain
    assert not bank.prepare(plain).bounded


def test_what_is_bounded_gives_finite_values_whatever_is_read(
    tiny_base: Base, bank: SlotBank, make_adapter: MakeAdapter
) -> None:
    strength = 1.0
    while (prepared := bank.prepare(make_adapter(1, strength=strength))).bounded:
        bank.write(1, prepared)
        strength *= 2
    assert strength > 10
    tokens = torch.randint(0, int(tiny_base.model.config.vocab_size), (4, 64))
    assert logits(tiny_base, bank, [1] * 4, tokens).isfinite().all()


def test_wrapping_copies_no_weights_and_is_undone(tiny_base: Base, reference: Any) -> None:
    before = {name: p.data_ptr() for name, p in tiny_base.model.named_parameters()}
    bank = attach(tiny_base.model, slots=1, max_rank=8)
    assert {p.data_ptr() for p in tiny_base.model.parameters()} == set(before.values())
    with pytest.raises(ValueError, match="already"):
        attach(tiny_base.model, slots=1, max_rank=8)
    bank.detach()
    assert not any(isinstance(module, SlotLinear) for module in tiny_base.model.modules())
    assert {name: p.data_ptr() for name, p in tiny_base.model.named_parameters()} == before


def test_shapes_name_every_linear_layer_but_the_head(bank: SlotBank) -> None:
    assert bank.shapes["model.layers.0.self_attn.k_proj"] == (64, 32)
    assert bank.shapes["model.layers.1.mlp.down_proj"] == (128, 64)
    assert len(bank.shapes) == 14

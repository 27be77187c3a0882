"""The model of a training process: where an adapter begins, and how it grows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from adapterd.adapters.base import Base, load_base
from adapterd.continual.recipe import Hyperparameters
from adapterd.daemon.trainer_model import as_subject, fisher_of, lora_config, plain_name, with_adapter
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

SMALL = Hyperparameters(rank=2, alpha=4, layers=1.0)
IDS = torch.arange(5, 25).reshape(2, 10)


@pytest.fixture
def load(tiny_base_folder: Path) -> Callable[[], Base]:
    return lambda: load_base(tiny_base_folder, quantization="none", device="cpu")


def publish(base: Base, folder: Path, **changes: Any) -> torch.Tensor:
    """A version of rank 2 with weights and Fisher information in all places; returns what it says."""
    torch.manual_seed(3)
    config: LoraConfig = lora_config(base.model, SMALL)
    for name, value in changes.items():
        setattr(config, name, value)
    model = get_peft_model(base.model, config)
    with torch.no_grad():
        for _, weight in model.named_parameters():
            if weight.requires_grad:
                weight.normal_(std=0.1)
    model.save_pretrained(str(folder), safe_serialization=True)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: torch.rand_like(value) + 0.1 for name, value in weights.items()}, folder / "fisher.safetensors")
    return says(model)


def rank_of(model: Any) -> int:
    return int(model.peft_config["default"].r)


def says(model: Any) -> torch.Tensor:
    model.eval()
    with torch.inference_mode():
        found: torch.Tensor = model(IDS).logits
    return found


@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_that_grows_says_at_first_what_it_said(
    load: Callable[[], Base], tmp_path: Path, rslora: bool
) -> None:
    before = publish(load(), tmp_path, use_rslora=rslora)
    model = with_adapter(load(), tmp_path, replace(SMALL, rank=6))
    assert rank_of(model) == 6
    torch.testing.assert_close(says(model), before, rtol=1e-4, atol=1e-5)
    with as_subject(model, "champion"):
        torch.testing.assert_close(says(model), before, rtol=1e-4, atol=1e-5)
    trainable = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert all(6 in weight.shape for weight in trainable.values())


def test_what_has_grown_does_not_matter_yet(load: Callable[[], Base], tmp_path: Path) -> None:
    publish(load(), tmp_path)
    model = with_adapter(load(), tmp_path, replace(SMALL, rank=6))
    fisher = fisher_of(tmp_path, model)
    assert fisher is not None
    kept = load_file(tmp_path / "fisher.safetensors")
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            assert fisher[name].shape == weight.shape
            assert torch.count_nonzero(fisher[name]) == kept[plain_name(name)].numel()


def test_an_adapter_never_shrinks(load: Callable[[], Base], tmp_path: Path) -> None:
    before = publish(load(), tmp_path)
    model = with_adapter(load(), tmp_path, replace(SMALL, rank=1))
    assert rank_of(model) == 2
    torch.testing.assert_close(says(model), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [2, 6])
def test_a_later_version_trains_with_the_dropout_that_is_set(
    load: Callable[[], Base], tmp_path: Path, rank: int
) -> None:
    publish(load(), tmp_path)
    model: Any = with_adapter(load(), tmp_path, replace(SMALL, rank=rank, dropout=0.5))
    said = says(model)
    model.train()
    assert not torch.equal(model(IDS).logits, said)
    assert model.peft_config["default"].lora_dropout == 0.5
    without = with_adapter(load(), tmp_path, replace(SMALL, rank=rank))
    without.train()
    torch.testing.assert_close(without(IDS).logits, said)


def test_an_imported_version_brings_no_fisher(load: Callable[[], Base], tmp_path: Path) -> None:
    publish(load(), tmp_path)
    (tmp_path / "fisher.safetensors").unlink()
    assert fisher_of(tmp_path, with_adapter(load(), tmp_path, SMALL)) is None

"""The model that a training process holds: the base with the candidate, trainable, and the champion frozen beside it.

PEFT calls the candidate's adapter "default", and that name stands in its parameters' names while they are in memory; in
files it does not.
"""

import contextlib
import copy
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file

from ..adapters.base import Base, target_modules
from ..continual.fisher import Weights
from ..continual.recipe import Hyperparameters

CANDIDATE = "default"
_CHAMPION = "champion"


def lora_config(model: torch.nn.Module, hp: Hyperparameters) -> LoraConfig:
    """A fresh adapter's configuration for the base `model`."""
    return LoraConfig(
        r=hp.rank,
        lora_alpha=hp.alpha,
        lora_dropout=hp.dropout,
        target_modules=target_modules(model, hp.layers),
        task_type=TaskType.CAUSAL_LM,
    )


def with_adapter(base: Base, parent: Path | None, hp: Hyperparameters) -> PeftModel:
    """The base with the champion's adapter, trainable, and a frozen copy beside it; or with a fresh adapter.

    An adapter of a lower rank than `hp.rank` grows to it, and says at first what it said before; one of a higher rank
    stays as it is. Its layers and its scale are the champion's.
    """
    torch.manual_seed(hp.seed)
    if parent is not None:
        older = LoraConfig.from_pretrained(str(parent))
        assert isinstance(older, LoraConfig)  # the store publishes nothing else
        older.lora_dropout = hp.dropout  # how it trains, and no part of what it is
        if hp.rank > older.r:
            model = _grown(base, parent, older, hp.rank)
        else:
            model = PeftModel.from_pretrained(
                base.model, str(parent), is_trainable=True, config=older, use_safetensors=True
            )
        model.load_adapter(str(parent), adapter_name=_CHAMPION, is_trainable=False, use_safetensors=True)
        model.set_adapter(CANDIDATE)
        return model
    return get_peft_model(base.model, lora_config(base.model, hp))


def _grown(base: Base, parent: Path, older: LoraConfig, rank: int) -> PeftModel:
    """The champion's adapter with more rows of A, which are random, and more columns of B, which are zero.

    alpha grows with the rank, so that the product is scaled as before.
    """
    config = copy.deepcopy(older)
    growth = rank / older.r
    # PEFT divides alpha by the rank, or by its square root.
    config.lora_alpha = older.lora_alpha * (math.sqrt(growth) if older.use_rslora else growth)  # type: ignore[assignment]
    config.r, config.inference_mode = rank, False
    model = get_peft_model(base.model, config)
    kept = load_file(parent / "adapter_model.safetensors")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight[_corner(kept[plain_name(name)])] = kept[plain_name(name)].to(weight)
    return model


def _corner(smaller: torch.Tensor) -> tuple[slice, ...]:
    """Where a matrix of a lower rank stands in one of a higher."""
    return tuple(slice(size) for size in smaller.shape)


@contextlib.contextmanager
def as_subject(model: PeftModel, subject: str) -> Iterator[None]:
    """Let the model answer as the candidate, the champion or the base."""
    if subject == "base":
        with model.disable_adapter():
            yield
        return
    model.set_adapter(_CHAMPION if subject == "champion" else CANDIDATE, inference_mode=True)
    try:
        yield
    finally:
        model.set_adapter(CANDIDATE, inference_mode=True)


def plain_name(name: str) -> str:
    """A parameter's name as PEFT saves it, without the name of the adapter in it."""
    return name.replace(f".{CANDIDATE}.", ".")


def fisher_of(version: Path, model: torch.nn.Module) -> Weights | None:
    """The Fisher kept with a version, under the names and in the shapes of `model`; None for an imported version, which
    brings none. What an adapter has grown by since does not matter yet.
    """
    path = version / "fisher.safetensors"
    if not path.is_file():
        return None
    kept = load_file(path)
    fisher = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad and plain_name(name) in kept:
            value = kept[plain_name(name)]
            fisher[name] = torch.zeros_like(weight, dtype=torch.float32, requires_grad=False)
            fisher[name][_corner(value)] = value.to(weight.device)
    return fisher

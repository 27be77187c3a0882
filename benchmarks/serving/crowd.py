"""Adapters for the engine and its peers to serve: random ones, on every linear layer of the base."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from adapterd.adapters.base import Base, target_modules
from adapterd.adapters.catalog import Served, VersionInfo
from adapterd.adapters.manager import Manager
from adapterd.adapters.refs import CHAMPION
from adapterd.adapters.states import VersionState
from adapterd.adapters.store import WEIGHTS, AdapterWeights, Store
from adapterd.continual.shapes import Kind
from adapterd.continual.template import Template
from safetensors.torch import save_file
from torch import Tensor, nn

RANK, ALPHA = 8, 16
# A and B draw from normal distributions of this width: an answer changes, and none overflows.
_SPREAD = 0.1


@dataclass(frozen=True)
class Member:
    """A published version of the crowd."""

    task: str
    version: int
    digest: str


class Crowd:
    """A store below `folder` that versions are published to."""

    def __init__(self, base: Base, folder: Path) -> None:
        self._base = base
        self._folder = folder
        self._shapes = shapes_of(base.model)
        self.store = Store(folder / "adapters")

    @property
    def adapter_bytes(self) -> int:
        """What one adapter takes in the type that the base computes in."""
        width = self._base.compute_dtype.itemsize
        return sum(RANK * (inner + outer) * width for inner, outer in self._shapes.values())

    def publish(self, task: str, version: int, seed: int) -> Member:
        """A version with weights drawn from `seed`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        weights = self._folder / WEIGHTS
        save_file(dict(random_weights(self._shapes, seed)), weights)
        manifest = {"task": task, "version": version, "base": {"fingerprint": self._base.fingerprint}}
        digest = self.store.publish(
            task,
            version,
            weights=weights,
            config=peft_config(self._shapes),
            template=Template(Kind.PROMPT, (), False).to_json(),
            manifest=manifest,
            fisher=None,
        )
        return Member(task, version, digest)


def know(manager: Manager, members: list[Member], champion: int | None) -> None:
    """Tell the manager of one task's versions, and which of them is the champion, if any."""
    task, digests = members[0].task, {one.version: one.digest for one in members}
    available = VersionState.AVAILABLE
    manager.set_versions(task, {number: VersionInfo(number, digest, available) for number, digest in digests.items()})
    manager.set_aliases(task, {} if champion is None else {CHAMPION: Served(champion, digests[champion])})


def in_memory(shapes: dict[str, tuple[int, int]], seed: int) -> AdapterWeights:
    """The same weights as `random_weights` of that seed, as the engine takes them."""
    weights = dict(random_weights(shapes, seed))
    layers = {name: tuple(weights[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB") for name in shapes}
    return AdapterWeights(RANK, ALPHA / RANK, layers)  # type: ignore[arg-type]


def shapes_of(model: nn.Module, share: float = 1.0) -> dict[str, tuple[int, int]]:
    """(in, out) of each linear layer in the upper `share` of the stack."""
    layers = ((name, model.get_submodule(name)) for name in target_modules(model, share))
    return {name: (int(layer.in_features), int(layer.out_features)) for name, layer in layers}  # type: ignore[arg-type]


def random_weights(shapes: dict[str, tuple[int, int]], seed: int) -> Iterator[tuple[str, Tensor]]:
    """LoRA weights as PEFT names them."""
    source = torch.Generator().manual_seed(seed)
    for name, (inner, outer) in shapes.items():
        yield f"base_model.model.{name}.lora_A.weight", torch.randn(RANK, inner, generator=source) * _SPREAD
        yield f"base_model.model.{name}.lora_B.weight", torch.randn(outer, RANK, generator=source) * _SPREAD


def peft_config(shapes: dict[str, tuple[int, int]]) -> dict[str, object]:
    """`adapter_config.json` of these weights."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": sorted({name.rpartition(".")[2] for name in shapes}),
        "base_model_name_or_path": "",
        "bias": "none",
        "inference_mode": True,
    }

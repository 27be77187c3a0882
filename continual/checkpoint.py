"""Where a training stands, on disk: safetensors for weights and moments, JSON for the rest; never pickle.

A checkpoint is one file, replaced by rename, so that a kill at any moment leaves the old one or the new one.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .validation import Look

_FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Counters of the recipe: `step` steps are done. `lowest` is the look of lowest loss; None before the first.

    `cooling_from`: after which step patience was used up; None while it is not.
    """

    step: int = 0
    best_step: int = 0
    lowest: Look | None = None
    looks_without_gain: int = 0
    tokens: int = 0
    cooling_from: int | None = None

    def looked(self, now: Look) -> "Checkpoint":
        """The counters after a look at the validation rows: the weights of this step are the best, unless earlier ones
        were better beyond chance.
        """
        if self.lowest is None or now.loss < self.lowest.loss:
            return replace(self, best_step=self.step, lowest=now, looks_without_gain=0)
        best = self.best_step if self.lowest.beats(now) else self.step
        return replace(self, best_step=best, looks_without_gain=self.looks_without_gain + 1)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Checkpoint":
        """The inverse of `asdict`, by way of JSON. Raises `TypeError` or `KeyError` for anything else."""
        lowest = value["lowest"]
        return cls(**{**value, "lowest": lowest and Look(tuple(lowest["new"]), tuple(lowest["kept"]), lowest["rho"])})


def save_checkpoint(
    folder: Path,
    at: Checkpoint,
    theta: Mapping[str, nn.Parameter],
    best: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write weights, the best weights so far, and AdamW's two moments."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"weight/{name}": weight.detach().contiguous() for name, weight in theta.items()}
    tensors |= {f"best/{name}": weight.contiguous() for name, weight in best.items()}
    for name, weight in theta.items():
        for moment, value in _moments(optimizer, weight):
            tensors[f"{moment}/{name}"] = value.contiguous()
    temp = folder / f".{_FILE}.{os.getpid()}"
    save_file(tensors, temp, metadata={"at": json.dumps(asdict(at))})
    with temp.open("rb") as file:
        os.fsync(file.fileno())
    temp.replace(folder / _FILE)


def load_checkpoint(
    folder: Path, theta: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[Checkpoint, dict[str, Tensor]] | None:
    """Restore weights and moments in place; returns the counters and the best weights, or None without a checkpoint.

    A checkpoint that cannot be read, or that belongs to other weights, counts as none: the training begins anew.
    """
    path = folder / _FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            at = Checkpoint.from_json(json.loads(file.metadata()["at"]))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None
    if any(f"weight/{name}" not in tensors for name in theta):
        return None
    with torch.no_grad():
        for name, weight in theta.items():
            weight.copy_(tensors[f"weight/{name}"])
    for name, weight in theta.items():
        optimizer.state[weight] = {
            "step": torch.tensor(float(at.step)),
            "exp_avg": tensors[f"exp_avg/{name}"].to(weight.device),
            "exp_avg_sq": tensors[f"exp_avg_sq/{name}"].to(weight.device),
        }
    return at, {name: tensors[f"best/{name}"].to(weight.device) for name, weight in theta.items()}


def _moments(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> Iterator[tuple[str, Tensor]]:
    state = optimizer.state[weight]
    yield "exp_avg", state["exp_avg"]
    yield "exp_avg_sq", state["exp_avg_sq"]

"""The adapter of a cell from drop to drop: where each begins, what stays frozen, and how all of it survives a stop."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from adapterd.adapters.base import Base
from adapterd.continual.fisher import Weights
from adapterd.continual.recipe import Hyperparameters, Penalty
from adapterd.daemon.trainer_model import lora_config
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.methods import Chain

# How strongly O-LoRA keeps subspaces apart; the paper's value.
_ORTHOGONALITY = 0.5


class AdapterChain:
    """A model with one trainable adapter, and the weights that it had after each drop, as `kind` chains them.

    `fisher` is the running sum of the version that the next drop begins from.
    """

    def __init__(self, base: Base, hp: Hyperparameters, kind: Chain) -> None:
        self._kind = kind
        torch.manual_seed(hp.seed)
        self.model: Any = get_peft_model(base.model, lora_config(base.model, hp))
        self.theta: Mapping[str, Tensor] = {
            name: weight for name, weight in self.model.named_parameters() if weight.requires_grad
        }
        """The adapter's weights themselves."""
        self._fresh = self.weights()
        self._frozen_a: list[dict[str, Tensor]] = []  # O-LoRA's earlier subspaces
        self._first_fisher: Weights | None = None
        self.fisher: Weights | None = None
        self.after: list[dict[str, Tensor]] = []
        """The weights after each drop that was trained."""

    def weights(self) -> dict[str, Tensor]:
        """A copy of the adapter's weights now."""
        return {name: weight.detach().clone() for name, weight in self.theta.items()}

    def put(self, weights: Mapping[str, Tensor]) -> None:
        """Set the adapter's weights."""
        with torch.no_grad():
            for name, weight in self.theta.items():
                weight.copy_(weights[name])

    def begin(self, t: int) -> None:
        """Where drop t begins: from the weights at hand, from the first drop's, or anew."""
        if self._kind == "continued" or t == 0:
            return
        if self._kind == "fan":
            self.put(self.after[0])
            self.fisher = self._first_fisher
            return
        if self._kind == "orthogonal":
            self._fold_in(self.after[-1])
        self.put(self._fresh)

    def end(self, file: Path) -> None:
        """Drop t is done: note the weights, and write them and the Fisher information to `file`."""
        self._note(self.weights(), self.fisher)
        tensors = {f"weight/{name}": value for name, value in self.after[-1].items()}
        tensors |= {f"fisher/{name}": value.contiguous() for name, value in (self.fisher or {}).items()}
        save_file(tensors, file)

    def resume(self, file: Path) -> None:
        """Take up what `end` wrote of the next drop."""
        self.begin(len(self.after))
        tensors = load_file(file, device=str(self.model.device))
        fisher = {name[7:]: value for name, value in tensors.items() if name.startswith("fisher/")}
        self._note({name[7:]: value for name, value in tensors.items() if name.startswith("weight/")}, fisher or None)
        self.put(self.after[-1])

    def _note(self, weights: dict[str, Tensor], fisher: Weights | None) -> None:
        self.after.append(weights)
        self.fisher = fisher
        self._first_fisher = self._first_fisher or fisher

    def penalty(self) -> Penalty | None:
        """O-LoRA's loss: sum over earlier drops and layers of |A_i A^T| (Wang et al. 2023, equation 7)."""
        if not self._frozen_a:
            return None
        frozen = self._frozen_a

        def penalty(theta: Mapping[str, Tensor]) -> Tensor:
            terms = [(before[name] @ theta[name].T).abs().sum() for before in frozen for name in before]
            return _ORTHOGONALITY * torch.stack(terms).sum()

        return penalty

    def _fold_in(self, weights: Mapping[str, Tensor]) -> None:
        """W += scaling B A of each layer, and remember A."""
        self._frozen_a.append({name: weight for name, weight in weights.items() if "lora_A" in name})
        for name, a in self._frozen_a[-1].items():
            layer = self.model.get_submodule(name.partition(".lora_A.")[0])
            b = weights[name.replace("lora_A", "lora_B")]
            base_layer = layer.get_base_layer()
            if type(base_layer) is not nn.Linear:
                raise SystemExit("olora folds adapters into the base, which packed weights do not take: use a CPU")
            with torch.no_grad():
                base_layer.weight += layer.scaling["default"] * (b @ a)

"""Which weights matter: the diagonal of the Fisher information, kept and accumulated over versions.

Kirkpatrick et al. (2017), "Overcoming catastrophic forgetting in neural networks", arXiv:1612.00796, penalise the
change of each weight by its Fisher information. Schwarz et al. (2018), "Progress & Compress", arXiv:1805.06370,
section 3.2, keep one running sum instead of one penalty for each past task ("online EWC"):

    F*_n = gamma * F*_{n-1} + F_n

and the penalty is the square distance from theta*_n, weighted by F*_n (see `ewc_penalty` for its scale).

F_n is the *empirical* Fisher: the mean over rows of the squared gradient of the row's negative log-likelihood, at the
given answers (not at answers drawn from the model; Kunstner et al. 2019, arXiv:1905.12558, discuss the difference).
"""

from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .batches import Batch, Decode, completion_losses

Weights = dict[str, Tensor]


def estimate_fisher(model: nn.Module, batches: Iterable[Batch], decode: Decode | None = None) -> Weights:
    """The diagonal empirical Fisher of every trainable weight, averaged over the rows of `batches`.

    `model` is a causal language model whose trainable weights all are `weight`s of `nn.Linear` layers, as LoRA's A and
    B are; raises `ValueError` for any other. Names are those of `model.named_parameters()`, shapes the weights' own.

    The gradient of row b is  dL_b/dW = sum_t g_bt x_bt^T  with g the gradient at the layer's output and x its input;
    rows do not mix before their losses are summed, so one backward pass gives the gradients of all rows of a batch.
    """
    squares: dict[str, Tensor] = {}
    hooks: list[RemovableHandle] = []
    modules = dict(model.named_modules())
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        module = modules[name.rpartition(".")[0]]
        if not isinstance(module, nn.Linear) or not name.endswith(".weight"):
            raise ValueError(f"Fisher information is defined here for weights of linear layers, not for {name}")
        squares[name] = torch.zeros_like(weight, dtype=torch.float32)
        hooks.append(module.register_forward_hook(partial(_when_output_has_its_gradient, squares[name])))
    rows = 0
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            completion_losses(model, batch, decode).sum().backward()  # type: ignore[no-untyped-call]
            model.zero_grad(set_to_none=True)
            rows += batch.rows
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return {name: total / max(rows, 1) for name, total in squares.items()}


def _when_output_has_its_gradient(total: Tensor, _layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
    """Forward hook: once the gradient at the output is known, add each row's squared weight gradient to `total`."""
    x = args[0].detach()  # [rows, tokens, in]

    def add(gradient: Tensor) -> None:  # [rows, tokens, out]
        total.add_(torch.einsum("bto,bti->boi", gradient.float(), x.float()).square_().sum(0))

    output.register_hook(add)  # type: ignore[no-untyped-call]


def accumulate(older: Mapping[str, Tensor] | None, newer: Mapping[str, Tensor], decay: float) -> Weights:
    """Online EWC's sum  gamma * F*_{n-1} + F_n, with F_n over its own mean so that every drop counts the same.

    How large gradients are says how well a drop was fitted, not how much it matters (Schwarz et al. 2018, section 3.2,
    normalise for the same reason). Weights that `older` does not know count as unimportant so far.
    """
    mean = sum(float(value.sum()) for value in newer.values()) / max(1, sum(value.numel() for value in newer.values()))
    scaled = {name: value / mean if mean else value for name, value in newer.items()}
    if older is None:
        return scaled
    return {
        name: decay * older[name] + value if name in older and older[name].shape == value.shape else value
        for name, value in scaled.items()
    }


def ewc_penalty(
    model: nn.Module,
    fisher: Mapping[str, Tensor],
    anchor: Mapping[str, Tensor],
    strength: float,
    reach: Mapping[str, float],
) -> Tensor:
    """lambda / 2 * mean_i F_i / mean(F) ((theta_i - theta*_i) / delta_i)^2, a scalar that carries gradients.

    The means are over the trainable weights that `fisher` knows; `reach` is delta by name. Moving each of them by its
    delta costs `strength` / 2.
    """
    moved = [
        (fisher[name] * (weight.float() - anchor[name]).square()).sum() / reach[name] ** 2
        for name, weight in model.named_parameters()
        if weight.requires_grad and name in fisher
    ]
    total = sum(float(fisher[name].sum()) for name, weight in model.named_parameters() if name in fisher)
    if not moved or not total:
        return torch.zeros(())
    return 0.5 * strength / total * torch.stack(moved).sum()

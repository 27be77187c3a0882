"""AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) and the rate of each of its steps."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import nn

# Steps from which on the rate is as it was set, and by what it is raised at most where there are fewer.
_STEPS_AT_RATE: Final = 100
_MOST_RAISED: Final = 2.0
# Steps in which the rate comes down to zero where a training stops early, over those that it has done.
_COOLDOWN: Final = 0.2


def adamw(theta: Mapping[str, nn.Parameter], *, weight_decay: float, loraplus_lr_ratio: float) -> torch.optim.Optimizer:
    """The optimizer of the weights of that name, a group for each `rate_ratio`; see `set_rate`."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, weight in theta.items():
        groups.setdefault(rate_ratio(name, loraplus_lr_ratio), []).append(weight)
    return torch.optim.AdamW(
        [{"params": weights, "ratio": ratio} for ratio, weights in groups.items()], weight_decay=weight_decay
    )


def rate_ratio(name: str, loraplus_lr_ratio: float) -> float:
    """By what the rate of a weight is multiplied: 1 but for LoRA's B (LoRA+, Hayou et al. 2024, arXiv:2402.12354)."""
    return loraplus_lr_ratio if ".lora_B." in name else 1.0


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of an `adamw`'s next step, before each group's ratio."""
    for group in optimizer.param_groups:
        group["lr"] = group["ratio"] * rate


def rates(learning_rate: float, steps: int, warmup: int) -> list[float]:
    """The rate of each step: (step + 1) / warmup of the peak at first, then linearly down to 0 after the last step."""
    peak, warmup = peak_rate(learning_rate, steps), min(warmup, max(1, steps // 4))
    rising = [peak * (step + 1) / warmup for step in range(min(warmup, steps))]
    return rising + [peak * (steps - step) / (steps - warmup) for step in range(len(rising), steps)]


def cooled_down(rate_of: Sequence[float], step: int) -> list[float]:
    """`rate_of` up to `step`, and from there down to 0 within a fifth as many steps, or as soon as it is there anyway.

    What is stopped at a high rate lies off the middle of the valley that the steps go to and fro in, and has a higher
    loss than a few smaller steps would leave (Hägele et al. 2024, arXiv:2405.18392, on how long a cooldown need be).
    """
    steps = min(math.ceil(_COOLDOWN * step), len(rate_of) - step)
    return [*rate_of[:step], *(min(rate_of[step + k], rate_of[step] * (steps - k) / steps) for k in range(steps))]


def peak_rate(learning_rate: float, steps: int) -> float:
    """The peak rate of a training of so many steps.

    Adam moves a weight by about its rate a step (Kingma & Ba 2015, arXiv:1412.6980, section 2.1), so that a training
    reaches no further than rate times steps: a drop of 80 rows, with its 36 to 60 steps, would hardly be learned.
    """
    return learning_rate * min(_MOST_RAISED, max(1.0, _STEPS_AT_RATE / steps))

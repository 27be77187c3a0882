"""Points on the way from one set of weights to another."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

#: Of the way from a champion to a candidate, where points that may be better than both are looked for.
PARTS: Final = (0.9, 0.75, 0.5, 0.25)


def go_part_way(
    theta: Mapping[str, Tensor], start: Mapping[str, Tensor], end: Mapping[str, Tensor], part: float
) -> None:
    """theta := start + part (end - start), in place; all by the parameter's name. The whole way is `end` to the bit."""
    with torch.no_grad():
        for name, weight in theta.items():
            weight.copy_(end[name] if part == 1.0 else torch.lerp(start[name].float(), end[name].float(), part))

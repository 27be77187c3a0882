"""How far two adapters are from each other, layer by layer, in what they add to the base."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .peft_files import AdapterWeights


@dataclass(frozen=True)
class Moved:
    """Of one layer: the Frobenius norms of what the older adapter adds to its weights, and of how that changed."""

    layer: str
    norm: float
    change: float


def moves(older: AdapterWeights, newer: AdapterWeights) -> list[Moved]:
    """Every layer that either changes, in the order of the layers' names as they stand in the adapters.

    The norms are those of the products scaling * B A, which do not depend on how a product is parted into B and A. They
    are computed from the factors (||B A||^2 = tr(B'B A A')), never from the products, in float64.
    """
    names = dict.fromkeys([*older.layers, *newer.layers])
    return [Moved(name, _norm([_factors(older, name)]), _norm(_difference(older, newer, name))) for name in names]


_Factors = tuple[Tensor, Tensor]


def _factors(weights: AdapterWeights, name: str, sign: float = 1.0) -> _Factors | None:
    if name not in weights.layers:
        return None
    a, b = weights.layers[name]
    return a.double(), sign * weights.scaling * b.double()


def _difference(older: AdapterWeights, newer: AdapterWeights, name: str) -> list[_Factors | None]:
    return [_factors(newer, name), _factors(older, name, -1.0)]


def _norm(parts: list[_Factors | None]) -> float:
    known = [part for part in parts if part is not None]
    if not known:
        return 0.0
    a = torch.cat([part[0] for part in known])
    b = torch.cat([part[1] for part in known], dim=1)
    return float(((b.T @ b) * (a @ a.T)).sum().clamp_min(0.0).sqrt())

"""Ways of taking one drop after the other, each by a few settings over the same recipe.

    sequential    goes on training on each drop alone
    ewc           ... with the EWC penalty
    replay        ... with rows of earlier drops, of which 5 % are kept, in an eighth of each batch
    ewc+replay    ... with both
    olora         a new adapter for each drop, orthogonal to the frozen ones before it (Wang et al. 2023,
                  arXiv:2310.14152)
    apart         an adapter for each drop, and at test time one is told which to ask: what isolation could reach
    joint         a fresh adapter trained on all rows so far: what one could reach, at a cost that grows
    ours          the default recipe

Each takes its own learning rate, the best on rows that are neither trained on nor tested with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Chain = Literal["continued", "orthogonal", "apart", "joint", "fan"]

# The recipe without anything that remembers.
_PLAIN: Mapping[str, Any] = {
    "replay_share": 0.0,
    "ewc_strength": 0.0,
    "anchor_weight": 0.0,
    "distillation": 0.0,
    "interpolate": False,
}
# As in the pilot that the targets come from: an eighth of each batch.
_LITTLE_REPLAY: Mapping[str, Any] = {"replay_share": 0.125, "replay_cost": 0.143}
_EWC: Mapping[str, Any] = {"ewc_strength": 1.0}


@dataclass(frozen=True)
class Method:
    """`settings`: what differs from the default recipe. `kept`: share of each earlier drop's rows that may be replayed.

    `gated`: whether a drop is learned only if the gate promotes the candidate, as in the daemon. A "fan" learns every
    drop from the first one's version, to see what the gate says of each.
    """

    name: str
    chain: Chain = "continued"
    settings: Mapping[str, Any] = field(default_factory=dict)
    kept: float = 1.0
    gated: bool = False


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("sequential", settings=_PLAIN),
        Method("ewc", settings={**_PLAIN, **_EWC}),
        Method("replay", settings={**_PLAIN, **_LITTLE_REPLAY}, kept=0.05),
        Method("ewc+replay", settings={**_PLAIN, **_LITTLE_REPLAY, **_EWC}, kept=0.05),
        Method("olora", "orthogonal", _PLAIN),
        Method("apart", "apart", _PLAIN),
        Method("joint", "joint", _PLAIN),
        Method("ours", gated=True),
    )
}

"""What a cell of the learning benchmark has found so far, as it is written down."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path


@dataclass
class StepFound:
    """What a step found. `scores[j]`: after this drop, on drop j's test rows, more is better; None where not measured.

    `tokens` went forward and backward. `new_tokens` are those of the drop's own training rows taken once, and `epochs`
    says how often training on them alone would have taken them.
    """

    name: str
    scores: list[float | None]
    losses: list[float | None]
    tokens: int
    new_tokens: int
    epochs: float
    seconds: float
    verdict: str
    reason: str
    part: float


@dataclass
class CellFound:
    """A cell's outcome so far; complete with as many steps as the stream has and `selection` measured."""

    base_scores: list[float] = field(default_factory=list)
    general_base: float = 0.0
    steps: list[StepFound] = field(default_factory=list)
    general: float | None = None
    selection: float | None = None
    joint_tokens: int = 0  # what retraining on everything would have taken at every drop, for a joint cell

    @classmethod
    def read(cls, path: Path) -> "CellFound":
        """From its file; an empty one if there is none."""
        if not path.is_file():
            return cls()
        value = json.loads(path.read_text("utf-8"))
        return cls(**{**value, "steps": [StepFound(**step) for step in value["steps"]]})

    def write(self, path: Path) -> None:
        """To its file, whole or not at all."""
        temp = path.with_suffix(".tmp")
        temp.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")
        temp.replace(path)


def retrained_tokens(steps: Sequence[StepFound]) -> int:
    """Tokens of training anew on everything at each drop, from a joint cell: it was trained at the last drop alone,
    whose new rows are those of all drops, and would have taken its share of that at each drop before."""
    *counted, final = steps
    so_far = accumulate(step.new_tokens for step in counted)
    return round(final.tokens * (sum(so_far) / final.new_tokens + 1))

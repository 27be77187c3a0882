"""A task's last drops learned over again with other hyper-parameters, to choose among these.

What is chosen by must be neither trained on nor be what the gate judges by, else a later verdict would be flattered: of
each drop's training rows a fifth is kept apart, and neither held-out rows nor the golden set are touched.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peft import PeftModel

from .batches import Decode
from .examples import Example
from .learner import Encoder, Material, choose_rows, remember
from .recipe import Hyperparameters, Step, train
from .replay import sample_replay
from .split import split
from .validation import row_losses

DROPS: Final = 2
"""How many of a task's last drops are learned: one, and one after it, so that forgetting counts."""

# Rows of a drop that are learned at most; a trial is to end in minutes.
_ROWS = 240
_APART = 0.2
_FEWEST_APART, _MOST_APART = 4, 60


@dataclass(frozen=True)
class Stage:
    """A drop to be learned: its rows to learn from, to stop by, and to choose hyper-parameters by."""

    drop: int
    train: list[Example]
    validation: list[Example]
    selection: list[Example]


def stages(learned: Mapping[int, tuple[Sequence[Example], Sequence[Example]]], seed: int) -> list[Stage]:
    """The last `DROPS` of `learned` (a drop's number to its training and validation rows, oldest first), made smaller
    where they are large, all labels alike.
    """
    found = []
    for drop, (training, validation) in list(learned.items())[-DROPS:]:
        few = sample_replay({drop: training}, _ROWS, seed)
        apart = min(_FEWEST_APART, max(1, len(few) // 2))
        rest, selection = split(few, _APART, seed + 2, apart, _MOST_APART)
        found.append(Stage(drop, rest, list(validation), selection))
    return found


def rehearse(
    model: PeftModel,
    learned: Sequence[Stage],
    encoder: Encoder,
    hp: Hyperparameters,
    *,
    general: Path,
    decode: Decode | None = None,
    report: Callable[[int, Step], None] = lambda _stage, _step: None,
) -> list[float]:
    """Let `model`, the base with a fresh adapter, learn one drop after the other as the daemon would.

    Returns the loss of every selection row of all drops after the last, in nats per completion token, always in the
    same order. `report` gets the stage, from 0, and the step. Raises as `recipe.train` does.
    """
    fisher = None
    for place, stage in enumerate(learned):
        before = {earlier.drop: earlier for earlier in learned[:place]}
        material = Material(
            drop=stage.drop,
            train=stage.train,
            validation=stage.validation,
            earlier_train={drop: earlier.train for drop, earlier in before.items()},
            earlier_validation={drop: earlier.validation for drop, earlier in before.items()},
        )
        rows = choose_rows(model, material, encoder, hp, general=general, decode=decode)

        def say(step: Step, place: int = place) -> None:
            report(place, step)

        train(model, rows, hp, fisher=fisher, decode=decode, report=say)
        if hp.ewc_strength:
            fisher = remember(model, material, encoder, hp, fisher=fisher, decode=decode)
    return row_losses(model, encoder([row for stage in learned for row in stage.selection]), decode)

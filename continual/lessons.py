"""Which rows each step of a training takes, and what each counts for: a function of the seed and the step alone.

What a drop costs is bounded in tokens, which is what time and memory go by, and does not depend on history: it is that
of `epochs` passes over its own rows and a part more where there is something to replay. Within that, rows are met about
as often as they count: with a history of three drops and more the new one has a quarter of the tokens, and earlier ones
the rest. General text comes on top, with no more than a tenth of the new rows' tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from .batches import epoch_order
from .teacher import Soft, Taught
from .template import Encoded

# Steps that a small drop's training shall have, and the rows that a batch has at least.
_STEPS_WANTED, _LEAST_BATCH = 32, 4
# Tokens of general text, over those of the new rows, at most: where rows are short, not every step has some.
_GENERAL_SHARE = 0.1
# Orders of new, replayed and general rows are drawn apart.
_NEW, _REPLAY, _GENERAL = 7919, 104_729, 1_299_709


@dataclass(frozen=True)
class Rows:
    """What is learned from: `new` rows of the drop, `replay` of `earlier` drops with what the champion said of them,
    `general` text with what the base said of it. `validation` rows of the drop, and `kept` ones of earlier drops,
    decide when to stop.
    """

    new: Sequence[Encoded]
    replay: Sequence[Taught] = ()
    general: Sequence[Taught] = ()
    validation: Sequence[Encoded] = ()
    kept: Sequence[Encoded] = ()
    earlier: int = 1


class Lesson(NamedTuple):
    """A row in a step: `weight` on its loss per completion token, `soft_weight` on its divergence from `soft`."""

    row: Encoded
    weight: float
    soft: Soft | None = None
    soft_weight: float = 0.0


def pace(rows: Sequence[Taught], most: float, tokens: float) -> float:
    """As many of `rows` a step as have `tokens` tokens, and not more than `most`; 0 if there are none.

    It need not be a whole number: 2.7 rows a step are 3 in most steps and 2 in the others, and 0.2 one in every fifth.
    """
    if not rows:
        return 0.0
    return min(most, tokens / _mean_length([taught.row for taught in rows]))


class Portions(NamedTuple):
    """How a training is parted between a drop's own rows, met `passes` times, and replayed ones, which have `replayed`
    times the tokens of the new rows taken once. `rho`: what earlier drops count for.
    """

    passes: float
    rho: float
    replayed: float

    @classmethod
    def of(cls, earlier: int, *, epochs: int, replay_share: float, replay_cost: float) -> "Portions":
        """Each of the `earlier` drops has as much as the new one, of the tokens and of what counts, but not more than
        `replay_share` together: a drop must be learnable however long the history. All together have the tokens of
        `epochs` passes over the new rows and `replay_cost` times as many on top; every new row is met once at least.

        Without replay earlier drops count nevertheless, where their rows decide when to stop.
        """
        evenly = earlier / (earlier + 1)
        if not evenly or not replay_share:
            return cls(epochs, evenly, 0.0)
        rho = min(replay_share, evenly)
        total = epochs * (1 + replay_cost)
        passes = max(1.0, total * (1 - rho))
        return cls(passes, rho, total - passes)


@dataclass(frozen=True)
class Curriculum:
    """The lessons of each of `steps` steps: `new`, `replayed` and `general` rows a step in the mean, as `pace` says.

    The weights of new and replayed rows sum to one in the mean of all steps.
    """

    rows: Rows
    seed: int
    steps: int
    new: float
    replayed: float
    general: float
    rho: float
    distillation: float
    anchor_weight: float

    @classmethod
    def plan(
        cls,
        rows: Rows,
        *,
        batch_size: int,
        epochs: int,
        replay_share: float,
        replay_cost: float,
        distillation: float,
        anchor_rows: int,
        anchor_weight: float,
        seed: int,
    ) -> "Curriculum":
        """See `Portions`. A step has as many tokens as `batch_size` new rows, and rows of general text on top; a small
        drop has smaller batches: see `fitting_batch`. The number of steps follows from the number of new rows alone.
        """
        share = replay_share if rows.replay else 0.0
        passes, rho, replayed = Portions.of(rows.earlier, epochs=epochs, replay_share=share, replay_cost=replay_cost)
        batch = fitting_batch(len(rows.new), batch_size, epochs)
        # Of the new rows taken once, as much as there is of them in a step for each time that they are taken.
        part = batch / (passes + replayed)
        tokens = part * _mean_length(rows.new)
        return cls(
            rows,
            seed,
            steps=math.ceil(len(rows.new) / part),
            new=part * passes,
            replayed=pace(rows.replay, math.inf, replayed * tokens),
            general=pace(rows.general, anchor_rows if anchor_weight else 0, _GENERAL_SHARE * epochs * tokens),
            rho=rho,
            distillation=distillation,
            anchor_weight=anchor_weight,
        )

    def of_step(self, step: int) -> list[Lesson]:
        """The lessons of a step, counted from 0: new rows first, then replayed ones, then general text."""
        new = [self.rows.new[place] for place in self._new_turns.of_step(step)]
        replayed = [self.rows.replay[place] for place in self._replay_turns.of_step(step)]
        general = [self.rows.general[place] for place in self._general_turns.of_step(step)]
        # Each row counts the same in whichever step it comes, and all of a kind what that kind shall count for.
        rho = self.rho if self.replayed else 0.0
        of_new = (1 - rho) / self.new
        of_replayed = rho / self.replayed if replayed else 0.0
        of_general = self.anchor_weight / self.general if general else 0.0
        return [
            *(Lesson(row, of_new) for row in new),
            *(
                Lesson(taught.row, of_replayed, taught.soft, self.distillation * taught.trust * of_replayed)
                for taught in replayed
            ),
            *(Lesson(taught.row, 0.0, taught.soft, of_general) for taught in general),
        ]

    @cached_property
    def _new_turns(self) -> "_Turns":
        return _Turns(self.rows.new, self.new, self.seed, _NEW)

    @cached_property
    def _replay_turns(self) -> "_Turns":
        return _Turns([taught.row for taught in self.rows.replay], self.replayed, self.seed, _REPLAY)

    @cached_property
    def _general_turns(self) -> "_Turns":
        return _Turns([taught.row for taught in self.rows.general], self.general, self.seed, _GENERAL)


class _Turns:
    """`per_step` of `rows` a step, in shuffled orders of which each has every row once, one after the other."""

    def __init__(self, rows: Sequence[Encoded], per_step: float, seed: int, salt: int) -> None:
        self._rows = rows
        self._per_step = per_step
        self._seed = seed
        self._salt = salt
        # Of the step asked for last: shuffling a large drop takes longer than a step.
        self._orders: dict[int, list[int]] = {}

    def of_step(self, step: int) -> list[int]:
        """Places among the rows; a function of the step, whichever was asked for before."""
        if not self._per_step:
            return []
        first, end = math.ceil(step * self._per_step), math.ceil((step + 1) * self._per_step)
        count = len(self._rows)
        cycles = range(first // count, end // count + 1)
        self._orders = {cycle: self._orders.get(cycle) or self._order(cycle) for cycle in cycles}
        return [self._orders[place // count][place % count] for place in range(first, end)]

    def _order(self, cycle: int) -> list[int]:
        seed = self._seed + self._salt * (cycle + 1)
        return list(chain.from_iterable(epoch_order(self._rows, math.ceil(self._per_step), seed)))


def fitting_batch(new_rows: int, batch_size: int, epochs: int) -> int:
    """`batch_size`, or less where that would give few steps: a dozen of them do not get an adapter off the ground."""
    return min(batch_size, max(_LEAST_BATCH, new_rows * epochs // _STEPS_WANTED))


def _mean_length(rows: Sequence[Encoded]) -> float:
    return sum(len(row) for row in rows) / max(1, len(rows))

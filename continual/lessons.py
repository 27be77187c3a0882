"""Which rows each step of a training takes, and what each counts for: a function of the seed and the step alone.

What a drop costs is bounded in tokens, which is what time and memory go by, and does not depend on history: replayed
rows take a share of the tokens, whatever their length and number, and general text no more than a part of the new
rows'. With the default share of 0.36 a drop costs 1.7 times the tokens of its own rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Curriculum:
    """The lessons of every step: `replayed` and `general` rows in the mean of all steps, as `pace` says.

    The weights of new and replayed rows sum to one in the mean of all steps.
    """

    rows: Rows
    seed: int
    new_per_step: int
    replayed: float
    general: float
    steps_per_epoch: int
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
        replay_weight: float,
        distillation: float,
        anchor_rows: int,
        anchor_weight: float,
        seed: int,
    ) -> "Curriculum":
        """`replay_share` of each batch is replayed, if there is anything to replay: of its rows if all are of one
        length, and else as many rows as have that share of the tokens.

        Earlier drops count as much each as the new one, but not for more than `replay_weight` together: a drop must be
        learnable however long the history. Rows of general text come on top. The number of steps follows from the new
        rows alone. A small drop has smaller batches: see `fitting_batch`.
        """
        new = batch_size = fitting_batch(len(rows.new), batch_size, epochs)
        if rows.replay and replay_share:
            new = max(1, min(batch_size - 1, round(batch_size * (1 - replay_share))))
        tokens = new * _mean_length(rows.new)
        replayed = pace(rows.replay, math.inf, _per_new_token(replay_share) * tokens)
        general = pace(rows.general, anchor_rows if anchor_weight else 0, _GENERAL_SHARE * tokens)
        steps = math.ceil(len(rows.new) / new)
        rho = min(replay_weight, rows.earlier / (rows.earlier + 1))
        return cls(rows, seed, new, replayed, general, steps, rho, distillation, anchor_weight)

    @staticmethod
    def tokens_for_replay(new: Sequence[Encoded], epochs: int, replay_share: float) -> int:
        """Tokens that are replayed in all epochs together."""
        return round(_per_new_token(replay_share) * epochs * sum(len(row) for row in new))

    def of_step(self, step: int) -> list[Lesson]:
        """The lessons of a step, counted from 0: new rows first, then replayed ones, then general text."""
        epoch, at = divmod(step, self.steps_per_epoch)
        new = [
            self.rows.new[index]
            for index in epoch_order(self.rows.new, self.new_per_step, self.seed + _NEW * epoch)[at]
        ]
        replayed = self._next(self.rows.replay, self.replayed, step, _REPLAY)
        general = self._next(self.rows.general, self.general, step, _GENERAL)
        rho = self.rho if self.replayed else 0.0
        # Each row counts the same in whichever step it comes, and all of a kind what that kind shall count for.
        of_replayed = rho / self.replayed if replayed else 0.0
        of_general = self.anchor_weight / self.general if general else 0.0
        return [
            *(Lesson(row, (1 - rho) / len(new)) for row in new),
            *(Lesson(taught.row, of_replayed, taught.soft, self.distillation * of_replayed) for taught in replayed),
            *(Lesson(taught.row, 0.0, taught.soft, of_general) for taught in general),
        ]

    def _next(self, rows: Sequence[Taught], per_step: float, step: int, salt: int) -> list[Taught]:
        """The rows of a step, in a shuffled order in which every row is met before any is met twice."""
        if not per_step:
            return []
        first, end = math.ceil(step * per_step), math.ceil((step + 1) * per_step)
        encoded = [taught.row for taught in rows]
        orders = {
            cycle: list(chain.from_iterable(epoch_order(encoded, math.ceil(per_step), self.seed + salt * (cycle + 1))))
            for cycle in range(first // len(rows), end // len(rows) + 1)
        }
        return [rows[orders[place // len(rows)][place % len(rows)]] for place in range(first, end)]


def fitting_batch(new_rows: int, batch_size: int, epochs: int) -> int:
    """`batch_size`, or less where that would give few steps: a dozen of them do not get an adapter off the ground."""
    return min(batch_size, max(_LEAST_BATCH, new_rows * epochs // _STEPS_WANTED))


def _per_new_token(replay_share: float) -> float:
    """Replayed tokens for each new one."""
    return replay_share / (1 - replay_share)


def _mean_length(rows: Sequence[Encoded]) -> float:
    return sum(len(row) for row in rows) / max(1, len(rows))

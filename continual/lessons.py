"""Which rows each step of a training takes, and what each counts for: a function of the seed and the step alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .batches import epoch_order
from .teacher import Soft, Taught
from .template import Encoded

# Steps that a small drop's training shall have, and the rows that a batch has at least.
_STEPS_WANTED, _LEAST_BATCH = 32, 4
# Orders of new, replayed and general rows are drawn apart.
_NEW, _REPLAY, _GENERAL = 7919, 104_729, 1_299_709


@dataclass(frozen=True)
class Rows:
    """What is learned from: `new` rows of the drop, `replay` of earlier drops with what the champion said of them,
    `general` text with what the base said of it. `validation` decides when to stop.
    """

    new: Sequence[Encoded]
    replay: Sequence[Taught] = ()
    general: Sequence[Taught] = ()
    validation: Sequence[Encoded] = ()


class Lesson(NamedTuple):
    """A row in a step: `weight` on its loss per completion token, `soft_weight` on its divergence from `soft`."""

    row: Encoded
    weight: float
    soft: Soft | None = None
    soft_weight: float = 0.0


@dataclass(frozen=True)
class Curriculum:
    """The lessons of every step. The weights of a step's new and replayed rows sum to one."""

    rows: Rows
    seed: int
    new_per_step: int
    replayed_per_step: int
    general_per_step: int
    steps_per_epoch: int
    replay_weight: float
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
        """`replay_share` of each batch is replayed, if there is anything to replay, and never the whole of it.

        Rows of general text come on top. The number of steps follows from the new rows alone, so the cost of a drop
        does not grow with history. A small drop has smaller batches: see `fitting_batch`.
        """
        batch_size = fitting_batch(len(rows.new), batch_size, epochs)
        replayed = _replayed_per_step(batch_size, replay_share) if rows.replay else 0
        general = min(anchor_rows, len(rows.general)) if anchor_weight else 0
        new = batch_size - replayed
        steps = math.ceil(len(rows.new) / new)
        return cls(rows, seed, new, replayed, general, steps, replay_weight, distillation, anchor_weight)

    @staticmethod
    def room_for_replay(new_rows: int, batch_size: int, epochs: int, replay_share: float) -> int:
        """How many rows are replayed in all epochs together."""
        batch_size = fitting_batch(new_rows, batch_size, epochs)
        replayed = _replayed_per_step(batch_size, replay_share)
        return epochs * replayed * math.ceil(new_rows / (batch_size - replayed))

    def of_step(self, step: int) -> list[Lesson]:
        """The lessons of a step, counted from 0: new rows first, then replayed ones, then general text."""
        epoch, at = divmod(step, self.steps_per_epoch)
        new = [
            self.rows.new[index]
            for index in epoch_order(self.rows.new, self.new_per_step, self.seed + _NEW * epoch)[at]
        ]
        replayed = self._next(self.rows.replay, self.replayed_per_step, step, _REPLAY)
        general = self._next(self.rows.general, self.general_per_step, step, _GENERAL)
        rho = self.replay_weight if replayed else 0.0
        return [
            *(Lesson(row, (1 - rho) / len(new)) for row in new),
            *(Lesson(t.row, rho / len(replayed), t.soft, self.distillation * rho / len(replayed)) for t in replayed),
            *(Lesson(t.row, 0.0, t.soft, self.anchor_weight / len(general)) for t in general),
        ]

    def _next(self, rows: Sequence[Taught], count: int, step: int, salt: int) -> list[Taught]:
        """`count` rows for a step, in a shuffled order in which every row is met before any is met twice."""
        if not count:
            return []
        cycle, place = divmod(step, math.ceil(len(rows) / count))
        order = epoch_order([taught.row for taught in rows], count, self.seed + salt * (cycle + 1))
        return [rows[index] for index in order[place]]


def fitting_batch(new_rows: int, batch_size: int, epochs: int) -> int:
    """`batch_size`, or less where that would give few steps: a dozen of them do not get an adapter off the ground."""
    return min(batch_size, max(_LEAST_BATCH, new_rows * epochs // _STEPS_WANTED))


def _replayed_per_step(batch_size: int, replay_share: float) -> int:
    """At least one where there is a share at all, and never the whole batch."""
    return min(max(1, round(replay_share * batch_size)), batch_size - 1) if replay_share else 0

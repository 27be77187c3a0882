"""Rows drawn at random from what a task was given, for a person to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from ..continual.examples import Example
from .dataset import PARTED, Dataset


@dataclass(frozen=True, slots=True)
class Sampled:
    """A row: the drop and the line where it stands, and the part that it went to; "unused" for one that none took."""

    drop: int
    line: int
    side: str
    example: Example


def sample(dataset: Dataset, task: str, drops: Sequence[int], count: int, seed: int) -> list[Sampled]:
    """`count` good rows of the drops, or all that there are, each as likely as any other; in the order of the files."""
    rows = [(drop, row) for drop in drops for row in dataset.read_rows(task, drop)]
    drawn = sorted(Random(seed).sample(range(len(rows)), min(count, len(rows))))  # noqa: S311 - no secret is drawn
    wanted = {rows[place][0] for place in drawn}
    sides = {(drop, row.id): part for drop in wanted for part in PARTED for row in dataset.read(task, drop, part)}
    return [
        Sampled(drop, row.line, sides.get((drop, row.example.id), "unused"), row.example)
        for drop, row in (rows[place] for place in drawn)
    ]

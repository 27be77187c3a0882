"""The golden set: rows that a person chose to judge every version of a task by, and that none may learn from."""

from collections.abc import Collection, Sequence
from typing import Final

from .examples import Example, Kind

_STEM: Final = "golden"


def is_golden(filename: str) -> bool:
    """Whether a dropped file is a task's golden set, by its name: `golden.jsonl`, `golden.csv.gz`."""
    return filename.partition(".")[0] == _STEM


def answerable(golden: Sequence[Example], labels: Collection[str]) -> list[Example]:
    """The golden rows whose labels are among those that the task knows by now: the others do not judge it yet.

    Who guesses is right about labels that nobody has taught more often than who has learned others.
    """
    return [row for row in golden if row.kind is not Kind.LABEL or row.completion in labels]

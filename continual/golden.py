"""The golden set: rows that a person chose to judge every version of a task by, and that none may learn from."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from .examples import Example, Kind

_STEM: Final = "golden"


class Sifted(NamedTuple):
    """Rows whose question stands nowhere else, and those that leak: their question stands in the other rows too."""

    kept: list[Example]
    leaking: list[Example]


def is_golden(filename: str) -> bool:
    """Whether a dropped file is a task's golden set, by its name: `golden.jsonl`, `golden.csv.gz`."""
    return filename.partition(".")[0] == _STEM


def sift(rows: Sequence[Example], others: Iterable[Example]) -> Sifted:
    """Part `rows` by whether their question is asked in `others`, whatever the answer there.

    Questions are compared without regard to case and white space: a row that was copied by hand is still the same.
    """
    asked = {_question(other) for other in others}
    kept = [row for row in rows if _question(row) not in asked]
    return Sifted(kept, [row for row in rows if _question(row) in asked])


def answerable(golden: Sequence[Example], labels: Collection[str]) -> list[Example]:
    """The golden rows whose labels are among those that the task knows by now: the others do not judge it yet.

    Who guesses is right about labels that nobody has taught more often than who has learned others.
    """
    return [row for row in golden if row.kind is not Kind.LABEL or row.completion in labels]


def _question(example: Example) -> str:
    """What is asked: the prompt, a chat's turns but the last, or all of a plain text."""
    turns = "\n".join(content for _, content in example.messages[:-1])
    return " ".join((example.request or turns or example.completion).casefold().split())

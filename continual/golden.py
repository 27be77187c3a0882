"""The golden set: rows that a person chose to judge every version of a task by, and that none may learn from."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from .examples import Example

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


def _question(example: Example) -> str:
    """What is asked: the prompt, a chat's turns but the last, or all of a plain text."""
    turns = "\n".join(content for _, content in example.messages[:-1])
    return " ".join((example.request or turns or example.completion).casefold().split())

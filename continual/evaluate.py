"""How good an adapter is on held-out rows.

Every row is judged by the log-likelihood of its right answer; a row of a classification also by whether its label is
the likeliest of all the task's labels. All subjects (candidate, champion, base) are asked with the same labels, those
that the task knows by now, so that their figures can be compared row by row.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .examples import Example, Kind
from .template import Template, TokenizerLike

# (ids of the prompt, of the right answer, of each other answer) for each row  ->  for each row the log-likelihood of
# the right answer in nats, and whether none of the others is likelier.
Judge = Callable[[Sequence[tuple[list[int], list[int], list[list[int]]]]], Sequence[tuple[float, bool]]]

# Rows scored between two reports of progress.
_ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class Figures:
    """What one subject reaches on one drop's held-out rows.

    `losses`: nats per token of the right answer, a number for each row; `correct`: for each row whether the likeliest
    label was the right one, None for rows that are no classification. `ids` name the rows, in order; `labels` are the
    right labels, empty for rows that have none.
    """

    ids: tuple[str, ...]
    losses: tuple[float, ...]
    correct: tuple[bool | None, ...]
    labels: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.losses)

    @property
    def loss(self) -> float:
        """Mean loss, nats per token; NaN without rows."""
        return sum(self.losses) / len(self.losses) if self.losses else math.nan

    @property
    def accuracy(self) -> float | None:
        """Share of classification rows that are right; None where there are none."""
        judged = [right for right in self.correct if right is not None]
        return sum(judged) / len(judged) if judged else None

    def to_json(self) -> dict[str, Any]:
        """With the summary figures, for people who read the file."""
        return {
            "rows": self.rows,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "ids": list(self.ids),
            "losses": [round(loss, 6) for loss in self.losses],
            "correct": list(self.correct),
            "labels": list(self.labels),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Figures":
        """The inverse of `to_json`."""
        return cls(tuple(value["ids"]), tuple(value["losses"]), tuple(value["correct"]), tuple(value["labels"]))


def evaluate(
    examples: Sequence[Example],
    judge: Judge,
    template: Template,
    tokenizer: TokenizerLike,
    *,
    max_length: int,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> Figures:
    """Judge the subject behind `judge` on `examples`; `report(done, total)` counts rows."""
    losses: list[float] = []
    correct: list[bool | None] = []
    for start in range(0, len(examples), _ROWS_AT_ONCE):
        some = examples[start : start + _ROWS_AT_ONCE]
        encoded = [template.encode_example(tokenizer, example, max_length) for example in some]
        items = [
            (row.prompt_ids, row.completion_ids, _other_labels(example, template, tokenizer))
            for example, row in zip(some, encoded, strict=True)
        ]
        for example, row, (score, best) in zip(some, encoded, judge(items), strict=True):
            losses.append(-score / len(row.completion_ids))
            correct.append(best if example.kind is Kind.LABEL else None)
        report(len(losses), len(examples))
    labels = [example.completion if example.kind is Kind.LABEL else "" for example in examples]
    return Figures(tuple(example.id for example in examples), tuple(losses), tuple(correct), tuple(labels))


def _other_labels(example: Example, template: Template, tokenizer: TokenizerLike) -> list[list[int]]:
    """The ids of every label but the right one; none for a row that is no classification."""
    if example.kind is not Kind.LABEL:
        return []
    return [template.encode_label(tokenizer, label) for label in template.labels if label != example.completion]

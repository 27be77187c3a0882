"""How good an adapter is on held-out rows.

Every row is judged by the log-likelihood of its right answer; a row of a classification also by whether its label is
the likeliest of all the task's labels. All subjects (candidate, champion, base) are asked with the same labels, those
that the task knows by now, so that their figures can be compared row by row.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import torch

from .examples import Example, Kind
from .parallel import each, threads_for
from .template import Encoded, Template, TokenizerLike

CPU: Final = torch.device("cpu")

# (ids of the prompt, of the right answer, of each other answer) for each row  ->  for each row the log-likelihood of
# the right answer in nats, whether none of the others is likelier, and whether greedy decoding writes it.
Judge = Callable[[Sequence[tuple[list[int], list[int], list[list[int]]]]], Sequence[tuple[float, bool, bool]]]

MEASURES: Final = ("loss", "accuracy", "exact_match")
"""The summary figures of `Figures`."""

# Rows scored between two reports of progress, by each thread.
_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class Figures:
    """What one subject reaches on one drop's held-out rows.

    `losses`: nats per token of the right answer, a number for each row; `correct`: for each row whether the likeliest
    label was the right one, None for rows that are no classification. `exact`: for each row that asks for an answer
    whether greedy decoding writes the right one, token by token (the same text in other tokens, which is rare, does not
    count); None for labels and for plain text. `ids` name the rows, in
    order; `labels` are the right labels, empty for rows that have none.
    """

    ids: tuple[str, ...]
    losses: tuple[float, ...]
    correct: tuple[bool | None, ...]
    labels: tuple[str, ...]
    exact: tuple[bool | None, ...]

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
        return _share(self.correct)

    @property
    def exact_match(self) -> float | None:
        """Share of rows that ask for an answer whose right one is written; None where there are none."""
        return _share(self.exact)

    def only(self, ids: Sequence[str]) -> "Figures":
        """The figures of some of the rows, in the order of `ids`. Raises `KeyError` for a row that was not judged."""
        place = {row: index for index, row in enumerate(self.ids)}
        chosen = [place[row] for row in ids]
        return Figures(
            tuple(ids),
            tuple(self.losses[index] for index in chosen),
            tuple(self.correct[index] for index in chosen),
            tuple(self.labels[index] for index in chosen),
            tuple(self.exact[index] for index in chosen),
        )

    def to_json(self) -> dict[str, Any]:
        """With the summary figures, for people who read the file."""
        return {
            "rows": self.rows,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "exact_match": self.exact_match,
            "ids": list(self.ids),
            "losses": [round(loss, 6) for loss in self.losses],
            "correct": list(self.correct),
            "labels": list(self.labels),
            "exact": list(self.exact),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Figures":
        """The inverse of `to_json`."""
        return cls(*(tuple(value[name]) for name in ("ids", "losses", "correct", "labels", "exact")))


def evaluate(
    examples: Sequence[Example],
    judge: Judge,
    template: Template,
    tokenizer: TokenizerLike,
    *,
    max_length: int,
    device: torch.device = CPU,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> Figures:
    """Judge the subject behind `judge` on `examples`; `report(done, total)` counts rows. `judge` computes on `device`
    and on a CPU is called by several threads at once.
    """
    losses: list[float] = []
    correct: list[bool | None] = []
    exact: list[bool | None] = []
    parts = [examples[start : start + _ROWS_AT_ONCE] for start in range(0, len(examples), _ROWS_AT_ONCE)]
    at_once = threads_for(device)

    def judged(some: Sequence[Example]) -> list[tuple[Encoded, tuple[float, bool, bool]]]:
        encoded = [template.encode_example(tokenizer, example, max_length) for example in some]
        items = [
            (row.prompt_ids, row.completion_ids, _other_labels(example, template, tokenizer))
            for example, row in zip(some, encoded, strict=True)
        ]
        return list(zip(encoded, judge(items), strict=True))

    for first in range(0, len(parts), at_once):
        some = parts[first : first + at_once]
        found = chain.from_iterable(each(judged, some, at_once))
        for example, (row, (score, best, written)) in zip(chain.from_iterable(some), found, strict=True):
            losses.append(-score / len(row.completion_ids))
            correct.append(best if example.kind is Kind.LABEL else None)
            exact.append(written if example.kind not in (Kind.LABEL, Kind.TEXT) else None)
        report(len(losses), len(examples))
    labels = [example.completion if example.kind is Kind.LABEL else "" for example in examples]
    ids = tuple(example.id for example in examples)
    return Figures(ids, tuple(losses), tuple(correct), tuple(labels), tuple(exact))


def _share(answers: Sequence[bool | None]) -> float | None:
    """Share of the answers that are right, of those that can be."""
    judged = [right for right in answers if right is not None]
    return sum(judged) / len(judged) if judged else None


def _other_labels(example: Example, template: Template, tokenizer: TokenizerLike) -> list[list[int]]:
    """The ids of every label but the right one; none for a row that is no classification."""
    if example.kind is not Kind.LABEL:
        return []
    return [template.encode_label(tokenizer, label) for label in template.labels if label != example.completion]

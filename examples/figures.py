"""What an adapter, or the base, reaches on the test rows: asked over gRPC, several requests at once."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from adapterd.daemon.client import Client
from adapterd.v1 import common_pb2, inference_pb2

from .house_style import GUIDE, in_style, is_right

DATA = Path(__file__).parent
FIRST_LABELS = ("access", "billing", "hardware", "shipping")
LABELS = (*FIRST_LABELS, "feedback", "privacy")
BASE = "base"

# Enough requests under way to fill a batch on a small machine.
_AT_ONCE = 8
# Tokens of an answer; the longest line in the data has 23.
_LONGEST_ANSWER = 40
_PATIENCE_S = 300.0

Row = dict[str, str]
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Answer:
    """What came back, and from whom."""

    text: str
    served_by: common_pb2.ServedBy

    @property
    def source(self) -> str:
        """`task@7`, or `base`."""
        return f"{self.served_by.task}@{self.served_by.version}" if self.served_by.version else BASE


def rows_of(task: str, name: str) -> list[Row]:
    """The rows of `<task>/<name>.jsonl`."""
    with (DATA / task / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def classify(client: Client, adapter: str, text: str, labels: Sequence[str] = LABELS) -> Answer:
    """The label that `adapter` finds likeliest. The base gets the prompt that an adapter's template makes of it."""
    base = adapter == BASE
    request = inference_pb2.ScoreRequest(
        adapter=adapter,
        input=inference_pb2.Input(prompt=f"Text: {text}\nLabel:" if base else text),
        continuations=[f" {label}" if base else label for label in labels],
    )
    reply = client.inference.Score(request, timeout=_PATIENCE_S)
    return Answer(labels[reply.best], reply.served_by)


def rewrite(client: Client, adapter: str, note: str) -> Answer:
    """The note as a status line. The base is told the style and shown an example."""
    asked = (
        inference_pb2.Input(messages=[common_pb2.Message(role="user", content=GUIDE + note)])
        if adapter == BASE
        else inference_pb2.Input(prompt=note)
    )
    request = inference_pb2.GenerateRequest(
        adapter=adapter, input=asked, sampling=inference_pb2.Sampling(max_tokens=_LONGEST_ANSWER)
    )
    reply = client.inference.Complete(request, timeout=_PATIENCE_S)
    return Answer(reply.text.strip(), reply.served_by)


@dataclass(frozen=True)
class TicketFigures:
    """Shares of test rows with the right label among all six: all rows, and those of the first drop's labels."""

    all_rows: float
    first_rows: float


def tickets_figures(client: Client, adapter: str) -> TicketFigures:
    """Classify the test rows of `tickets`."""
    rows = rows_of("tickets", "test")
    right = at_once(lambda row: classify(client, adapter, row["text"]).text == row["label"], rows)
    first = [hit for hit, row in zip(right, rows, strict=True) if row["label"] in FIRST_LABELS]
    return TicketFigures(share(right), share(first))


@dataclass(frozen=True)
class StyleFigures:
    """Shares of test rows: whose answer is in house style; with the right area, ticket and owner besides; and the
    latter among rows that the first drop taught, with its four areas and without ticket numbers.
    """

    in_style: float
    right: float
    first_right: float


def style_figures(client: Client, adapter: str) -> StyleFigures:
    """Rewrite the test rows of `house-style`."""
    rows = rows_of("house-style", "test")
    answers = at_once(lambda row: rewrite(client, adapter, row["input"]).text, rows)
    right = [is_right(answer, row["output"]) for answer, row in zip(answers, rows, strict=True)]
    first = [hit for hit, row in zip(right, rows, strict=True) if is_of_first_drop(row)]
    return StyleFigures(share([in_style(answer) for answer in answers]), share(right), share(first))


def is_of_first_drop(row: Row) -> bool:
    """Whether a row of `house-style` asks only for what its first drop taught."""
    area = row["output"].partition("]")[0].removeprefix("[")
    return area in {"network", "kitchen", "rooms", "printers"} and "#" not in row["output"]


def at_once(ask: Callable[[Item], Outcome], items: Sequence[Item]) -> list[Outcome]:
    """`ask` of every item, several under way at a time; the answers in the order of the items."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask, items))


def share(hits: Sequence[bool]) -> float:
    """The share that is true."""
    return sum(hits) / len(hits)

"""Streams of drops: what a task is given, one drop after the other, and how each drop is tested.

The named ones read the folder of data sets (README.md says where to get them); `--stream FILE.json` reads one of your
own:

    {"name": "mine", "score": "accuracy", "max_chars": 2000,
     "steps": [{"name": "monday", "train": "monday.jsonl", "test": "monday-test.jsonl",
                "train_rows": 400, "test_rows": 200}, …]}

Files are in any format that a person may drop, their paths relative to FILE.json; row limits and `max_chars` (of each
text) are optional. `score` is "accuracy" (rows with labels: the likeliest label of the whole stream is the right one),
"exact" (rows with answers: greedy decoding writes the right one) or "loss" (any rows: nats per token of the right
answer; in tables it is negative, so that more is better).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from adapterd.continual.examples import Example, parse_file
from adapterd.continual.rows import Limits
from adapterd.continual.shapes import Kind

Score = Literal["accuracy", "exact", "loss"]

# Rows of a training file that are kept apart to choose learning rates by: neither trained on nor tested with.
SELECTION_ROWS = 60


@dataclass(frozen=True)
class StreamStep:
    """One drop: rows to learn from, rows to test with, and rows to choose hyper-parameters by."""

    name: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    selection: tuple[Example, ...]


@dataclass(frozen=True)
class Stream:
    """Drops in their order, and how an answer is scored."""

    name: str
    score: Score
    steps: tuple[StreamStep, ...]


def load_stream(name: str, data: Path, seed: int, full: bool) -> Stream:
    """A named stream, or one of a `.json` file; `seed` draws the training rows, test rows are always the same ones.

    With `full` all rows are taken. Raises `SystemExit` with a sentence if there is no such stream or file.
    """
    try:
        if name.endswith(".json"):
            return _own(Path(name), seed, full)
        if name in _NAMED:
            return _NAMED[name](data, seed, full)
    except FileNotFoundError as error:
        raise SystemExit(f"{error.filename} is not there; benchmarks/README.md says where data comes from") from error
    raise SystemExit(f"there is no stream {name!r}: {', '.join(_NAMED)}, or a .json file (see benchmarks/streams.py)")


def _unlike4(data: Path, seed: int, full: bool) -> Stream:
    """Four unlike classifications in one adapter, without being told which is asked."""
    sets = (
        ("trec6", "trec6/train.jsonl", "trec6/test.jsonl", None),
        ("sst2", "sst2/train.jsonl", "sst2/test.jsonl", None),
        ("hwu64", "hwu64/train.jsonl", "hwu64/test.jsonl", _scenario),
        ("tweet_emotion", "tweet_emotion/emotion.train.jsonl", "tweet_emotion/emotion.test.jsonl", None),
    )
    steps = [
        _step(step, _rows(data / train, label=label), _rows(data / test, label=label), 400, 200, seed, full)
        for step, train, test, label in sets
    ]
    return Stream("unlike4", "accuracy", tuple(steps))


def _standard(number: int) -> Callable[[Path, int, bool], Stream]:
    """An order of the standard continual-learning benchmark (de Masson d'Autume et al. 2019, arXiv:1906.01076)."""
    order = {
        1: ("dbpedia", "amazon", "yahoo", "agnews"),
        2: ("dbpedia", "amazon", "agnews", "yahoo"),
        3: ("yahoo", "amazon", "agnews", "dbpedia"),
    }[number]

    def load(data: Path, seed: int, full: bool) -> Stream:
        steps = [
            _step(
                name,
                _rows(data / name / "train.jsonl", max_chars=_CHARS_OF_96_TOKENS),
                _rows(data / name / "test.jsonl", max_chars=_CHARS_OF_96_TOKENS),
                250,
                200,
                seed,
                full,
            )
            for name in order
        ]
        return Stream(f"standard-{number}", "accuracy", tuple(steps))

    return load


# English takes 4 to 4.5 characters a token with the default base's tokenizer.
_CHARS_OF_96_TOKENS = 400

_BANKING_DROPS, _BANKING_INTENTS = 7, 11


def _banking77(data: Path, seed: int, full: bool) -> Stream:
    """77 intents that come eleven at a time: every drop brings labels that no drop before had."""
    train, test = _rows(data / "banking77/train.jsonl"), _rows(data / "banking77/test.jsonl")
    intents = sorted({row.completion for row in train})
    Random(0).shuffle(intents)
    steps = []
    for number in range(_BANKING_DROPS):
        wanted = intents[number * _BANKING_INTENTS : (number + 1) * _BANKING_INTENTS]
        per_intent = [
            _step(
                intent,
                [row for row in train if row.completion == intent],
                [row for row in test if row.completion == intent],
                20,
                10,
                seed,
                full,
                selection=5,
            )
            for intent in wanted
        ]
        steps.append(
            StreamStep(
                f"intents {number * _BANKING_INTENTS + 1}-{(number + 1) * _BANKING_INTENTS}",
                tuple(row for step in per_intent for row in step.train),
                tuple(row for step in per_intent for row in step.test),
                tuple(row for step in per_intent for row in step.selection),
            )
        )
    return Stream("banking77", "accuracy", tuple(steps))


_GEO_TABLES = ("STATE", "CITY", "RIVER")


def _geo_sql(data: Path, seed: int, full: bool) -> Stream:
    """Questions to SQL in four drops by the table that is asked first: states, cities, rivers, the rest."""
    train, test = _rows(data / "text2sql_geography/train.jsonl"), _rows(data / "text2sql_geography/test.jsonl")
    steps = [
        _step(
            table.lower(),
            [row for row in train if _table(row) == table],
            [row for row in test if _table(row) == table],
            150,
            60,
            seed,
            full,
            selection=15,
        )
        for table in (*_GEO_TABLES, "OTHER")
    ]
    return Stream("geo-sql", "exact", tuple(steps))


def _table(row: Example) -> str:
    """The table that a query names first."""
    words = row.completion.split()
    first = words[words.index("FROM") + 1] if "FROM" in words else ""
    return first if first in _GEO_TABLES else "OTHER"


def _scenario(label: str) -> str:
    return label.partition("_")[0]


_NAMED: dict[str, Callable[[Path, int, bool], Stream]] = {
    "unlike4": _unlike4,
    "standard-1": _standard(1),
    "standard-2": _standard(2),
    "standard-3": _standard(3),
    "banking77": _banking77,
    "geo-sql": _geo_sql,
}


def _own(path: Path, seed: int, full: bool) -> Stream:
    described: dict[str, Any] = json.loads(path.read_text("utf-8"))
    steps = [
        _step(
            str(step["name"]),
            _rows(path.parent / step["train"], max_chars=described.get("max_chars")),
            _rows(path.parent / step["test"], max_chars=described.get("max_chars")),
            step.get("train_rows"),
            step.get("test_rows"),
            seed,
            full,
        )
        for step in described["steps"]
    ]
    return Stream(str(described["name"]), described.get("score", "accuracy"), tuple(steps))


def _rows(path: Path, label: Callable[[str], str] | None = None, max_chars: int | None = None) -> list[Example]:
    parsed = parse_file(path, Limits(), max_bad_rows=0)
    rows = [numbered.example for numbered in parsed.examples]
    if label is not None:
        rows = [replace(row, completion=label(row.completion)) for row in rows]
    if max_chars is not None:
        rows = [replace(row, prompt=row.prompt[:max_chars]) for row in rows]
    return rows


def _step(
    name: str,
    train: Sequence[Example],
    test: Sequence[Example],
    train_rows: int | None,
    test_rows: int | None,
    seed: int,
    full: bool,
    selection: int = SELECTION_ROWS,
) -> StreamStep:
    """Rows for selection first, the same for every seed; then training rows as the seed draws them."""
    apart, rest = _drawn(train, 0)[:selection], _drawn(train, 0)[selection:]
    learned = _drawn(rest, seed)[: None if full else train_rows]
    # A text that stands in the test file as well would be remembered, not answered.
    tested = {row.prompt for row in test}
    return StreamStep(
        name,
        tuple(row for row in learned if row.prompt not in tested or row.kind is Kind.TEXT),
        tuple(_drawn(test, 0)[: None if full else test_rows]),
        tuple(apart),
    )


def _drawn(rows: Sequence[Example], seed: int) -> list[Example]:
    """All rows in an order that the seed draws: files are often sorted by label."""
    shuffled = list(rows)
    Random(seed).shuffle(shuffled)
    return shuffled

"""What is asked of the auditing process: to read a dropped file, and to audit what was read.

Both do their work on files and answer with counts; nothing here knows the ledger. A request can be made again: what was
written before is written over.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from ..continual.audit.auditing import Drop, audit
from ..continual.audit.findings import Concern
from ..continual.audit.repeats import Known, Repeats, Side
from ..continual.audit.sensitive import redact, redact_example
from ..continual.examples import Kind, Numbered, Parsed, Repeat, parse_file
from ..continual.rows import Limits
from ..continual.split import Parted, is_dated, part
from .dataset import Dataset, Part, StoredRow

# Bad rows that an answer names; all of them stand in the quarantine.
_BAD_ROWS_SHOWN: Final = 5


@dataclass(frozen=True)
class Reading:
    """Read the file at `path`, keep its good rows, set its bad ones aside.

    `redact`: concerns whose text is replaced before anything is kept. `region`, `presidio`: see
    `audit.sensitive`.
    """

    task: str
    drop: int
    data: str
    quarantine: str
    path: str
    limits: dict[str, int]
    max_bad_rows: int
    redact: list[str]
    region: str
    presidio: str


@dataclass(frozen=True)
class Auditing:
    """Audit a drop that was read, and part the rows that its task has not learned into those to learn and to judge by.

    `history`: the drops behind the champion, oldest first. `golden`: the drop that is the golden set, 0 without one;
    `is_golden`: this is one. `labels`: those that the task knows. `heldout`, `seed`: how rows are parted. `tokenizer`:
    the base's file.
    """

    task: str
    drop: int
    data: str
    quarantine: str
    history: list[int]
    golden: int
    is_golden: bool
    labels: list[str]
    heldout: dict[str, Any]
    seed: int
    region: str
    presidio: str
    tokenizer: str
    max_length: int


def read(request: Reading) -> dict[str, Any]:
    """Counts of good, bad, repeated and redacted rows, and whether the file as it came may be kept.

    It may not where something was redacted, or might have to be: of a bad row only an excerpt was looked at. Raises
    `UnreadableFile`, `TooManyBadRows`.
    """
    dataset = Dataset(Path(request.data), Path(request.quarantine))
    parsed = parse_file(Path(request.path), Limits(**request.limits), request.max_bad_rows)
    concerns = {Concern(name) for name in request.redact}
    rows = _stored(parsed, concerns, request.region, request.presidio)
    bad = [replace(row, text=redact(row.text, concerns, request.region, request.presidio)[0]) for row in parsed.bad]
    dataset.write_rows(request.task, request.drop, rows)
    dataset.set_rows_aside(request.task, request.drop, bad)
    return {
        "rows": len(rows),
        "bad_rows": len(bad),
        "repeated_rows": len(parsed.duplicates),
        "redacted_rows": (redacted := sum(bool(row.redacted) for row in rows)),
        "keep_file": not (concerns and (redacted or bad)),
        "bad": [{"line": row.line, "reason": row.reason} for row in bad[:_BAD_ROWS_SHOWN]],
    }


def audit_drop(request: Auditing, say: Callable[[str, float], None] = lambda _phase, _share: None) -> dict[str, Any]:
    """Counts of what becomes of the rows, and the audit's summary under "audit"."""
    dataset = Dataset(Path(request.data), Path(request.quarantine))
    stored = dataset.read_rows(request.task, request.drop)
    drop = Drop(
        [Numbered(row.line, row.example) for row in stored],
        [Repeat(line, row.line) for row in stored for line in row.again],
        {row.line: row.redacted for row in stored if row.redacted},
        _history(dataset, request),
        request.labels,
    )
    found = audit(
        drop,
        tokens=lambda text: len(_tokenizer(request.tokenizer).encode(text, add_special_tokens=False)),
        max_length=request.max_length,
        region=request.region,
        presidio=request.presidio,
        say=say,
    )
    repeats = found.repeats
    parted = _golden(repeats) if request.is_golden else _parted(repeats, request)
    dataset.write(request.task, request.drop, "train", parted.train)
    dataset.write(request.task, request.drop, "validation", parted.validation)
    dataset.write(request.task, request.drop, "heldout", parted.heldout)
    dataset.write_findings(request.task, request.drop, found.report.findings)
    used = sum(map(len, parted))
    known = 0 if request.is_golden else len(repeats.known)
    labels = Counter(row.example.completion for row in stored if row.example.kind is Kind.LABEL)
    return {
        "train_rows": len(parted.train),
        "validation_rows": len(parted.validation),
        "heldout_rows": len(parted.heldout),
        "fresh_rows": used,
        "known_rows": known,
        "leaking_rows": len(stored) - used - known,
        "heldout_by": "date" if not request.is_golden and is_dated(repeats.fresh) else "chance",
        "parted_for": {"drops": request.history, "golden": request.golden, "labels": request.labels},
        "labels": dict(labels),
        "new_labels": sorted(set(labels) - set(request.labels)),
        "audit": found.report.summary(),
    }


def _stored(parsed: Parsed, concerns: Collection[Concern], region: str, presidio: str) -> list[StoredRow]:
    again: dict[int, list[int]] = defaultdict(list)
    for line, first in parsed.duplicates:
        again[first].append(line)
    rows = []
    for line, example in parsed.examples:
        kept, taken = redact_example(example, concerns, region, presidio)
        rows.append(StoredRow(line, kept, tuple(again[line]), tuple(taken)))
    return rows


def _history(dataset: Dataset, request: Auditing) -> list[Known]:
    """Rows of earlier drops. Those that versions are judged by come first, so that a question that stands on two sides
    counts as one of these; then those that trainings are stopped by, and what was left out since it asks the same as
    either. What one drop has learned and another one sent again is learned in both.
    """
    golden = dataset.read(request.task, request.golden, "heldout") if request.golden else []
    judging = [Known(request.golden, row, Side.GOLDEN) for row in golden]
    stopping: list[Known] = []
    left_out: list[Known] = []
    learning: list[Known] = []
    train, validation = _ever(dataset, request, "train"), _ever(dataset, request, "validation")
    for number in request.history:
        heldout = {row.id for row in dataset.read(request.task, number, "heldout")}
        for row in dataset.read(request.task, number, "rows"):
            if row.id in heldout:
                judging.append(Known(number, row, Side.HELD_OUT))
            elif row.id in validation:
                stopping.append(Known(number, row, Side.VALIDATION))
            elif row.id in train:
                learning.append(Known(number, row, Side.LEARNED))
            else:
                left_out.append(Known(number, row, Side.LEFT_OUT))
    # What a golden set shares with held-out rows is no leak, but what versions have seen is.
    return [*stopping, *learning] if request.is_golden else [*judging, *stopping, *left_out, *learning]


def _ever(dataset: Dataset, request: Auditing, part: Part) -> set[str]:
    """The ids of the rows that stand in one part of any earlier drop."""
    return {row.id for number in request.history for row in dataset.read(request.task, number, part)}


def _golden(repeats: Repeats) -> Parted:
    """All rows of a golden set judge, but those whose question versions have seen before."""
    followers = (row for rows in repeats.followers.values() for row in rows)
    return Parted([], [], [*repeats.fresh, *followers])


def _parted(repeats: Repeats, request: Auditing) -> Parted:
    """Rows that ask the same on one side: with the first of them to training, or, where that judges, left out."""
    wanted = request.heldout
    parted = part(repeats.fresh, wanted["share"], request.seed, wanted["min_rows"], wanted["max_rows"])
    train = [row for first in parted.train for row in (first, *repeats.followers.get(first.id, ()))]
    return Parted([*train, *repeats.learnable], parted.validation, parted.heldout)


@lru_cache(maxsize=1)
def _tokenizer(path: str) -> Tokenizer:
    return Tokenizer.from_file(path)

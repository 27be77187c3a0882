"""The first steps of a drop: parse, audit, plan. Each writes its files first and the drop's new state last."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..continual.errors import LearningError, TooManyBadRows, UnreadableFile
from ..continual.examples import Example, Kind, parse_file
from ..continual.formats import Limits
from ..continual.golden import is_golden, sift
from ..continual.plan import Counts, Plan, plan
from ..continual.split import Parted, part
from .config import Settings, load_task_settings
from .dataset import Dataset
from .ledger import DropRow, Ledger
from .lineage import Lineage
from .states import DropState

# Bad rows that an event lists; all of them stand in the quarantine.
_BAD_ROWS_SHOWN = 5


def parse(ledger: Ledger, dataset: Dataset, settings: Settings, drop: DropRow) -> None:
    """CLAIMED → PARSED: good rows kept, bad ones set aside; or → QUARANTINED, the file whole, with the reason."""
    limits = load_task_settings(settings, drop.task).limits
    path = Path(drop.path)
    try:
        _check_size(drop, limits.max_file_bytes)
        parsed = parse_file(
            path,
            Limits(max_decoded_bytes=limits.max_decoded_bytes, max_row_chars=limits.max_row_chars),
            limits.max_bad_rows,
        )
    except (UnreadableFile, TooManyBadRows) as error:
        _quarantine(ledger, dataset, drop, error)
        return
    dataset.write(drop.task, drop.id, "rows", [example for _, example in parsed.examples])
    dataset.set_rows_aside(drop.task, drop.id, parsed.bad)
    kept = dataset.keep_original(drop.task, drop.id, path)
    good, bad = len(parsed.examples), len(parsed.bad)
    with ledger.transaction():
        ledger.drops.move(
            drop.id,
            DropState.PARSED,
            path=str(kept),
            rows=good,
            bad_rows=bad,
            details={"repeated_rows": len(parsed.duplicates)},
        )
        ledger.events.emit(
            "drop.parsed",
            f"drop {drop.id} ({drop.filename}): {good} rows, {bad} bad ones set aside, "
            f"{len(parsed.duplicates)} repeated ones taken once",
            task=drop.task,
            drop=drop.id,
            details={
                "rows": good,
                "bad_rows": bad,
                "bad": [{"line": row.line, "reason": row.reason} for row in parsed.bad[:_BAD_ROWS_SHOWN]],
            },
        )


def audit(ledger: Ledger, dataset: Dataset, settings: Settings, drop: DropRow, behind: Lineage) -> None:
    """PARSED → AUDITED: part the rows that the task has not learned yet into training, validation and held-out ones.

    Rows that stand in one of the drops behind the champion are known: they are not learned again, and held-out ones
    among them never reach training; no more do rows whose question stands in the golden set. Of a golden set itself
    all rows are held out, but those whose question was learned before.
    """
    task_settings = load_task_settings(settings, drop.task)
    rows = dataset.read(drop.task, drop.id, "rows")
    if is_golden(drop.filename):
        learned = (row for number in behind.drops for row in dataset.learned(drop.task, number))
        fresh, leaking = sift(rows, learned)
        parted = Parted([], [], fresh)
    else:
        known = dataset.known_ids(drop.task, behind.drops)
        golden = dataset.read(drop.task, behind.golden, "heldout") if behind.golden else []
        fresh, leaking = sift([example for example in rows if example.id not in known], golden)
        wanted = task_settings.heldout
        parted = part(fresh, wanted.share, task_settings.training.seed, wanted.min_rows, wanted.max_rows)
    train, validation, heldout = parted
    dataset.write(drop.task, drop.id, "train", train)
    dataset.write(drop.task, drop.id, "validation", validation)
    dataset.write(drop.task, drop.id, "heldout", heldout)
    ledger.drops.move(
        drop.id,
        DropState.AUDITED,
        train_rows=len(train),
        heldout_rows=len(heldout),
        details={
            "fresh_rows": len(fresh),
            "known_rows": len(rows) - len(fresh) - len(leaking),
            "leaking_rows": len(leaking),
            "validation_rows": len(validation),
            "labels": _labels(rows),
            "new_labels": sorted(set(_labels(rows)) - set(behind.labels)),
        },
    )


def plan_drop(drop: DropRow) -> Plan:
    """What to do with an audited drop."""
    counts = Counts(
        rows=drop.rows,
        fresh=int(drop.details["fresh_rows"]),
        train=drop.train_rows,
        heldout=drop.heldout_rows,
        golden=is_golden(drop.filename),
    )
    return plan(counts, released=drop.released)


def _check_size(drop: DropRow, most: int) -> None:
    if drop.size > most:
        raise UnreadableFile(
            f"{drop.filename} has {drop.size:,} bytes, more than limits.max_file_bytes = {most:,}",
            hint="split the file, or raise the limit in task.toml",
        )


def _quarantine(ledger: Ledger, dataset: Dataset, drop: DropRow, error: LearningError) -> None:
    reason = f"{error.message} ({error.hint})" if error.hint else error.message
    reason = reason.replace(Path(drop.path).name, drop.filename)  # a person knows it by the name that they gave it
    kept = dataset.quarantine_original(drop.task, drop.id, Path(drop.path), reason)
    with ledger.transaction():
        ledger.drops.move(drop.id, DropState.QUARANTINED, path=str(kept), reason=reason)
        ledger.events.emit(
            "drop.quarantined",
            f"drop {drop.id} ({drop.filename}) is quarantined: {reason}",
            task=drop.task,
            drop=drop.id,
            details={"path": str(kept)},
        )


def _labels(rows: Sequence[Example]) -> dict[str, int]:
    return dict(Counter(example.completion for example in rows if example.kind is Kind.LABEL))

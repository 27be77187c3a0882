"""The rows that a task has been given, by drop, in `$STATE/data/<task>/<drop>/`.

original/<file>     what the person dropped, untouched
rows.jsonl          every good row, with its line in the file
findings.jsonl      what the audit found
answered.jsonl      how the champion answered some of the rows before it learned from them
train.jsonl         learned from, and replayed later
validation.jsonl    decides when a training stops
heldout.jsonl       judged by, at this drop and at every later one; never trained on
and in `$STATE/quarantine/<task>/<drop>/`:
rows.jsonl          bad rows with line number and reason
<file>, reason.txt  a file that was set aside whole
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from ..adapters.durable import make_folder, move_durably, write_atomic
from ..continual.audit.findings import Finding
from ..continual.examples import Example
from ..continual.formats import BadRow
from ..continual.prequential import Answered

Part = Literal["rows", "train", "validation", "heldout"]

PARTED: Final[tuple[Part, ...]] = ("train", "validation", "heldout")
"""What a drop's new rows are parted into."""


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A good row: its line, the lines where it stands again, and what was redacted from it, such as "email"."""

    line: int
    example: Example
    again: tuple[int, ...] = ()
    redacted: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """As `rows.jsonl` has it: the example, and what is beside it."""
        beside = {"line": self.line, "again": list(self.again), "redacted": list(self.redacted)}
        return self.example.to_json() | {name: value for name, value in beside.items() if value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The row that `to_json` wrote."""
        again, redacted = tuple(value.get("again", ())), tuple(value.get("redacted", ()))
        return cls(int(value.get("line", 0)), Example.from_json(value), again, redacted)


@dataclass(frozen=True)
class Dataset:
    """Reads and writes rows below the state folder; every write is durable before it returns."""

    data: Path
    quarantine: Path

    @classmethod
    def below(cls, state: Path) -> Self:
        """The one in a state folder."""
        return cls(state / "data", state / "quarantine")

    def folder(self, task: str, drop: int) -> Path:
        """Where a drop's rows lie."""
        return self.data / task / f"{drop:06d}"

    def rows_file(self, task: str, drop: int) -> Path:
        """Where a drop's good rows lie, which are all that is left of a file that was redacted or forgotten in part."""
        return self.folder(task, drop) / "rows.jsonl"

    def quarantine_folder(self, task: str, drop: int) -> Path:
        """Where what was set aside of a drop lies."""
        return self.quarantine / task / f"{drop:06d}"

    def write(self, task: str, drop: int, part: Part, examples: Iterable[Example]) -> None:
        """Replace one part of a drop."""
        self._write_lines(task, drop, part, (example.to_json() for example in examples))

    def read(self, task: str, drop: int, part: Part) -> list[Example]:
        """One part of a drop, in the order of the file; empty if it was never written."""
        return [Example.from_json(value) for value in self._read_lines(task, drop, part)]

    def write_rows(self, task: str, drop: int, rows: Iterable[StoredRow]) -> None:
        """Replace a drop's good rows."""
        self._write_lines(task, drop, "rows", (row.to_json() for row in rows))

    def read_rows(self, task: str, drop: int) -> list[StoredRow]:
        """A drop's good rows, in the order of the file."""
        return [StoredRow.from_json(value) for value in self._read_lines(task, drop, "rows")]

    def write_findings(self, task: str, drop: int, findings: Iterable[Finding]) -> None:
        """Replace what the audit found."""
        self._write_lines(task, drop, "findings", (finding.to_json() for finding in findings))

    def read_findings(self, task: str, drop: int) -> list[Finding]:
        """What the audit found; nothing for a drop that was not audited."""
        return [Finding.from_json(value) for value in self._read_lines(task, drop, "findings")]

    def write_answered(self, task: str, drop: int, lines: Iterable[int], rows: Iterable[Answered]) -> None:
        """Replace how the champion answered the rows at some lines, in the order of the file."""
        values = ({"line": line, **asdict(row)} for line, row in zip(lines, rows, strict=True))
        self._write_lines(task, drop, "answered", values)

    def read_answered(self, task: str, drop: int) -> list[Answered]:
        """How the champion answered some of a drop's rows; nothing for a task's first drop."""
        return [Answered(value["loss"], value["right"]) for value in self._read_lines(task, drop, "answered")]

    def learned(self, task: str, drop: int) -> list[Example]:
        """What a version that learned the drop has seen of it: training rows, and those that it was stopped by."""
        return [*self.read(task, drop, "train"), *self.read(task, drop, "validation")]

    def set_rows_aside(self, task: str, drop: int, bad: Sequence[BadRow]) -> None:
        """Keep bad rows with their line numbers and reasons, in place of those kept before."""
        path = self._bad_rows_file(task, drop)
        if bad or path.exists():
            lines = [json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in bad]
            self._write(path, "".join(lines))

    def read_bad_rows(self, task: str, drop: int) -> list[BadRow]:
        """The bad rows that were set aside."""
        return [BadRow(**value) for value in _lines(self._bad_rows_file(task, drop))]

    def remove_rows(self, task: str, drop: int, says: Callable[[str], bool]) -> None:
        """Remove what has a text of which `says` is true: good rows, bad ones, findings; and the file they came in.

        The good rows go last, so that a removal that was interrupted finds them again.
        """
        stored = self.read_rows(task, drop)
        kept = [row for row in stored if not row.example.says(says)]
        gone = {row.line for row in stored} - {row.line for row in kept}
        shutil.rmtree(self.folder(task, drop) / "original", ignore_errors=True)
        bad = self.read_bad_rows(task, drop)
        if any(says(row.text) for row in bad):
            self.set_rows_aside(task, drop, [row for row in bad if not says(row.text)])
        findings = self.read_findings(task, drop)
        self.write_findings(task, drop, [one for one in findings if one.line not in gone and not says(one.said)])
        answered = [value for value in self._read_lines(task, drop, "answered") if value["line"] not in gone]
        if (self.folder(task, drop) / "answered.jsonl").is_file():
            self._write_lines(task, drop, "answered", answered)
        for part in PARTED:
            if (self.folder(task, drop) / f"{part}.jsonl").is_file():
                self.write(task, drop, part, [row for row in self.read(task, drop, part) if not row.says(says)])
        self.write_rows(task, drop, kept)

    def remove(self, task: str, drop: int) -> None:
        """Remove all that is kept of a drop."""
        for folder in (self.quarantine_folder(task, drop), self.folder(task, drop)):
            shutil.rmtree(folder, ignore_errors=True)

    def keep_original(self, task: str, drop: int, spooled: Path) -> Path:
        """Move the dropped file beside its rows; done already is fine. Returns where it lies.

        It keeps the name that it got in the spool, by which `Inbox.recover` knows it.
        """
        return _move(spooled, self.folder(task, drop) / "original" / spooled.name)

    def where(self, task: str, drop: int, spooled: Path) -> Path:
        """Where the dropped file lies: where the ledger says, or, if a step was interrupted after it was moved, beside
        its rows or in quarantine.
        """
        moved = (self.folder(task, drop) / "original", self.quarantine_folder(task, drop))
        places = [spooled, *(folder / spooled.name for folder in moved)]
        return next((place for place in places if place.exists()), spooled)

    def quarantine_original(self, task: str, drop: int, spooled: Path, reason: str) -> Path:
        """Move the whole file into quarantine, with the reason beside it. Returns where it lies."""
        folder = self.quarantine_folder(task, drop)
        self._write(folder / "reason.txt", reason + "\n")
        return _move(spooled, folder / spooled.name)

    def _bad_rows_file(self, task: str, drop: int) -> Path:
        return self.quarantine_folder(task, drop) / "rows.jsonl"

    def _write_lines(self, task: str, drop: int, name: str, values: Iterable[Mapping[str, object]]) -> None:
        lines = [json.dumps(value, ensure_ascii=False) + "\n" for value in values]
        self._write(self.folder(task, drop) / f"{name}.jsonl", "".join(lines))

    def _read_lines(self, task: str, drop: int, name: str) -> Iterator[dict[str, Any]]:
        return _lines(self.folder(task, drop) / f"{name}.jsonl")

    def _write(self, path: Path, text: str) -> None:
        make_folder(path.parent)
        write_atomic(path, text.encode("utf-8"))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _move(source: Path, target: Path) -> Path:
    if source != target and (source.exists() or not target.exists()):
        make_folder(target.parent)
        move_durably(source, target)
    return target

"""The rows that a task has been given, by drop, in `$STATE/data/<task>/<drop>/`.

original/<file>     what the person dropped, untouched
rows.jsonl          every good row
train.jsonl         learned from, and replayed later
validation.jsonl    decides when a training stops
heldout.jsonl       judged by, at this drop and at every later one; never trained on
and in `$STATE/quarantine/<task>/<drop>/`:
rows.jsonl          bad rows with line number and reason
<file>, reason.txt  a file that was set aside whole
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

from ..adapters.durable import make_folder, move_durably, write_atomic
from ..continual.examples import Example
from ..continual.formats import BadRow

Part = Literal["rows", "train", "validation", "heldout"]


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

    def quarantine_folder(self, task: str, drop: int) -> Path:
        """Where what was set aside of a drop lies."""
        return self.quarantine / task / f"{drop:06d}"

    def write(self, task: str, drop: int, part: Part, examples: Iterable[Example]) -> None:
        """Replace one part of a drop."""
        lines = [json.dumps(example.to_json(), ensure_ascii=False) + "\n" for example in examples]
        self._write(self.folder(task, drop) / f"{part}.jsonl", "".join(lines))

    def read(self, task: str, drop: int, part: Part) -> list[Example]:
        """One part of a drop, in the order of the file; empty if it was never written."""
        path = self.folder(task, drop) / f"{part}.jsonl"
        if not path.is_file():
            return []
        with path.open(encoding="utf-8") as lines:
            return [Example.from_json(json.loads(line)) for line in lines]

    def learned(self, task: str, drop: int) -> list[Example]:
        """What a version that learned the drop has seen of it: training rows, and those that it was stopped by."""
        return [*self.read(task, drop, "train"), *self.read(task, drop, "validation")]

    def known_ids(self, task: str, drops: Sequence[int]) -> set[str]:
        """Ids of all good rows of the drops named."""
        return {example.id for drop in drops for example in self.read(task, drop, "rows")}

    def set_rows_aside(self, task: str, drop: int, bad: Sequence[BadRow]) -> None:
        """Keep bad rows with their line numbers and reasons."""
        if bad:
            lines = [json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in bad]
            self._write(self.quarantine_folder(task, drop) / "rows.jsonl", "".join(lines))

    def keep_original(self, task: str, drop: int, spooled: Path) -> Path:
        """Move the dropped file beside its rows; done already is fine. Returns where it lies.

        It keeps the name that it got in the spool, by which `Inbox.recover` knows it.
        """
        return _move(spooled, self.folder(task, drop) / "original" / spooled.name)

    def quarantine_original(self, task: str, drop: int, spooled: Path, reason: str) -> Path:
        """Move the whole file into quarantine, with the reason beside it. Returns where it lies."""
        folder = self.quarantine_folder(task, drop)
        self._write(folder / "reason.txt", reason + "\n")
        return _move(spooled, folder / spooled.name)

    def _write(self, path: Path, text: str) -> None:
        make_folder(path.parent)
        write_atomic(path, text.encode("utf-8"))


def _move(source: Path, target: Path) -> Path:
    if source != target and (source.exists() or not target.exists()):
        make_folder(target.parent)
        move_durably(source, target)
    return target

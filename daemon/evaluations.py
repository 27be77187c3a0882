"""What was measured of a version, of the champion that it was held against, and of the base."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .database import Database, to_json, where

Subject = Literal["candidate", "champion", "base", "few-shot"]


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """The figures of one subject, measured when `version` was judged. `created` is unix seconds."""

    id: int
    task: str
    version: int
    drop: int
    subject: Subject
    digest: str
    """Of what was measured: a version's, or the base's fingerprint."""
    figures: dict[str, Any]
    created: float


class Evaluations:
    """Rows of `evaluations`; they are added and never changed."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        task: str,
        version: int,
        drop: int,
        subject: Subject,
        digest: str,
        figures: Mapping[str, object],
    ) -> EvaluationRow:
        """Keep the figures of one subject. Raises `ValueError` if one is NaN or infinite."""
        with self._database.transaction() as db:
            row = {
                "task": task,
                "version": version,
                "drop": drop,
                "subject": subject,
                "digest": digest,
                "figures": to_json(figures),
                "created": self._clock(),
            }
            inserted = db.table("evaluations").insert(row).last_rowid
            return _row(self._database.rows("SELECT * FROM evaluations WHERE id = ?", [inserted])[0])

    def find(self, task: str, version: int | None = None) -> list[EvaluationRow]:
        """The evaluations of a task, or of one version of it, newest last."""
        clause, values = where(task=task, version=version)
        found = self._database.rows(f"SELECT * FROM evaluations {clause} ORDER BY id", values)  # noqa: S608
        return [_row(row) for row in found]

    def measures(self, task: str, names: Sequence[str]) -> list[dict[str, Any]]:
        """Of each evaluation of a task, newest last: `version`, `drop`, `subject`, and of its figures those named.

        What every single row gave, which is nearly all of the figures, is not read: a task of forty drops has some
        2,500 evaluations, and whoever asks for a report asks often.
        """
        picked = ", ".join(f"json_extract(figures, '$.{name}') AS {name}" for name in names)
        statement = f'SELECT version, "drop", subject, {picked} FROM evaluations WHERE task = ? ORDER BY id'  # noqa: S608
        return self._database.rows(statement, [task])


def _row(row: dict[str, Any]) -> EvaluationRow:
    return EvaluationRow(**{**row, "figures": json.loads(row["figures"])})

"""The canaries on trial: which share of the requests each gets, and what was counted so far."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .canary_rules import Tally
from .database import Database


@dataclass(frozen=True, slots=True)
class CanaryRow:
    """A task's canary. `champion` is the version that it is compared with, `began` unix seconds, `looked` the number of
    its requests at the last look."""

    task: str
    version: int
    share: float
    champion: int
    of_champion: Tally
    of_canary: Tally
    looked: int
    began: float


class Canaries:
    """Rows of `canaries`: one for each task whose alias `canary` gets a share of the requests."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def find(self) -> list[CanaryRow]:
        """All, by task."""
        return [_row(row) for row in self._database.rows("SELECT * FROM canaries ORDER BY task")]

    def of(self, task: str) -> CanaryRow | None:
        """The task's canary, if it has one."""
        return next((_row(row) for row in self._database.rows("SELECT * FROM canaries WHERE task = ?", [task])), None)

    def begin(self, task: str, version: int, share: float, champion: int) -> None:
        """Put a version on trial, in place of another; nothing is counted yet."""
        with self._database.transaction() as db:
            db.table("canaries").upsert(
                {
                    "task": task,
                    "version": version,
                    "share": share,
                    "champion": champion,
                    "of_champion": "{}",
                    "of_canary": "{}",
                    "looked": 0,
                    "began": self._clock(),
                },
                pk="task",
            )

    def count(self, task: str, of_champion: Tally, of_canary: Tally, looked: int) -> None:
        """Write down what was counted."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE canaries SET of_champion = ?, of_canary = ?, looked = ? WHERE task = ?",
                [json.dumps(of_champion.to_json()), json.dumps(of_canary.to_json()), looked, task],
            )

    def end(self, task: str) -> None:
        """The trial is over; nothing happens if there is none."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM canaries WHERE task = ?", [task])


def _row(row: dict[str, Any]) -> CanaryRow:
    tallies = {name: Tally(**json.loads(row[name])) for name in ("of_champion", "of_canary")}
    return CanaryRow(**{**row, **tallies})

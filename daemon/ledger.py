"""The ledger: all that the daemon knows, written down before it is acted on.

After a kill at any point the daemon goes on from here. The files that rows speak of are on the disk before the
row is (`adapters.durable`), so a row never promises what is not there.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .aliases import Aliases, AliasMove
from .canaries import Canaries, CanaryRow
from .database import Database
from .drops import DropColumns, DropRow, Drops
from .evaluations import EvaluationRow, Evaluations
from .events import EventRow, Events
from .jobs import JobRow, Jobs
from .schema import migrate
from .tasks import Tasks
from .versions import VersionRow, Versions

__all__ = [
    "LEDGER_NAME",
    "AliasMove",
    "CanaryRow",
    "DropColumns",
    "DropRow",
    "EvaluationRow",
    "EventRow",
    "JobRow",
    "Ledger",
    "VersionRow",
]

LEDGER_NAME: Final = "adapterd.sqlite3"
"""What the file is called in the state folder."""


class Ledger:
    """One SQLite file at `path` (mode 0600), used from any thread.

    `clock` gives unix seconds; `tell` is told of each event once it is committed.

    Raises:
        LedgerFailed: the file cannot be opened, is none of ours, or was written by a newer program. Every method
            raises it when SQLite cannot do its work, with nothing changed.
        DiskFailure: the disk failed under it.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, tell: Callable[[EventRow], None] = lambda _: None
    ) -> None:
        self.path: Final = path
        self._database = Database(path)
        try:
            migrate(self._database, clock())
            self.tasks: Final = Tasks(self._database, clock)
            self.drops: Final = Drops(self._database, self.tasks, clock)
            self.jobs: Final = Jobs(self._database, clock)
            self.versions: Final = Versions(self._database, self.tasks, clock)
            self.aliases: Final = Aliases(self._database, clock)
            self.canaries: Final = Canaries(self._database, clock)
            self.evaluations: Final = Evaluations(self._database, clock)
            self.events: Final = Events(self._database, clock, tell)
        except BaseException:
            self._database.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Group calls: all of the body's changes are committed at its end, or none if it raises.

        Nests; an inner body that raises undoes itself alone. Other threads wait meanwhile, so a body is short,
        and never waits for anything else.
        """
        with self._database.transaction():
            yield

    def counts(self, table: str, *columns: str) -> dict[tuple[str, ...], int]:
        """How many rows of `table` there are for each combination of values in `columns`."""
        names = ", ".join(columns)
        found = self._database.rows(f"SELECT {names}, count(*) AS number FROM {table} GROUP BY {names}")  # noqa: S608 - our own words
        return {tuple(str(row[column]) for column in columns): int(row["number"]) for row in found}

    def training_seconds(self) -> dict[str, float]:
        """By task, how long trainings that are over took together."""
        found = self._database.rows(
            "SELECT task, sum(ended - started) AS seconds FROM jobs WHERE ended > started GROUP BY task"
        )
        return {row["task"]: float(row["seconds"]) for row in found}

    def close(self) -> None:
        """Close the file. What was committed stays."""
        self._database.close()

"""The tasks that the ledger knows, and the counter of each one's versions."""

from collections.abc import Callable

from ..adapters.errors import UnknownAdapter
from .database import Database


class Tasks:
    """Rows of `tasks`. A task becomes known with its first drop or import, and stays."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(self, task: str) -> None:
        """Make `task` known; nothing happens if it is."""
        with self._database.transaction() as db:
            db.table("tasks").insert({"name": task, "created": self._clock()}, ignore=True)

    def names(self) -> list[str]:
        """Every task, in alphabetical order."""
        return [row["name"] for row in self._database.rows("SELECT name FROM tasks ORDER BY name")]

    def reserve_version(self, task: str) -> int:
        """The next version number of `task`, from 1 on; never given out again, whatever becomes of it.

        Raises:
            UnknownAdapter: no such task.
        """
        with self._database.transaction():
            version = self.next_version(task)
            self.count_version(task, version)
            return version

    def next_version(self, task: str) -> int:
        """The number that `reserve_version` would give out. Raises `UnknownAdapter`."""
        reserved = self._database.rows("SELECT next_version FROM tasks WHERE name = ?", [task])
        if not reserved:
            raise UnknownAdapter(
                f"there is no task {task}", hint="`adapterd tasks` lists the tasks there are", task=task
            )
        return int(reserved[0]["next_version"])

    def count_version(self, task: str, version: int) -> None:
        """Note that `version` exists, so that no later one gets its number."""
        with self._database.transaction() as db:
            db.execute("UPDATE tasks SET next_version = max(next_version, ?) WHERE name = ?", [version + 1, task])

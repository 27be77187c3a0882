"""What happened, in order, each event chained to the one before; readers wait for more."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from .caller import caller
from .chain import BEGINNING, Entry, link
from .database import Database, storable, to_json


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that happened. `time` is unix seconds; `task` is empty, `drop` and `version` 0 where none."""

    id: int
    time: float
    kind: str
    """Noun and past participle: "drop.claimed", "alias.moved"."""
    task: str
    drop: int
    version: int
    message: str
    """One sentence for a person."""
    details: dict[str, Any]
    """The same for a script."""
    actor: str
    """Who asked for it: a caller's name, or "daemon"; empty in events of releases that did not know."""
    hash: str
    """See `chain.link`; empty in events of releases that had no chain."""

    def entry(self) -> Entry:
        """As it is hashed."""
        return Entry(
            id=self.id,
            micros=round(self.time * 1e6),
            actor=self.actor,
            kind=self.kind,
            task=self.task,
            drop=self.drop,
            version=self.version,
            message=self.message,
            details=self.details,
            hash=self.hash,
        )


class Events:
    """Rows of `events`; they are added and never changed, and their ids only grow.

    `tell` is told of each once it is committed.
    """

    def __init__(self, database: Database, clock: Callable[[], float], tell: Callable[[EventRow], None]) -> None:
        self._database = database
        self._clock = clock
        self._tell = tell
        self._grown = threading.Condition()
        self._last = self._end()[0]

    def emit(
        self,
        kind: str,
        message: str,
        *,
        task: str = "",
        drop: int = 0,
        version: int = 0,
        details: Mapping[str, object] | None = None,
    ) -> EventRow:
        """Write an event down; whoever waits wakes when the transaction that it belongs to is committed."""
        with self._database.transaction() as db:
            newest, before = self._end()
            row = {
                "id": newest + 1,
                "time": self._clock(),
                "kind": kind,
                "task": task,
                "drop": drop,
                "version": version,
                "message": storable(message),
                "details": to_json(details or {}),
                "actor": caller(),
                "hash": "",
            }
            event = _row(row)
            event = replace(event, hash=link(before, event.entry()))
            db.table("events").insert({**row, "hash": event.hash})
            self._database.after_commit(self._wake)
            self._database.after_commit(partial(self._tell, event))
            return event

    def after(self, last: int, task: str | None = None, limit: int = 1000) -> list[EventRow]:
        """At most `limit` events with a larger id than `last`, oldest first; of one task, or of all."""
        where, values = ("", list[object]()) if task is None else ("AND task = ?", [task])
        found = self._database.rows(
            f"SELECT * FROM events WHERE id > ? {where} ORDER BY id LIMIT ?",  # noqa: S608 - our own words
            [last, *values, limit],
        )
        return [_row(row) for row in found]

    def of_kind(self, task: str, prefix: str, most: int = -1) -> list[EventRow]:
        """Events of a task whose kind begins with `prefix`, oldest first: `most` of the newest, by default all."""
        found = self._database.rows(
            "SELECT * FROM events WHERE task = ? AND substr(kind, 1, ?) = ? ORDER BY id DESC LIMIT ?",
            [task, len(prefix), prefix, most],
        )
        return [_row(row) for row in reversed(found)]

    def wait(self, after: int, timeout: float) -> bool:
        """Whether there is an event with a larger id than `after`, waiting up to `timeout` seconds for one.

        Never called inside a transaction: nobody else could commit.
        """
        with self._grown:
            return self._grown.wait_for(lambda: self._last > after, timeout)

    def last_id(self) -> int:
        """The id of the newest committed event; 0: none yet."""
        with self._grown:
            return self._last

    def _end(self) -> tuple[int, str]:
        """Id and hash of the newest event, or what stands before the first."""
        found = self._database.rows("SELECT id, hash FROM events ORDER BY id DESC LIMIT 1")
        return (int(found[0]["id"]), str(found[0]["hash"]) or BEGINNING) if found else (0, BEGINNING)

    def _wake(self) -> None:
        newest = self._end()[0]
        with self._grown:
            self._last = newest
            self._grown.notify_all()


def _row(row: dict[str, Any]) -> EventRow:
    return EventRow(**{**row, "details": json.loads(row["details"])})

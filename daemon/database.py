"""One SQLite file, used from many threads of one process.

WAL with `synchronous=FULL`: a commit that returned survives a power cut. One connection behind one lock, so a
thread never sees another one's half of a transaction; calls are short, and no request waits for them.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlite_utils

from ..adapters.durable import fsync_folder
from ..adapters.errors import DiskFailure
from .errors import LedgerFailed

BUSY_TIMEOUT_MS: Final = 10_000
"""How long to wait for another process (a backup, a shell) that holds the file."""


class Database:
    """Transactions and queries on one file; made mode 0600 if it is missing.

    Raises:
        LedgerFailed: from every method, when SQLite cannot do its work; nothing of the transaction is kept.
        DiskFailure: likewise, when the cause is the disk itself (SQLITE_IOERR); the daemon stops.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        self._after_commit: dict[Callable[[], None], None] = {}
        with self._explained():
            _create(path)
            # isolation_level None: the driver begins and commits nothing by itself, `transaction` does.
            connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db = sqlite_utils.Database(connection, execute_plugins=False)
            self._db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.enable_wal()

    @contextmanager
    def transaction(self) -> Iterator[sqlite_utils.Database]:
        """All of the body's changes or none of them; nests, an inner body that raises undoes itself alone.

        Yields the sqlite-utils database. Whatever the body raises passes through.
        """
        with self._lock, self._explained():
            if self._depth:
                with self._db.atomic():
                    yield self._db
                return
            # IMMEDIATE takes the write lock now: a transaction that first reads cannot fail for it later.
            self._db.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._db.rollback()
                self._after_commit.clear()
                raise
            finally:
                self._depth = 0
            callbacks = list(self._after_commit)
            self._after_commit.clear()
            for callback in callbacks:
                callback()

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
        """The rows of one SELECT, each by column name; inside a transaction they show its changes."""
        with self._lock, self._explained():
            return list(self._db.query(sql, list(parameters)))

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, after the running transaction is committed; never if it is undone."""
        if not self._depth:
            raise RuntimeError("after_commit is for the body of a transaction")
        self._after_commit[callback] = None

    def close(self) -> None:
        """Close the file; what was committed is moved from the WAL into it."""
        with self._lock, self._explained():
            self._db.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as failure:
            name = getattr(failure, "sqlite_errorname", "")
            if name.startswith("SQLITE_IOERR"):
                raise DiskFailure(
                    f"the disk failed under the ledger {self.path}: {failure} ({name})",
                    hint="look at the kernel's log; start the daemon again when the disk is sound",
                    path=str(self.path),
                ) from failure
            raise LedgerFailed(
                f"SQLite cannot work on the ledger {self.path}: {failure}" + (f" ({name})" if name else ""),
                hint=_HINTS.get(name, "look at the free space and at who else has the file open"),
                path=str(self.path),
            ) from failure


def where(**conditions: object) -> tuple[str, list[object]]:
    """A WHERE clause over columns, and its values: a list means any of it, None that it does not matter."""
    clauses, values = [], list[object]()
    for column, wanted in conditions.items():
        if isinstance(wanted, list):
            clauses.append(f'"{column}" IN ({", ".join("?" * len(wanted))})')
            values.extend(wanted)
        elif wanted is not None:
            clauses.append(f'"{column}" = ?')
            values.append(wanted)
    return ("WHERE " + " AND ".join(clauses) if clauses else ""), values


def storable(text: str) -> str:
    """`text` with lone surrogates (bytes of a file's name that are not UTF-8) replaced, which SQLite refuses."""
    return text.encode(errors="replace").decode()


def to_json(value: Mapping[str, object]) -> str:
    """Canonical JSON of a column. Raises `ValueError` for NaN and infinities, `TypeError` for what is no JSON."""
    return storable(json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True))


_HINTS: Final = {
    "SQLITE_FULL": "free some space on the disk; the step is tried again",
    "SQLITE_BUSY": "another process holds the file: close it",
    "SQLITE_READONLY": "the daemon's user must own the state folder",
    "SQLITE_CANTOPEN": "the daemon's user must own the state folder",
    "SQLITE_NOTADB": "this is no ledger: restore it from a backup, or move it away to begin anew",
    "SQLITE_CORRUPT": "the ledger is damaged: restore it from a backup, or try `sqlite3 FILE .recover`",
}


def _create(path: Path) -> None:
    """Make the file before SQLite does, with its mode; the WAL beside it inherits that mode."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as failure:
        raise LedgerFailed(
            f"the ledger {path} cannot be opened: {failure.strerror}",
            hint="the state folder must exist and belong to the daemon's user",
            path=str(path),
        ) from failure
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    fsync_folder(path.parent)

"""A ledger that SQLite cannot read any more: what can be read of it goes into a fresh one, the old one is kept.

SQLite's own `.recover` is a command of its shell, which need not be there. A table that is read from both ends up to
the damage loses the rows of the damaged pages alone; and versions can be read from their manifests besides.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..adapters.durable import fsync_file, fsync_folder
from .ledger import LEDGER_NAME, Ledger

_SIDE_FILES = ("-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Salvaged:
    """Rows by table, and where the damaged file lies now."""

    rows: dict[str, int]
    kept: Path


def damage_of(path: Path) -> str:
    """What SQLite says of a ledger; empty if it is sound."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == ["ok"] else "; ".join(found)


def salvage(state: Path, stamp: str) -> Salvaged:
    """Put a fresh ledger in the place of the damaged one, with every row that could be read.

    `stamp` makes the name of what is kept. The caller owns the state folder.
    """
    path, fresh = state / LEDGER_NAME, state / f"{LEDGER_NAME}.salvaged"
    _remove(fresh)
    Ledger(fresh).close()  # the tables, as this release has them
    rows: dict[str, int] = {}
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(fresh)) as new:
        new.execute("PRAGMA foreign_keys = OFF")
        tables = [row[0] for row in new.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table.startswith("sqlite_") or table == "migrations":
                continue
            columns = [row[1] for row in new.execute(f'PRAGMA table_info("{table}")')]
            count = 0
            for row in _readable(old, table, columns):
                marks = ", ".join("?" * len(row))
                named = ", ".join(f'"{name}"' for name in row)
                with suppress(sqlite3.IntegrityError):  # read from both ends
                    new.execute(f'INSERT INTO "{table}" ({named}) VALUES ({marks})', list(row.values()))  # noqa: S608
                    count += 1
            rows[table] = count
        new.commit()
        _drop_orphans(new)
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    kept = path.with_name(f"{LEDGER_NAME}.damaged-{stamp}")
    path.rename(kept)
    for suffix in _SIDE_FILES:
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.rename(kept.with_name(kept.name + suffix))
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    fsync_file(fresh)
    fresh.rename(path)
    fsync_folder(state)
    return Salvaged(rows, kept)


def _readable(old: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of a damaged table from its beginning up to the damage, then from its end down to it."""
    for order in ("", " ORDER BY rowid DESC"):
        try:
            cursor = old.execute(f'SELECT * FROM "{table}"{order}')  # noqa: S608 - our own tables
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield {name: value for name, value in zip(names, row, strict=True) if name in columns}
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            continue
        return  # whole: no need to read it again


def _drop_orphans(new: sqlite3.Connection) -> None:
    """Remove rows that refer to lost ones, until none does."""
    while broken := new.execute("PRAGMA foreign_key_check").fetchall():
        for table, rowid, *_ in broken:
            new.execute(f'DELETE FROM "{table}" WHERE rowid = ?', [rowid])  # noqa: S608 - our own tables
        new.commit()


def _remove(path: Path) -> None:
    for suffix in ("", *_SIDE_FILES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

"""The ledger's tables, as a list of small steps; each is applied once, in a transaction, and written down.

A step that was released is never changed: a new one is appended. `"drop"` is quoted because SQL knows the word.
"""

from collections.abc import Callable
from typing import Final

import sqlite_utils

from .database import Database
from .errors import LedgerFailed

Migration = Callable[[sqlite_utils.Database], None]


def create_tasks(db: sqlite_utils.Database) -> None:
    """`next_version` only grows, so that a number is never given out twice, whatever becomes of the version."""
    db.execute(
        """
        CREATE TABLE tasks (
            name TEXT PRIMARY KEY,
            next_version INTEGER NOT NULL DEFAULT 1 CHECK (next_version > 0),
            created REAL NOT NULL
        ) STRICT
        """
    )


def create_drops(db: sqlite_utils.Database) -> None:
    """The same bytes are one drop of a task, however often they come and under whatever name."""
    db.execute(
        """
        CREATE TABLE drops (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            task TEXT NOT NULL REFERENCES tasks (name),
            filename TEXT NOT NULL,
            sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
            size INTEGER NOT NULL CHECK (size >= 0),
            state TEXT NOT NULL,
            reason TEXT NOT NULL DEFAULT '',
            path TEXT NOT NULL,
            rows INTEGER NOT NULL DEFAULT 0,
            bad_rows INTEGER NOT NULL DEFAULT 0,
            train_rows INTEGER NOT NULL DEFAULT 0,
            heldout_rows INTEGER NOT NULL DEFAULT 0,
            version INTEGER NOT NULL DEFAULT 0,
            plan TEXT NOT NULL DEFAULT '',
            details TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(details)),
            released INTEGER NOT NULL DEFAULT 0 CHECK (released IN (0, 1)),
            arrived REAL NOT NULL,
            updated REAL NOT NULL,
            UNIQUE (task, sha256)
        ) STRICT
        """
    )
    db.execute("CREATE INDEX drops_by_state ON drops (state)")


def create_jobs(db: sqlite_utils.Database) -> None:
    """A drop has one job at a time that is not over."""
    db.execute(
        """
        CREATE TABLE jobs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            task TEXT NOT NULL REFERENCES tasks (name),
            "drop" INTEGER NOT NULL REFERENCES drops (id),
            state TEXT NOT NULL,
            phase TEXT NOT NULL DEFAULT '',
            progress REAL NOT NULL DEFAULT 0,
            attempts INTEGER NOT NULL DEFAULT 0,
            error TEXT NOT NULL DEFAULT '',
            not_before REAL NOT NULL DEFAULT 0,
            pid INTEGER NOT NULL DEFAULT 0,
            version INTEGER NOT NULL DEFAULT 0,
            created REAL NOT NULL,
            started REAL,
            ended REAL
        ) STRICT
        """
    )
    db.execute("""CREATE UNIQUE INDEX one_open_job ON jobs ("drop") WHERE state IN ('queued', 'running')""")
    db.execute("CREATE INDEX jobs_by_state ON jobs (state)")


def create_versions(db: sqlite_utils.Database) -> None:
    """`parent` 0 is the base, `drop` 0 an import."""
    db.execute(
        """
        CREATE TABLE versions (
            task TEXT NOT NULL REFERENCES tasks (name),
            version INTEGER NOT NULL CHECK (version > 0),
            state TEXT NOT NULL,
            digest TEXT NOT NULL,
            parent INTEGER NOT NULL,
            "drop" INTEGER NOT NULL,
            fingerprint TEXT NOT NULL,
            metrics TEXT NOT NULL CHECK (json_valid(metrics)),
            verdict TEXT NOT NULL,
            reason TEXT NOT NULL,
            pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
            created REAL NOT NULL,
            updated REAL NOT NULL,
            PRIMARY KEY (task, version)
        ) STRICT
        """
    )


def create_aliases(db: sqlite_utils.Database) -> None:
    """An alias points at a version that exists; each of its moves is kept. NULL: unset."""
    db.execute(
        """
        CREATE TABLE aliases (
            task TEXT NOT NULL,
            alias TEXT NOT NULL CHECK (alias IN ('champion', 'canary', 'previous')),
            version INTEGER NOT NULL,
            PRIMARY KEY (task, alias),
            FOREIGN KEY (task, version) REFERENCES versions (task, version)
        ) STRICT
        """
    )
    db.execute(
        """
        CREATE TABLE alias_history (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            task TEXT NOT NULL REFERENCES tasks (name),
            alias TEXT NOT NULL,
            from_version INTEGER,
            to_version INTEGER,
            actor TEXT NOT NULL,
            reason TEXT NOT NULL,
            time REAL NOT NULL,
            CHECK (from_version IS NOT to_version)
        ) STRICT
        """
    )
    db.execute("CREATE INDEX alias_history_by_task ON alias_history (task)")


def create_evaluations(db: sqlite_utils.Database) -> None:
    """No reference to `versions`: a candidate is judged before it is published."""
    db.execute(
        """
        CREATE TABLE evaluations (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            task TEXT NOT NULL REFERENCES tasks (name),
            version INTEGER NOT NULL,
            "drop" INTEGER NOT NULL,
            subject TEXT NOT NULL CHECK (subject IN ('candidate', 'champion', 'base', 'few-shot')),
            digest TEXT NOT NULL,
            figures TEXT NOT NULL CHECK (json_valid(figures)),
            created REAL NOT NULL
        ) STRICT
        """
    )
    db.execute("CREATE INDEX evaluations_by_version ON evaluations (task, version)")


def create_events(db: sqlite_utils.Database) -> None:
    """`task` is empty and `drop` and `version` are 0 where an event concerns none, or one that is not known."""
    db.execute(
        """
        CREATE TABLE events (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            time REAL NOT NULL,
            kind TEXT NOT NULL,
            task TEXT NOT NULL,
            "drop" INTEGER NOT NULL,
            version INTEGER NOT NULL,
            message TEXT NOT NULL,
            details TEXT NOT NULL CHECK (json_valid(details))
        ) STRICT
        """
    )
    db.execute("CREATE INDEX events_by_task ON events (task)")


def create_canaries(db: sqlite_utils.Database) -> None:
    """A canary on trial: its share of the champion's requests, and what was counted of both (`canary_rules.Tally`)."""
    db.execute(
        """
        CREATE TABLE canaries (
            task TEXT PRIMARY KEY REFERENCES tasks (name),
            version INTEGER NOT NULL,
            share REAL NOT NULL CHECK (share > 0 AND share < 1),
            champion INTEGER NOT NULL,
            of_champion TEXT NOT NULL CHECK (json_valid(of_champion)),
            of_canary TEXT NOT NULL CHECK (json_valid(of_canary)),
            looked INTEGER NOT NULL,
            began REAL NOT NULL,
            FOREIGN KEY (task, version) REFERENCES versions (task, version)
        ) STRICT
        """
    )


def give_jobs_failures_and_parents(db: sqlite_utils.Database) -> None:
    """A try that the daemon's own end cut short is none that failed, and the version that a job builds on is kept
    meanwhile; `pid` and `version` were never written.
    """
    db.execute("ALTER TABLE jobs ADD COLUMN failures INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE jobs ADD COLUMN parent INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE jobs DROP COLUMN pid")
    db.execute("ALTER TABLE jobs DROP COLUMN version")


def chain_events(db: sqlite_utils.Database) -> None:
    """Events say who acted and are a hash chain (`chain.py`); no statement changes or removes one."""
    db.execute("ALTER TABLE events ADD COLUMN actor TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE events ADD COLUMN hash TEXT NOT NULL DEFAULT ''")
    for change in ("UPDATE", "DELETE"):
        db.execute(
            f"CREATE TRIGGER events_keep_{change.lower()} BEFORE {change} ON events "
            "BEGIN SELECT RAISE(ABORT, 'events are only added'); END"
        )


MIGRATIONS: Final[tuple[Migration, ...]] = (
    create_tasks,
    create_drops,
    create_jobs,
    create_versions,
    create_aliases,
    create_evaluations,
    create_events,
    create_canaries,
    give_jobs_failures_and_parents,
    chain_events,
)
"""Every step, oldest first."""


def migrate(database: Database, now: float, migrations: tuple[Migration, ...] = MIGRATIONS) -> list[str]:
    """Apply the steps that `database` has not had, each with its record in one transaction; return their names.

    Raises:
        LedgerFailed: the ledger has had a step that this program does not know: a newer one wrote it.
    """
    with database.transaction() as db:
        db.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied REAL NOT NULL) STRICT")
    known = [migration.__name__ for migration in migrations]
    had = {row["name"] for row in database.rows("SELECT name FROM migrations")}
    if unknown := sorted(had.difference(known)):
        raise LedgerFailed(
            f"the ledger {database.path} was written by a newer adapterd (it has had {', '.join(unknown)})",
            hint="run that version, or restore the state folder from before the upgrade",
            path=str(database.path),
        )
    todo = [migration for migration in migrations if migration.__name__ not in had]
    for migration in todo:
        with database.transaction() as db:
            migration(db)
            db.execute("INSERT INTO migrations VALUES (?, ?)", [migration.__name__, now])
    return [migration.__name__ for migration in todo]

"""What people and the worker do to versions: promote, try as a canary, revert, delete.

An alias moves only to a version that is checked and loaded, by compare-and-swap in the ledger; the manager's table
follows at once, so the next request gets the new version and running ones end on the one that they began with.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..adapters.catalog import Served, VersionInfo
from ..adapters.errors import BadRequest, UnknownAdapter, VersionNotServable
from ..adapters.failpoints import failpoint
from ..adapters.manager import Manager
from ..adapters.refs import CANARY, CHAMPION, AdapterRef, check_task
from ..adapters.states import VersionState
from ..adapters.store import Store
from .errors import NotAllowed
from .ledger import Ledger, VersionRow

_GONE = (VersionState.DELETED, VersionState.RETIRED)


@dataclass(frozen=True)
class Moved:
    """An alias that moved; `to` is None where it points nowhere now.

    `seconds` from the call until the next request gets the new version.
    """

    task: str
    alias: str
    origin: int | None
    to: int | None
    seconds: float


class Lifecycle:
    """Acts on ledger, store and manager together; one change at a time."""

    def __init__(self, ledger: Ledger, store: Store, manager: Manager) -> None:
        self._ledger = ledger
        self._store = store
        self._manager = manager
        self._lock = threading.RLock()

    def sync(self) -> None:
        """Tell the manager everything that the ledger knows; called at start."""
        for task in self._ledger.tasks.names():
            self._tell(task)

    @contextmanager
    def changing(self, task: str) -> Iterator[None]:
        """No other change meanwhile; afterwards the manager knows of this one."""
        with self._lock:
            yield
            self._tell(task)

    def resolve(self, ref: AdapterRef) -> VersionRow:
        """The version that a reference means now. Raises `UnknownAdapter`, or `BadRequest` for the base."""
        if ref.is_base:
            raise BadRequest("the base is no version of a task", hint="name a task, like `mytask@3`", field="version")
        number = ref.version
        if number is None:
            alias = ref.alias or CHAMPION
            number = self._ledger.aliases.of(ref.task).get(alias)
            if number is None:
                raise UnknownAdapter(f"task {ref.task} has no {alias}", hint=f"`adapterd list {ref.task}` shows all")
        return self._ledger.versions.get(ref.task, number)

    def promote(self, task: str, version: int, *, expected: int | None, actor: str, reason: str) -> Moved:
        """Make a version the champion. Raises `AliasConflict` if `expected` is given and another is champion by now,
        `VersionNotServable` for a deleted one, and what loading it raises; then nothing has changed.
        """
        began = time.monotonic()
        with self._lock:
            row = self._present(task, version)
            champion = self._ledger.aliases.of(task).get(CHAMPION)
            if champion == version and row.state is VersionState.AVAILABLE:
                return Moved(task, CHAMPION, champion, version, time.monotonic() - began)
            self._manager.ensure(task, version, row.digest)
            failpoint("promote.loaded")
            with self._ledger.transaction():
                if row.state is not VersionState.AVAILABLE:
                    self._ledger.versions.move(task, version, VersionState.AVAILABLE)
                self._ledger.aliases.promote(
                    task, version, expected=champion if expected is None else expected, actor=actor, reason=reason
                )
                if self._ledger.aliases.of(task).get(CANARY) == version:
                    self._ledger.aliases.move(task, CANARY, None, expected=version, actor=actor, reason="promoted")
                    self._ledger.canaries.end(task)
                came_from = f"from {task}@{champion}" if champion else "from none"
                self._ledger.events.emit(
                    "alias.moved",
                    f"{task}@champion moved {came_from} to {task}@{version}: {reason}",
                    task=task,
                    version=version,
                    details={"alias": "champion", "from": champion or 0, "to": version, "actor": actor},
                )
            failpoint("promote.noted")
            self._tell(task)
            failpoint("promote.told")
            return Moved(task, CHAMPION, champion, version, time.monotonic() - began)

    def canary(self, task: str, version: int, share: float, *, actor: str, reason: str) -> Moved:
        """Let a version answer a `share` of the champion's requests, in place of another canary if there is one.

        `CanaryWatch` decides what becomes of it. Raises `BadRequest` for a share that is not between 0 and 1,
        `NotAllowed` without a champion or for the champion itself, `VersionNotServable` for a deleted version, and what
        loading it raises; then nothing has changed.
        """
        began = time.monotonic()
        if not 0 < share < 1:
            raise BadRequest(
                f"{share:g} is no share of the requests", hint="it lies between 0 and 1, like 0.1", field="canary_share"
            )
        with self._lock:
            row = self._present(task, version)
            aliases = self._ledger.aliases.of(task)
            champion, before = aliases.get(CHAMPION), aliases.get(CANARY)
            if champion is None:
                raise NotAllowed(
                    f"{task} has no champion beside which a canary could stand",
                    hint=f"`adapterd promote {task}@{version}` makes it champion",
                )
            if champion == version:
                raise NotAllowed(f"{task}@{version} is champion already", hint=f"`adapterd list {task}` shows all")
            self._manager.ensure(task, version, row.digest)
            with self._ledger.transaction():
                if row.state is not VersionState.AVAILABLE:
                    self._ledger.versions.move(task, version, VersionState.AVAILABLE)
                if before != version:
                    self._ledger.aliases.move(task, CANARY, version, expected=before, actor=actor, reason=reason)
                self._ledger.canaries.begin(task, version, share, champion)
                self._ledger.events.emit(
                    "canary.started",
                    f"{task}@{version} answers {share:.0%} of the requests to {task}@{champion}: {reason}",
                    task=task,
                    version=version,
                    details={"share": share, "champion": champion, "instead_of": before or 0, "actor": actor},
                )
            self._tell(task)
            return Moved(task, CANARY, before, version, time.monotonic() - began)

    def end_canary(self, task: str, *, actor: str, reason: str, expected: int | None = None) -> Moved:
        """Take a task's canary back: all requests are the champion's again.

        Raises `NotAllowed` if there is none, `AliasConflict` if `expected` is given and another one is by now.
        """
        began = time.monotonic()
        with self._lock:
            version = self._ledger.aliases.of(check_task(task)).get(CANARY)
            if version is None:
                raise NotAllowed(f"task {task} has no canary", hint=f"`adapterd list {task}` shows its aliases")
            with self._ledger.transaction():
                self._ledger.aliases.move(task, CANARY, None, expected=expected or version, actor=actor, reason=reason)
                self._ledger.canaries.end(task)
                self._ledger.events.emit(
                    "canary.reverted",
                    f"{task}@{version} is no canary any more: {reason}",
                    task=task,
                    version=version,
                    details={"reason": reason, "actor": actor},
                )
            self._tell(task)
            return Moved(task, CANARY, version, None, time.monotonic() - began)

    def revert(self, task: str, to: int | None, *, actor: str) -> Moved:
        """Make `previous`, or the version `to`, champion again."""
        with self._lock:
            aliases = self._ledger.aliases.of(check_task(task))
            champion = aliases.get(CHAMPION)
            if champion is None:
                raise UnknownAdapter(f"task {task} has no champion to revert from", hint="`adapterd tasks` shows all")
            target = to or aliases.get("previous")
            if target is None:
                raise NotAllowed(
                    f"{task}@{champion} is the first champion: there is no previous one to revert to",
                    hint=f"`adapterd promote {task}@N` makes any listed version champion",
                )
            if target == champion:
                raise NotAllowed(f"{task}@{champion} is champion already", hint=f"`adapterd list {task}` shows all")
            return self.promote(task, target, expected=champion, actor=actor, reason=f"reverted from {task}@{champion}")

    def delete(self, task: str, version: int, *, actor: str) -> VersionRow:
        """Delete a version's files; its row and its number stay. Raises `NotAllowed` while an alias points at it, or a
        job builds on it.
        """
        with self._lock:
            row = self._ledger.versions.get(task, version)
            if row.state is VersionState.DELETED:
                return row
            named = [alias for alias, number in self._ledger.aliases.of(task).items() if number == version]
            if named:
                raise NotAllowed(
                    f"{task}@{version} is the {' and '.join(named)} of {task} and cannot be deleted",
                    hint="promote or revert to another version first",
                )
            if row.pinned:
                raise NotAllowed(
                    f"{task}@{version} is pinned and cannot be deleted",
                    hint=f"`adapterd pin {task}@{version} --off` lets it go",
                )
            if job := self._ledger.jobs.parents(task).get(version):
                drop = self._ledger.jobs.get(job).drop
                raise NotAllowed(
                    f"the training of drop {drop} builds on {task}@{version}, which is not deleted before it is over",
                    hint=f"wait for it, or `adapterd cancel {drop}`",
                )
            with self._ledger.transaction():
                self._delete_row(row, actor)
            failpoint("delete.noted")
            self._tell(task)
            # The row first: a kill in between leaves files that nobody serves, and `sweep` at start removes them.
            self._store.delete(task, version)
            return self._ledger.versions.get(task, version)

    def pin(self, task: str, version: int, pinned: bool, *, actor: str) -> VersionRow:
        """Keep a version whatever retention says, or no longer. Raises `UnknownAdapter`, `VersionNotServable`."""
        with self._lock, self._ledger.transaction():
            before = self._present(task, version)
            if before.pinned == pinned:
                return before
            self._ledger.events.emit(
                "version.pinned" if pinned else "version.unpinned",
                f"{task}@{version} was {'' if pinned else 'un'}pinned by {actor}",
                task=task,
                version=version,
                details={"actor": actor},
            )
            return self._ledger.versions.pin(task, version, pinned)

    def withdraw(
        self,
        task: str,
        versions: Sequence[int],
        *,
        champion: int | None,
        actor: str,
        reason: str,
        also: Callable[[], None] = lambda: None,
    ) -> None:
        """Delete versions although aliases point at them: `champion`, or nothing, stands in their place.

        `also` is done in the ledger's same transaction. Raises `VersionNotServable` and what loading `champion` raises;
        then nothing has changed.
        """
        with self._lock:
            if champion is not None:
                self._manager.ensure(task, champion, self._present(task, champion).digest)
            with self._ledger.transaction():
                for alias, number in self._ledger.aliases.of(task).items():
                    if number in versions:
                        to = champion if alias == CHAMPION else None
                        self._ledger.aliases.move(task, alias, to, expected=number, actor=actor, reason=reason)
                        if alias == CANARY:
                            self._ledger.canaries.end(task)
                also()
                for version in versions:
                    self._delete_row(self._ledger.versions.get(task, version), actor)
            self._tell(task)
            for version in versions:
                self._store.delete(task, version)

    def retain(self, keep_newest: int) -> list[VersionRow]:
        """Delete the files of versions that are neither named by an alias, nor built upon by a job, nor pinned, nor
        among the newest.
        """
        deleted = []
        for task in self._ledger.tasks.names():
            rows = sorted(self._ledger.versions.find(task), key=lambda row: row.version, reverse=True)
            present = [row for row in rows if row.state is not VersionState.DELETED]
            named = {*self._ledger.aliases.of(task).values(), *self._ledger.jobs.parents(task)}
            old = [row.version for row in present[keep_newest:] if not row.pinned and row.version not in named]
            deleted += [self.delete(task, version, actor="retention") for version in old]
        return deleted

    def sweep(self) -> None:
        """Remove what an interrupted publish or delete left behind; called at start."""
        self._store.sweep()
        for row in self._ledger.versions.find():
            if row.state is VersionState.DELETED and self._store.folder(row.task, row.version).exists():
                self._store.delete(row.task, row.version)

    def _delete_row(self, row: VersionRow, actor: str) -> None:
        if row.state is VersionState.AVAILABLE:
            self._ledger.versions.move(row.task, row.version, VersionState.RETIRED)
        self._ledger.versions.move(row.task, row.version, VersionState.DELETED)
        self._ledger.events.emit(
            "version.deleted",
            f"{row.task}@{row.version} was deleted by {actor}",
            task=row.task,
            version=row.version,
            details={"actor": actor},
        )

    def _present(self, task: str, version: int) -> VersionRow:
        """A version whose files are there. Raises `UnknownAdapter`, `VersionNotServable`."""
        row = self._ledger.versions.get(task, version)
        if row.state is VersionState.DELETED:
            raise VersionNotServable(f"{task}@{version} is deleted", hint=f"`adapterd list {task}` shows what is left")
        return row

    def _tell(self, task: str) -> None:
        """Bring the manager's tables of a task up to the ledger's."""
        rows = {row.version: row for row in self._ledger.versions.find(task)}
        self._manager.set_aliases(
            task,
            {
                alias: Served(number, rows[number].digest)
                for alias, number in self._ledger.aliases.of(task).items()
                if rows[number].state not in _GONE
            },
            canary.share if (canary := self._ledger.canaries.of(task)) else 0.0,
            {number: VersionInfo(number, row.digest, row.state) for number, row in rows.items()},
        )

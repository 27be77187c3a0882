"""Keeps the engine's slots as the aliases ask, and hands versions out to requests.

Resolving a name and leasing its version happen under one lock, so that no request gets a slot whose version has just
left it. Reading, checking and trying a version happen outside that lock and off the engine's thread; two requests
for one cold version load it once. What is desired is set (`set_aliases`, `set_versions`); `reconcile` makes reality
follow, one idempotent step at a time.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from .catalog import Key, Resolved, Served, VersionInfo
from .engine import Engine
from .errors import CorruptVersion, EngineStopped, ServingError, StillLeased, VersionNotServable
from .lease import Lease
from .loading import LOAD_S, read_version, try_out
from .refs import AdapterRef
from .residency import Action
from .roster import OnEvent, Roster
from .slots import BASE_SLOT
from .states import ServingState
from .store import Store
from .threads import giving_way

#: Seconds that the requests of a version on its way out may take before that is reported.
DRAIN_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Usage:
    """How many slots there are and hold a version, and how many requests lease one."""

    slots: int
    used: int
    leases: int


class Manager:
    """Versions, aliases, slots and leases of one engine with `slots` slots. Any thread may call any method.

    Versions of up to `host_bytes` together stay in main memory when they have left their slot.

    `clock` gives unix seconds. `on_event(kind, message, task, version)` is told what happens to versions, outside the
    lock and by the thread that caused it; `on_loaded(seconds)` how long one took to be brought in.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        *,
        fingerprint: str,
        slots: int,
        clock: Callable[[], float] = time.time,
        drain_timeout_s: float = DRAIN_TIMEOUT_S,
        host_bytes: int = 0,
        on_event: OnEvent | None = None,
        on_loaded: Callable[[float], None] | None = None,
    ) -> None:
        self._engine = engine
        self._store = store
        self._fingerprint = fingerprint
        self._clock = clock
        self._on_event = on_event
        self._on_loaded = on_loaded
        self._lock = threading.Lock()
        self._roster = Roster(slots, drain_timeout_s, host_bytes)  # touched under the lock alone

    def set_versions(self, task: str, versions: Mapping[int, VersionInfo]) -> None:
        """Replace what is known of a task's versions; the retired and deleted get no request from now on."""
        with self._lock:
            self._roster.catalog.set_versions(task, versions)
            self._roster.settle()
        self._tell()

    def set_aliases(
        self,
        task: str,
        aliases: Mapping[str, Served],
        canary_share: float = 0.0,
        versions: Mapping[int, VersionInfo] | None = None,
    ) -> None:
        """Say where a task's aliases point, all at once: the next request sees all of them moved, or none.

        `canary_share` of the requests to the champion go to the canary. `versions`, as in `set_versions`, change in the
        same moment.
        An alias whose new target is not in the engine yet serves the old one until it is. Leases keep their version.
        """
        with self._lock:
            if versions is not None:
                self._roster.catalog.set_versions(task, versions)
            self._roster.catalog.set_aliases(task, aliases, canary_share)
            self._roster.settle()
        self._tell()

    def lease(self, ref: AdapterRef, request_id: str, timeout: float = LOAD_S, *, request_key: str = "") -> Lease:
        """Hold the version that a reference means now for a request, loading it first if it is not in the engine.

        `request_id` is unique among the requests that run. Requests with one `request_key` see one side of a canary.

        Raises:
            UnknownAdapter: no such task, version or alias.
            VersionNotServable: it is retired or deleted, could not be loaded, or still loads after `timeout` seconds.
            CorruptVersion, BaseMismatch: its files are not fit to serve.
            NoFreeSlot: every slot is leased or pinned.
            EngineStopped: the engine does not run any more.
        """
        if ref.is_base:
            return self._base_lease()
        deadline = time.monotonic() + timeout
        while True:
            with self._lock:
                resolved = self._roster.catalog.resolve(ref, request_key or request_id, self._roster.ready)
                key = resolved.key
                if self._roster.available(key):
                    return self._held(resolved, request_id)
                busy = self._roster.entry(key).busy
                if busy is None:
                    self._roster.check_retry(key, self._clock())
                    self._roster.begin_load(key)
            if busy is None:
                lease = self._load(key, resolved.digest, hold=partial(self._held, resolved, request_id))
                if lease is not None:
                    return lease
            else:
                _wait(key, busy, deadline - time.monotonic(), timeout)

    def ensure(self, task: str, version: int, digest: str) -> None:
        """Bring a version into the engine, so that an alias may move to it; returns when it can answer.

        One that failed before is tried anew at once. Raises what `lease` raises for a version that cannot be loaded.
        """
        key = Key(task, version)
        while True:
            with self._lock:
                if self._roster.available(key):
                    return
                busy = self._roster.entry(key).busy
                if busy is None:
                    self._roster.begin_load(key)
            if busy is None:
                self._load(key, digest)
            else:
                busy.result()

    def reconcile(self, now: float) -> None:
        """Take every version a step towards where it should be: load, drain, unload, report. Call it every second.

        A version that cannot be loaded keeps its reason (`serving_state`), is told as an event, and stops no other.

        Raises:
            EngineStopped: the engine does not run any more.
        """
        with self._lock:
            self._roster.settle()
            wanted = self._roster.wanted()
            keys = [*wanted, *(key for key in self._roster.known() if key not in wanted)]
        for key in keys:
            self._advance(key, wanted.get(key), now)
        self._tell()

    def serving_state(self, task: str, version: int) -> tuple[ServingState, str]:
        """Where a version stands in the engine, and why if that is `ERROR`."""
        with self._lock:
            return self._roster.state(Key(task, version))

    def damage(self, task: str, version: int) -> str:
        """What was wrong with a version's files when it was loaded last; empty if nothing was, or it never was."""
        with self._lock:
            failure = self._roster.failure(Key(task, version))
        return failure.message if isinstance(failure, CorruptVersion) else ""

    def forget(self, task: str, version: int) -> None:
        """Strike a version out: no new request gets it, and it leaves its slot once those that use it have ended."""
        key = Key(task, version)
        with self._lock:
            self._roster.catalog.forget(key)
            self._roster.settle()
        now = self._clock()
        self._advance(key, None, now)  # drain
        self._advance(key, None, now)  # unload, unless it is leased
        self._tell()

    def usage(self) -> Usage:
        """How full the slots are."""
        with self._lock:
            table = self._roster.table
            return Usage(table.capacity, len(table), sum(table.leases(key) for key in table.residents))

    def _held(self, resolved: Resolved, request_id: str) -> Lease:
        """A lease of an available version. Under the lock."""
        key, table = resolved.key, self._roster.table
        held = self._roster.entry(key).held
        assert held is not None

        def release() -> None:
            with self._lock:
                table.release(key, request_id)

        return Lease(
            slot=table.lease(key, request_id),
            task=key.task,
            version=key.version,
            digest=resolved.digest,
            alias=resolved.alias,
            template=held.template,
            release=release,
        )

    def _base_lease(self) -> Lease:
        return Lease(
            slot=BASE_SLOT,
            task="",
            version=0,
            digest=self._fingerprint,
            alias="",
            template={},
            release=lambda: None,
        )

    def _advance(self, key: Key, digest: str | None, now: float) -> None:
        """Do what should be done next about one version; it is wanted if `digest` is given."""
        with self._lock:
            action = self._roster.decide(key, wanted=digest is not None, now=now)
        if action is Action.LOAD and digest is not None:
            try:
                self._load(key, digest)
            except EngineStopped:
                raise
            except ServingError:
                return  # the roster keeps it, and it is told
        elif action is Action.UNLOAD:
            self._unload(key)

    def _load(self, key: Key, digest: str, hold: Callable[[], Lease] | None = None) -> Lease | None:
        """Bring a version into the engine whose loading was begun; unless a request awaits it, slowly where others run.

        `hold` leases it for that request in the moment in which it is there, before its slot can be given away again;
        not if it was retired or deleted meanwhile.
        Raises `ServingError`, which the roster keeps and which is told as an event.
        """
        began = time.monotonic()
        try:
            with self._lock:
                self._roster.table.check_room(key)  # before a file is read in vain
                held = self._roster.host.take(key, digest)
            if held is None:
                read = partial(
                    read_version, self._engine, self._store, key, digest=digest, fingerprint=self._fingerprint
                )
                held = read() if hold else giving_way(read)
            with self._lock:
                slot = self._roster.place(key)
            try:
                self._engine.install(slot, held.adapter)
                if not held.adapter.bounded:
                    try_out(self._engine, key, slot)
            except BaseException:
                with suppress(ServingError):  # the error on its way says more
                    self._engine.evict(slot)
                raise
        except BaseException as error:
            # What only a lack of memory, threads or files can have caused says nothing of the version's own.
            failure = error if isinstance(error, ServingError) else _not_now(key, error)
            with self._lock:
                self._roster.failed(key, failure, self._clock())
            self._tell()
            if failure is error or not isinstance(error, Exception):
                raise
            raise failure from error
        seconds = time.monotonic() - began
        with self._lock:
            self._roster.loaded(key, held, seconds)
            lease = hold() if hold and self._roster.catalog.servable(key) else None
        try:
            if self._on_loaded is not None:
                self._on_loaded(seconds)
            self._tell()
        except BaseException:  # a full disk takes no event
            if lease is not None:
                lease.release()
            raise
        return lease

    def _unload(self, key: Key) -> None:
        """Empty the slot of a version that nobody leases, whose unloading was begun."""
        with self._lock:
            slot = self._roster.table.residents[key]
        try:
            self._engine.evict(slot)
        except BaseException as error:
            with self._lock:
                self._roster.kept(key)
            if not isinstance(error, StillLeased):  # its last requests are ending; the next round finds it empty
                raise
            return
        with self._lock:
            self._roster.unloaded(key)

    def _tell(self) -> None:
        with self._lock:
            events = self._roster.take_events()
        for event in events:
            if self._on_event is not None:
                self._on_event(*event)


def _not_now(key: Key, error: BaseException) -> VersionNotServable:
    return VersionNotServable(
        f"{key} cannot be loaded: {error!r}",
        hint="it is tried again; `adapterd doctor` looks at memory and disk",
        task=key.task,
        version=str(key.version),
    )


def _wait(key: Key, busy: Future[None], seconds: float, timeout: float) -> None:
    try:
        busy.result(max(0.0, seconds))
    except TimeoutError:
        raise VersionNotServable(
            f"{key} is not loaded after {timeout:.0f} s",
            hint="try again",
            task=key.task,
            version=str(key.version),
        ) from None

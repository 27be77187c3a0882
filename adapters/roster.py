"""What the manager knows: versions, aliases, slots, leases, and where each version stands. Bookkeeping alone.

It neither locks nor waits nor reads files: the manager calls it under its lock, does outside it what was decided, and
notes here how that went.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, NamedTuple

from .catalog import Catalog, Key
from .errors import BaseMismatch, CorruptVersion, EngineStopped, NoFreeSlot, ServingError, VersionNotServable
from .host_cache import Held, HostCache
from .residency import Action, Residence, next_action
from .slots import Placement, SlotTable
from .states import ServingState, move

#: Seconds before a version that could not be loaded is tried again: often enough for a mended disk, too seldom to
#: read a broken file over and over.
RETRY_S: Final = 30.0


class Event(NamedTuple):
    """Something that happened to a version in the engine: `kind` for a script, `message` for a person."""

    kind: str
    message: str
    task: str
    version: int


OnEvent = Callable[[str, str, str, int], None]
"""Is told an event: `on_event(kind, message, task, version)`."""


@dataclass(slots=True, eq=False)
class Entry:
    """One version's life in the engine. `busy` is there while a thread loads or unloads it, and done when it has."""

    state: ServingState = ServingState.START
    held: Held | None = None  # what is in its slot
    failure: ServingError | None = None
    retry_at: float = 0.0  # unix seconds
    draining_since: float = 0.0  # unix seconds
    reported: bool = False
    busy: Future[None] | None = None


class Roster:
    """The versions in the engine's `slots` slots and those that should be there. Not thread-safe."""

    def __init__(self, slots: int, drain_timeout_s: float, host_bytes: int) -> None:
        self.catalog: Final = Catalog()
        self.host: Final = HostCache(host_bytes)
        self.table: Final[SlotTable[Key]] = SlotTable(slots)
        self._drain_timeout_s = drain_timeout_s
        self._entries: dict[Key, Entry] = {}
        self._events: list[Event] = []

    def entry(self, key: Key) -> Entry:
        """A version's entry, made if there is none."""
        return self._entries.setdefault(key, Entry())

    def known(self) -> list[Key]:
        """The versions that have an entry."""
        return list(self._entries)

    def wanted(self) -> dict[Key, str]:
        """The versions that should be in the engine whether or not somebody asks, with their digests."""
        return {**self.catalog.pending(), **self.catalog.pinned(self.table.capacity)}

    def state(self, key: Key) -> tuple[ServingState, str]:
        """Where a version stands, and why if it could not be loaded."""
        entry = self._entries.get(key)
        if entry is not None:
            return entry.state, entry.failure.message if entry.failure else ""
        return (ServingState.START if key in self.wanted() else ServingState.END), ""

    def failure(self, key: Key) -> ServingError | None:
        """Why a version could not be loaded last."""
        entry = self._entries.get(key)
        return entry.failure if entry is not None else None

    def settle(self) -> None:
        """Let aliases serve what is ready, and pin what they serve."""
        for moved in self.catalog.settle(self.ready):
            was = "nothing" if moved.source is None else f"version {moved.source}"
            message = f"{moved.task}@{moved.alias} serves version {moved.target}, before that {was}"
            self.note("serving.alias", message, Key(moved.task, moved.target))
        self.host.keep(self.catalog.servable)
        pinned = self.catalog.pinned(self.table.capacity)
        for key in self.table.residents:
            if self._entries[key].busy is None:  # else it is pinned by the one who works on it
                (self.table.pin if key in pinned else self.table.unpin)(key)

    def available(self, key: Key) -> bool:
        """Whether a version takes requests; one on its way out that is servable again does so from now on."""
        entry = self.entry(key)
        if entry.state is ServingState.DRAINING and entry.busy is None and self.catalog.servable(key):
            entry.state = move(entry.state, ServingState.AVAILABLE)
            self.note("serving.available", f"{key} takes requests again", key)
        return entry.state is ServingState.AVAILABLE

    def ready(self, key: Key) -> bool:
        """Whether a version takes requests as it stands."""
        entry = self._entries.get(key)
        return entry is not None and entry.state is ServingState.AVAILABLE

    def check_retry(self, key: Key, now: float) -> None:
        """Raise why a version failed to load, if it is too early to try again. A full engine may have room any time."""
        entry = self.entry(key)
        failure = entry.failure
        if failure is None or isinstance(failure, NoFreeSlot) or now >= entry.retry_at:
            return
        own = isinstance(failure, CorruptVersion | BaseMismatch | EngineStopped)
        kind = type(failure) if own else VersionNotServable
        raise kind(failure.message, hint=failure.hint, task=key.task, version=str(key.version))

    def begin_load(self, key: Key) -> None:
        """The caller loads a version that nobody is busy with."""
        entry = self.entry(key)
        entry.state = move(entry.state, ServingState.LOADING)
        entry.busy = Future()

    def place(self, key: Key) -> int:
        """Give a version that is being loaded its slot, at the cost of the least recently used if there is no other.

        Raises `NoFreeSlot`.
        """
        placement: Placement[Key] = self.table.place(key)
        self.table.pin(key)  # nobody else may take the slot while it is filled
        if placement.evicted is not None:
            self._end(placement.evicted)
            self.note("serving.evicted", f"{placement.evicted} made room for {key}", placement.evicted)
        return placement.slot

    def loaded(self, key: Key, held: Held, seconds: float) -> None:
        """A version was loaded and takes requests."""
        entry = self.entry(key)
        entry.state = move(entry.state, ServingState.AVAILABLE)
        entry.failure, entry.held = None, held
        self.note("serving.available", f"{key} is loaded and warm after {seconds:.2f} s", key)
        self._done(entry)
        self.settle()

    def failed(self, key: Key, failure: ServingError, now: float) -> None:
        """A version could not be loaded; it gives back its slot if it had one."""
        entry = self.entry(key)
        if key in self.table:
            self.table.remove(key)
        entry.state = move(entry.state, ServingState.ERROR)
        entry.failure, entry.retry_at = failure, now + RETRY_S
        self.note("serving.failed", failure.message, key)
        self._done(entry)

    def unloaded(self, key: Key) -> None:
        """A version has left its slot."""
        entry = self.entry(key)
        self.table.remove(key)
        self._end(key)
        self.note("serving.ended", f"{key} has left the engine", key)
        self._done(entry)

    def kept(self, key: Key) -> None:
        """A version could not leave its slot; it goes on draining."""
        self._done(self.entry(key))

    def decide(self, key: Key, *, wanted: bool, now: float) -> Action:
        """What to do about a version, noted as begun. `LOAD` and `UNLOAD` are the caller's to do; the rest is done."""
        entry = self._entries.get(key, Entry())
        if entry.busy is not None:
            return Action.NOTHING
        leases = self.table.leases(key)
        residence = Residence(
            state=entry.state,
            wanted=wanted,
            servable=self.catalog.servable(key),
            leases=leases,
            retry_at=entry.retry_at,
            draining_since=entry.draining_since,
            reported=entry.reported,
        )
        action = next_action(residence, now, self._drain_timeout_s)
        match action:
            case Action.LOAD:
                self.begin_load(key)
            case Action.DRAIN:
                entry.state = move(entry.state, ServingState.DRAINING)
                entry.draining_since, entry.reported = now, False
                self.note("serving.draining", f"{key} takes no new requests, {leases} run", key)
            case Action.RESUME:
                self.available(key)
            case Action.UNLOAD:
                entry.busy = Future()
                self.table.pin(key)  # nobody else may take the slot while it is emptied
            case Action.REPORT:
                entry.reported = True
                waited = now - entry.draining_since
                self.note("serving.drain_slow", f"{key}: {leases} requests still run after {waited:.0f} s", key)
            case Action.GIVE_UP:
                self._end(key)
            case Action.NOTHING:
                pass
        return action

    def note(self, kind: str, message: str, key: Key) -> None:
        """Keep an event until it is told."""
        self._events.append(Event(kind, message, key.task, key.version))

    def take_events(self) -> list[Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def _end(self, key: Key) -> None:
        entry = self._entries.pop(key)
        if entry.state is ServingState.AVAILABLE:
            entry.state = move(entry.state, ServingState.DRAINING)
        entry.state = move(entry.state, ServingState.END)
        if entry.held is not None and self.catalog.servable(key):
            self.host.put(key, entry.held)

    @staticmethod
    def _done(entry: Entry) -> None:
        assert entry.busy is not None
        entry.busy.set_result(None)
        entry.busy = None

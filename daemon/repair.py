"""`adapterd doctor --repair`: brings ledger and store into agreement, with no daemon on the state folder.

Nothing is deleted: a damaged ledger is kept beside its successor, damaged versions are moved to `$STATE/damaged/`, and
each repair is told and is an event. What is sound is not touched, so it may be run at any time.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..adapters.durable import make_folder
from ..adapters.errors import BadRequest, CorruptVersion
from ..adapters.refs import CANARY, CHAMPION, PREVIOUS, check_task
from ..adapters.states import VersionState
from ..adapters.store import Store
from .caller import DAEMON
from .ledger import LEDGER_NAME, Ledger
from .lineage import ancestors
from .salvage import damage_of, salvage
from .state_folder import own_state
from .states import DropState

DAMAGED: Final = "damaged"
"""Where versions go that are not what was published."""

# A drop at these is about to write down the version that it has published.
_ABOUT_TO_PUBLISH: Final = (DropState.TRAINING, DropState.EVALUATED)


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing that was wrong, `kind` for a script, and what was done about it."""

    kind: str
    message: str
    task: str = ""
    version: int = 0


def repair(state: Path, now: float | None = None) -> list[Repair]:
    """Repair a state folder; returns what was done, nothing where all is sound.

    Raises `AlreadyRunning` while a daemon owns the folder, `ConfigError`, `LedgerFailed`.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    with ExitStack() as cleanup:
        own_state(state, cleanup)
        done = list(_ledger(state, stamp))
        ledger = cleanup.enter_context(closing(Ledger(state / LEDGER_NAME)))
        store = Store(state / "adapters")
        done += [Repair("leftover", f"{path} was unfinished and is removed") for path in store.sweep()]
        for step in (_adopt, _set_aside):
            done += list(step(ledger, store, state, stamp))
        for one in done:
            ledger.events.emit(f"repair.{one.kind}", one.message, task=one.task, version=one.version)
    return done


def _ledger(state: Path, stamp: str) -> Iterator[Repair]:
    path = state / LEDGER_NAME
    if not path.exists() or not (damage := damage_of(path)):
        return
    found = salvage(state, stamp)
    rows = ", ".join(f"{count} {table}" for table, count in sorted(found.rows.items()) if count) or "nothing"
    yield Repair(
        "ledger",
        f"the ledger was damaged ({damage.splitlines()[0][:200]}): {rows} could be read and are in a new one; "
        f"the old one is kept as {found.kept.name}",
    )


def _adopt(ledger: Ledger, store: Store, state: Path, stamp: str) -> Iterator[Repair]:
    """Versions in the store of which the ledger knows nothing become candidates."""
    known = {(row.task, row.version) for row in ledger.versions.find()}
    for folder in sorted((state / "adapters").glob("*/*")):
        place = _place_of(folder)
        if place is None or place in known:
            continue
        task, version = place
        if ledger.drops.find(task, states=_ABOUT_TO_PUBLISH):
            continue  # the daemon goes on with it by itself
        if damage := _damage(store, task, version):
            kept = _move_aside(store, state, task, version, stamp)
            yield Repair("unknown", f"{damage}; the ledger does not know it; {kept}", task, version)
            continue
        _add(ledger, task, version, store.manifest(task, version))
        yield Repair(
            "adopted",
            f"{task}@{version} was in the store and not in the ledger; it is a candidate now, to be promoted by you",
            task,
            version,
        )


def _set_aside(ledger: Ledger, store: Store, state: Path, stamp: str) -> Iterator[Repair]:
    """Versions that are not what was published serve no more."""
    present = [row for row in ledger.versions.find() if row.state is not VersionState.DELETED]
    damaged = {
        (row.task, row.version): said for row in present if (said := _damage(store, row.task, row.version, row.digest))
    }
    for (task, version), said in damaged.items():
        sound = {row.version for row in present if row.task == task and (task, row.version) not in damaged}
        with ledger.transaction():
            stands_in = _move_aliases(ledger, task, version, sound)
            row = ledger.versions.get(task, version)
            if row.state is VersionState.AVAILABLE:
                ledger.versions.move(task, version, VersionState.RETIRED)
            ledger.versions.move(task, version, VersionState.DELETED)
        kept = _move_aside(store, state, task, version, stamp)
        yield Repair("damaged", f"{said}; {kept}{stands_in}", task, version)


def _move_aliases(ledger: Ledger, task: str, version: int, sound: set[int]) -> str:
    """Let a sound version stand where the damaged one did: `previous`, else its newest sound ancestor, else none."""
    aliases = ledger.aliases.of(task)
    said = ""
    for alias in (CHAMPION, PREVIOUS, CANARY):
        if aliases.get(alias) != version:
            continue
        to = None
        if alias == CHAMPION:
            behind = [aliases.get(PREVIOUS), *ancestors(ledger, task, version)]
            to = next((number for number in behind if number in sound), None)
            said = f"; {task}@{to} is champion in its place" if to else f"; {task} has no champion now"
        if alias == CANARY:
            ledger.canaries.end(task)
        ledger.aliases.move(task, alias, to, expected=version, actor=DAEMON, reason=f"{task}@{version} is damaged")
        if to is not None and ledger.aliases.of(task).get(PREVIOUS) == to:
            ledger.aliases.move(task, PREVIOUS, None, expected=to, actor=DAEMON, reason="it is champion now")
    return said


def _damage(store: Store, task: str, version: int, digest: str | None = None) -> str:
    """Why a version is not what was published with `digest`, or with that of its manifest; empty if it is."""
    try:
        manifest = store.manifest(task, version)
        store.load(task, version, digest=digest or manifest["digest"], shapes=None)
    except CorruptVersion as error:
        return error.message
    return ""


def _add(ledger: Ledger, task: str, version: int, manifest: dict[str, Any]) -> None:
    gate = manifest.get("gate", {})
    ledger.versions.add(
        task,
        version,
        state=VersionState.CANDIDATE,
        digest=manifest["digest"],
        parent=int(manifest.get("parent", 0)),
        drop=int(manifest.get("data", {}).get("drop", 0)),
        fingerprint=str(manifest.get("base", {}).get("fingerprint", "")),
        metrics=manifest.get("metrics", {}),
        verdict=str(gate.get("decision", "")),
        reason="found in the store by a repair",
    )


def _place_of(folder: Path) -> tuple[str, int] | None:
    if not folder.is_dir() or not folder.name.isdecimal():
        return None
    try:
        return check_task(folder.parent.name), int(folder.name)
    except BadRequest:
        return None


def _move_aside(store: Store, state: Path, task: str, version: int, stamp: str) -> str:
    """Move a version's folder out of the store, if there is one; returns a clause that says where it is."""
    folder = store.folder(task, version)
    if not folder.exists():
        return "nothing is left of it"
    kept = state / DAMAGED / task / f"{folder.name}-{stamp}"
    make_folder(kept.parent, 0o750)
    folder.rename(kept)
    return f"what is left lies in {kept.relative_to(state)}"

"""What a person should know before asking: the warnings of `adapterd status`."""

import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ..adapters.refs import CHAMPION
from ..adapters.states import ServingState
from .states import DropState

if TYPE_CHECKING:
    from .core import Core

LOW_DISK_BYTES: Final = 1 << 30
"""Free bytes below which the next training may fail: checkpoints, a version, the ledger's log."""

STALE_S: Final = 900.0
"""Seconds at one step after which a loop or the engine hangs; parsing the largest file takes minutes."""

_DROPS_SHOWN: Final = 10


def problems(core: "Core", now: float) -> list[str]:
    """One sentence for each thing that does not go on by itself. `now` in unix seconds."""
    return [*_engine(core), *_champions(core), *_forgotten(core), *_drops(core), *_worker(core, now), *_disk(core)]


def _engine(core: "Core") -> Iterator[str]:
    stats = core.engine.stats()
    if stats.error:
        yield f"the engine does not run: {stats.error}; restart the daemon"
    elif (silent := time.monotonic() - stats.heartbeat) > STALE_S:
        yield f"the engine has been at one step for {silent:.0f} s; restart the daemon"


def _champions(core: "Core") -> Iterator[str]:
    for task in core.ledger.tasks.names():
        champion = core.ledger.aliases.of(task).get(CHAMPION)
        if champion is None:
            continue
        state, error = core.manager.serving_state(task, champion)
        if state is ServingState.ERROR:
            yield f"{task}@{champion} is champion and cannot be served: {error}; `adapterd revert {task}` goes back"


def _forgotten(core: "Core") -> Iterator[str]:
    for task in core.ledger.tasks.names():
        if saw := core.forgetting.saw(task):
            said = ", ".join(f"{task}@{version}" for version in saw)
            yield f"{said} learned from rows that are forgotten by now; `adapterd forget {task} --retrain` mends that"


def _drops(core: "Core") -> Iterator[str]:
    held = core.ledger.drops.find(states=[DropState.HELD])
    for drop in held[:_DROPS_SHOWN]:
        yield f"drop {drop.id} of {drop.task} is held: {drop.reason}; `adapterd release {drop.id}` lets it go on"
    if len(held) > _DROPS_SHOWN:
        yield f"{len(held) - _DROPS_SHOWN} more drops are held; `adapterd drops` shows them"


def _worker(core: "Core", now: float) -> Iterator[str]:
    if (silent := now - core.worker.heartbeat) > STALE_S:
        yield f"the worker has taken no step for {silent:.0f} s; the log says at what it hangs"


def _disk(core: "Core") -> Iterator[str]:
    free = shutil.disk_usage(core.settings.state).free
    if free < LOW_DISK_BYTES:
        yield f"only {free / (1 << 20):.0f} MiB are free at {core.settings.state}"

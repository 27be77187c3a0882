"""A core whose worker trains in a moment, and drops to give it: what the tests of drops on their way stand on."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from adapterd.adapters.base import Base
from adapterd.daemon.core import Core
from adapterd.daemon.learning_sections import Trainer, Training
from adapterd.daemon.ledger import DropRow
from adapterd.daemon.states import DropState

from .real_core import real_core

COLOURS = {"red": "warm", "orange": "warm", "blue": "cold", "green": "cold"}
ONE_THREAD = Trainer(threads=1, nice=0, idle=False, retry_s=0.0)
QUICK = Training(rank=2, alpha=4, epochs=2, batch_size=8, learning_rate=0.01, fisher_rows=8, checkpoint_steps=1)


@contextmanager
def learning_core(folder: Path, base: Base | Path) -> Iterator[Core]:
    """A real core with quick training, which tells of its progress at every look."""
    with pytest.MonkeyPatch.context() as patched, real_core(folder, base) as core:
        patched.setattr("adapterd.daemon.job_runner._EVENT_EVERY_S", 0.0)
        core.worker.use(core.settings.model_copy(update={"training": QUICK, "trainer": ONE_THREAD}))
        yield core
        core.worker.stop()


def rows(first: int, count: int) -> str:
    """JSONL rows whose label follows from a word; `first` keeps those of two drops apart."""
    lines = []
    for number in range(first, first + count):
        colour = list(COLOURS)[number % len(COLOURS)]
        lines.append(json.dumps({"text": f"{colour} {number}", "label": COLOURS[colour]}) + "\n")
    return "".join(lines)


def drop(core: Core, task: str, name: str, text: str) -> DropRow:
    """Put a file into the inbox and scan until it is claimed."""
    folder = core.settings.inbox_dir / task
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    os.utime(folder / name, (1, 1))
    now = time.time()
    claimed = [*core.inbox.scan(now), *core.inbox.scan(now + 1)]
    assert len(claimed) == 1
    return claimed[0]


def work(core: Core, until: Callable[[], bool], seconds: float = 250.0) -> None:
    """Step the worker until something holds."""
    pause, end = threading.Event(), time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, [(row.id, row.state, row.reason) for row in core.ledger.drops.find()]
        if not core.worker.step(time.time()):
            pause.wait(0.05)


def finished(core: Core, row: DropRow) -> Callable[[], bool]:
    """Whether nothing goes on with a drop by itself."""
    ends = (DropState.DONE, DropState.HELD, DropState.FAILED, DropState.QUARANTINED)
    return lambda: core.ledger.drops.get(row.id).state in ends

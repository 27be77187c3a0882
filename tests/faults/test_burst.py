"""Thousands of small files at once, on a machine that is busy: none is missed, whatever the kernel's events miss."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from adapterd.daemon.inbox import Inbox
from adapterd.daemon.ledger import Ledger
from adapterd.daemon.watcher import Watcher
from watchdog.events import FileClosedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers.inotify import InotifyObserver

from .conftest import Figure, Size, Tell

pytestmark = pytest.mark.e2e

TASKS, BUSY = 20, 2
# A process of its own, as fast as it can, as careless writers do: straight to the final names.
_WRITER = """
import sys
root, count, tasks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(count):
    with open(f"{root}/task{number % tasks}/{number}.jsonl", "w") as file:
        file.write(f'{{"text": "row {number}", "label": "a"}}\\n')
"""


class Heard(FileSystemEventHandler):
    """Counts the files that the kernel tells of."""

    def __init__(self) -> None:
        self.paths: set[str] = set()

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called by the observer's thread."""
        self.paths.add(str(event.src_path))


@pytest.mark.timeout(2 * 3600)
def test_a_burst_of_small_files_is_claimed_whole(tmp_path: Path, size: Size, figure: Figure, tell: Tell) -> None:
    count, root = size(400, 40_000), tmp_path / "inbox"
    for task in range(TASKS):
        (root / f"task{task}").mkdir(parents=True)
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    inbox = Inbox(root, tmp_path / "spool", ledger, settle_s=0.05)
    woken = threading.Event()
    watcher = Watcher(root, wake=woken.set, renamed=inbox.renamed)
    heard, observer = Heard(), InotifyObserver()
    for task in range(TASKS):
        observer.schedule(heard, str(root / f"task{task}"), event_filter=[FileClosedEvent])
    observer.start()
    watcher.start(time.time())
    try:
        claimed, quiet = 0, 0
        with busy(BUSY):
            writer = subprocess.Popen([sys.executable, "-c", _WRITER, root, str(count), str(TASKS)])
            while writer.poll() is None:
                claimed += len(inbox.scan(time.time()))
        assert writer.returncode == 0
        # The daemon's scanner looks again at once while there is more, and every `rescan_s` whatever it is told.
        while quiet < 3:
            found = len(inbox.scan(time.time()))
            claimed, quiet = claimed + found, 0 if found or inbox.pending() else quiet + 1
            if not inbox.backlog:
                woken.wait(0.1)
                woken.clear()
            tell(f"{claimed} of {count} files claimed")
    finally:
        watcher.stop()
        observer.stop()
        observer.join()
        ledger_has = {row.filename for row in ledger.drops.find()}
        ledger.close()
    figure("burst: files, tasks, busy threads", f"{count}, {TASKS}, {BUSY}")
    figure("burst: missed by the inbox", count - len(ledger_has))
    figure("burst: missed by the kernel's events", count - len(heard.paths))
    assert claimed == count
    assert ledger_has == {f"{number}.jsonl" for number in range(count)}
    assert not [path for path in root.rglob("*") if path.is_file()]


@contextmanager
def busy(threads: int) -> Iterator[None]:
    """Threads that compute and never wait."""
    over = threading.Event()

    def compute() -> None:
        total = 0
        while not over.is_set():
            total = sum(range(1000)) + total % 7

    running: list[threading.Thread] = [threading.Thread(target=compute) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in running:
            thread.join()

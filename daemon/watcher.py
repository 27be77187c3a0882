"""Hints from the kernel that something came into the inbox; they only make the next scan come sooner.

The scan is the truth: events are lost in bursts, a folder that was deleted and made again stays silent, and the
number of watches has a limit. So nothing here is relied upon, and nothing here reads or moves a file.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyObserver

RETRY_S: Final = 60.0
"""Seconds between two tries to watch after one failed."""

_EVENTS: Final[list[type[FileSystemEvent]]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
]
"""What may mean a new file. Not reads and writes: our own reading would wake us."""

_LIMITS: Final = {
    errno.ENOSPC: "the limit fs.inotify.max_user_watches is reached",
    errno.EMFILE: "the limit fs.inotify.max_user_instances is reached",
}


class Watcher:
    """Watches `root` and the folders in it; calls `wake()` when something came, `renamed(path)` first if by a rename.

    Both are called on a thread of the observer and must be quick. `start`, `check` and `stop` are for one thread.
    """

    def __init__(self, root: Path, wake: Callable[[], None], renamed: Callable[[Path], None]) -> None:
        self.root: Final = root
        self._wake = wake
        self._renamed = renamed
        self._observer: BaseObserver | None = None
        self._handler: _Handler | None = None
        self._watched: tuple[int, int] | None = None
        self._trouble = ""
        self._retry_at = float("-inf")

    @property
    def warning(self) -> str:
        """Why hints are missing, so that files are found by the periodic scan alone; empty: all is well."""
        return self._trouble or (self._handler.failure if self._handler else "")

    def start(self, now: float) -> None:
        """Begin to watch at `now` (unix seconds). What prevents it is told by `warning`, and tried again."""
        self.check(now)

    def check(self, now: float) -> None:
        """Watch anew if the folder is another one than before, or the observer died; once in a while, try again."""
        identity = _identity(self.root)
        if self._observer is not None and identity == self._watched and _is_alive(self._observer):
            return
        self.stop()
        if identity is None:
            self._trouble = f"the inbox {self.root} is not there"
        elif now >= self._retry_at:
            self._watch(identity, now)

    def stop(self) -> None:
        """Watch no longer; the observer's threads have ended on return."""
        if self._observer is not None:
            _end(self._observer)
        self._observer, self._handler, self._watched = None, None, None

    def _watch(self, identity: tuple[int, int], now: float) -> None:
        handler = _Handler(self.root, self._wake, self._renamed)
        try:
            self._observer = _observe(handler)
        except OSError as failure:
            why = _LIMITS.get(failure.errno or 0, failure.strerror or str(failure))
            self._trouble = f"the inbox {self.root} is not watched, only scanned from time to time: {why}"
            self._retry_at = now + RETRY_S
            return
        self._handler, self._watched, self._trouble = handler, identity, ""
        self._wake()  # what came before the watch was there gave no hint


class _Handler(FileSystemEventHandler):
    """Turns events into the two calls. Never raises: that would end the observer's thread."""

    def __init__(self, root: Path, wake: Callable[[], None], renamed: Callable[[Path], None]) -> None:
        self.failure = ""
        self.watched: Final = root.resolve()  # a watch on a link would be one on the link itself
        self._root = root
        self._wake = wake
        self._renamed = renamed

    def on_any_event(self, event: FileSystemEvent) -> None:
        try:
            if isinstance(event, FileMovedEvent | DirMovedEvent):
                if not event.dest_path:
                    return  # moved out, by our own claim for example
                if isinstance(event, FileMovedEvent):
                    path = Path(os.fsdecode(event.dest_path))
                    self._renamed(self._root / path.relative_to(self.watched))
            self._wake()
        except Exception as failure:  # noqa: BLE001 - see above; `warning` tells it
            self.failure = f"a hint from the inbox was lost: {failure!r}"


def _observe(handler: _Handler) -> BaseObserver:
    if not os.access(handler.watched, os.R_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(handler.watched))  # watchdog says nothing
    # "Full" events tell a rename into the folder from a new file: it is complete, a new file is not.
    observer = InotifyObserver(generate_full_events=True)
    try:
        observer.schedule(handler, str(handler.watched), recursive=True, event_filter=_EVENTS)
        observer.start()
    except BaseException:
        _end(observer)
        raise
    return observer


def _end(observer: BaseObserver) -> None:
    observer.stop()
    if observer.is_alive():
        observer.join()


def _is_alive(observer: BaseObserver) -> bool:
    """Whether all of its threads run; the emitter ends when its folder is deleted, even if one is made again."""
    return observer.is_alive() and all(emitter.is_alive() for emitter in observer.emitters)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino

"""A thread around a step function: the only place where the daemon waits."""

import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

# Pause after a step that raised: long enough not to spin on a full disk, short enough to notice when it has room.
_BACKOFF_S = 5.0


class Loop:
    """Calls `step(now)` again at once while it returns True, else after `idle_s` or when woken.

    A step that raises is logged, told to `on_error`, and tried again after a pause: what it had to do still stands in
    the ledger.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[float], bool],
        *,
        idle_s: float,
        on_error: Callable[[str, Exception], None] = lambda _name, _error: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.heartbeat = clock()
        self._step = step
        self.idle_s = idle_s
        self._on_error = on_error
        self._clock = clock
        self._woken = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def wake(self) -> None:
        """Look again now instead of at the end of the pause."""
        self._woken.set()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Let the step under way end, and no other begin; False if it has not ended in time."""
        self._stopping = True
        self._woken.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            now = self.heartbeat = self._clock()
            pause = self.idle_s
            try:
                if self._step(now):
                    continue
            except Exception as error:
                log.exception("step failed", loop=self.name)
                self._on_error(self.name, error)
                pause = _BACKOFF_S
            self._woken.wait(pause)
            self._woken.clear()

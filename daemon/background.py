"""What a running daemon does beside answering calls: the scanner, the worker and the schedule, a thread each."""

from collections.abc import Callable

from .config import Settings
from .core import Core
from .drift_watch import DriftWatch
from .environment import give_memory_back
from .fallback import Fallback
from .loop import Loop
from .problems import STALE_S
from .schedule import Schedule, Tick
from .watcher import Watcher

HEALTH_EVERY_S = 5.0
_RECONCILE_EVERY_S = 5.0
_CORRECTIONS_EVERY_S = 60.0
_QUERIES_EVERY_S = 10.0
_CANARY_EVERY_S = 5.0
_DRIFT_EVERY_S = 60.0
_MEMORY_EVERY_S = 10.0
# Between two looks of the worker: while a drop is on its way, and at rest, when a file that comes wakes it.
_UNDERWAY_S, _AT_REST_S = 1.0, 3.0


class Background:
    """The scanner claims files, the worker takes drops their way, the schedule does what comes due."""

    def __init__(
        self,
        settings: Settings,
        core: Core,
        *,
        refresh_health: Callable[[float], object],
        on_error: Callable[[str, Exception], None],
    ) -> None:
        """`on_error` is told the name of a loop and what its step raised, on that loop's thread."""
        self._settings, self._core = settings, core
        self._keep_newest = settings.retention.keep_newest
        self._worker = Loop("worker", self._work, idle_s=_UNDERWAY_S, on_error=on_error)
        self._scanner = Loop("scanner", self._scan, idle_s=settings.rescan_s, on_error=on_error)
        self._watcher = Watcher(settings.inbox_dir, wake=self._scanner.wake, renamed=core.inbox.renamed)
        self._fallback = Fallback(core.ledger, core.manager, core.lifecycle)
        self._schedule = Schedule(
            [
                Tick("rescan", settings.rescan_s, self._rescan),
                Tick("reconcile", _RECONCILE_EVERY_S, core.manager.reconcile),
                Tick("fallback", _RECONCILE_EVERY_S, self._fallback.step),
                Tick("canary", _CANARY_EVERY_S, core.canaries.step),
                Tick("corrections", _CORRECTIONS_EVERY_S, core.corrections.step),
                Tick("queries", _QUERIES_EVERY_S, core.queries.step),
                Tick("drift", _DRIFT_EVERY_S, DriftWatch(core.ledger).step),
                Tick("retention", settings.retention.every_s, self._retain),
                Tick("health", HEALTH_EVERY_S, refresh_health),
                Tick("memory", _MEMORY_EVERY_S, lambda _now: give_memory_back()),
            ]
        )

    def settle(self, now: float) -> None:
        """Before the first call: every alias that can be is in place, or falls back to what can be served."""
        self._core.manager.reconcile(now)
        self._fallback.step(now)

    def start(self, now: float) -> None:
        """Begin; returns at once."""
        self._watcher.start(now)
        self._scanner.start()
        self._worker.start()
        self._schedule.start()

    def stop(self) -> None:
        """Let what is under way end; nothing begins afterwards. A stopped training goes on at the next start."""
        self._schedule.stop()
        self._watcher.stop()
        self._scanner.stop()
        self._worker.stop()
        self._core.worker.stop()

    def use(self, settings: Settings) -> None:
        """Keep as many versions as these settings say, from the next tick on."""
        self._keep_newest = settings.retention.keep_newest

    def moving(self, now: float) -> bool:
        """Whether both loops are alive and have begun a step lately."""
        return all(loop.alive and now - loop.heartbeat < STALE_S for loop in (self._worker, self._scanner))

    def _work(self, now: float) -> bool:
        worked = self._core.worker.step(now)
        self._worker.idle_s = _UNDERWAY_S if self._core.worker.underway else _AT_REST_S
        return worked

    def _scan(self, now: float) -> bool:
        inbox = self._core.inbox
        if inbox.scan(now):
            self._worker.wake()
        # What lies there and has not settled is looked at again when it may have.
        self._scanner.idle_s = self._settings.settle_s if inbox.pending() else self._settings.rescan_s
        return inbox.backlog

    def _rescan(self, now: float) -> None:
        self._watcher.check(now)
        self._scanner.wake()

    def _retain(self, _now: float) -> None:
        self._core.lifecycle.retain(self._keep_newest)

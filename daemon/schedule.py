"""What happens again and again: ticks, each run at its own pace, and the hours in which training may start.

A tick is a step function that takes the time; APScheduler only calls it. Nothing is stored in the scheduler: what is
due after a restart, the ledger knows.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

log = structlog.get_logger(__name__)

DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Tick:
    """Something to run every `every_s` seconds: `run` gets the time (unix seconds), its result is dropped."""

    name: str
    every_s: float
    run: Callable[[float], object]


@dataclass(frozen=True)
class TickCount:
    """How a tick has fared since the start: runs that ended, those of them that raised, and the last of these."""

    runs: int = 0
    errors: int = 0
    ended: float = 0.0
    """Unix seconds at which the last run began that has ended; 0: none has."""
    last_error: str = ""


class Schedule:
    """Runs ticks in threads of its own, each at once when started and then every `every_s` seconds.

    A tick that raises is logged and counted and comes again at its next time; the others do not notice. A tick never
    overlaps with itself: while one run lasts, its next ones are skipped.
    """

    def __init__(self, ticks: Sequence[Tick], clock: Callable[[], float] = time.time) -> None:
        """`clock` gives unix seconds. Raises `ValueError` for a pace that is not above zero or a name used twice."""
        for tick in ticks:
            if not tick.every_s > 0:
                raise ValueError(f"tick {tick.name}: every_s is {tick.every_s}, must be above 0")
        self._counts = {tick.name: TickCount() for tick in ticks}
        if len(self._counts) < len(ticks):
            raise ValueError(f"two ticks share a name: {', '.join(sorted(tick.name for tick in ticks))}")
        self._clock = clock
        self._lock = threading.Lock()
        self._scheduler = BackgroundScheduler(
            # Intervals need no time zone; UTC saves asking the system for one, which fails in bare containers.
            timezone=UTC,
            # A thread each, so that a slow tick holds up nothing but itself.
            executors={"default": ThreadPoolExecutor(max(1, len(ticks)))},
            job_defaults={
                "misfire_grace_time": None,  # late is better than never: a suspended machine wakes up to overdue ticks
                "coalesce": True,  # ... and runs each of them once, however many times it was due
                "max_instances": 1,  # a tick that outlasts its pace does not pile up
            },
        )
        for tick in ticks:
            self._scheduler.add_job(
                self.fire,
                "interval",
                args=(tick,),
                seconds=tick.every_s,
                id=tick.name,
                next_run_time=datetime.now(UTC),
            )

    def start(self) -> None:
        """Begin; returns at once."""
        self._scheduler.start()

    def stop(self) -> None:
        """End; returns once the runs under way are over. Nothing runs afterwards."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)

    def counts(self) -> dict[str, TickCount]:
        """How each tick has fared, by name."""
        with self._lock:
            return dict(self._counts)

    def fire(self, tick: Tick) -> None:
        """Run one tick now, and keep count; what it raises is logged and goes no further."""
        now = self._clock()
        failure = ""
        try:
            tick.run(now)
        except Exception as error:  # a tick may raise anything, and must not take the others with it
            failure = f"{type(error).__name__}: {error}"
            log.exception("tick failed", tick=tick.name)
        with self._lock:
            count = self._counts[tick.name]
            self._counts[tick.name] = replace(
                count,
                runs=count.runs + 1,
                errors=count.errors + bool(failure),
                ended=now,
                last_error=failure or count.last_error,
            )


def in_quiet_window(now_local_minutes: int, window: tuple[int, int]) -> bool:
    """Whether a time of day lies in a window, all in minutes since local midnight.

    The start belongs to the window and the end does not. A window may run over midnight (22:00 to 06:00); one that
    ends where it starts is the whole day.
    """
    start, end = window
    return (now_local_minutes - start) % DAY_MINUTES < ((end - start) % DAY_MINUTES or DAY_MINUTES)

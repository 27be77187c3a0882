"""Ticks at their pace, and the quiet window."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog
from adapterd.daemon.schedule import Schedule, Tick, in_quiet_window
from hypothesis import given
from hypothesis import strategies as st

MINUTES = st.integers(0, 24 * 60 - 1)


@contextmanager
def running(schedule: Schedule) -> Iterator[Schedule]:
    schedule.start()
    try:
        yield schedule
    finally:
        schedule.stop()


def failing(now: float) -> None:
    raise OSError(f"disk gone at {now}")


def test_a_tick_gets_the_time_and_is_counted() -> None:
    times: list[float] = []
    tick = Tick("sweep", 60, times.append)
    schedule = Schedule([tick], clock=lambda: 1000.0)
    schedule.fire(tick)
    schedule.fire(tick)
    count = schedule.counts()["sweep"]
    assert times == [1000.0, 1000.0]
    assert (count.runs, count.errors, count.ended, count.last_error) == (2, 0, 1000.0, "")


def test_a_tick_that_raises_is_logged_with_its_trace_and_counted() -> None:
    tick = Tick("sweep", 60, failing)
    schedule = Schedule([tick], clock=lambda: 7.0)
    with structlog.testing.capture_logs() as logs:
        schedule.fire(tick)
    count = schedule.counts()["sweep"]
    assert (count.runs, count.errors, count.last_error) == (1, 1, "OSError: disk gone at 7.0")
    assert logs == [{"event": "tick failed", "tick": "sweep", "exc_info": True, "log_level": "error"}]


def test_every_tick_runs_at_once_and_then_at_its_pace_though_another_raises() -> None:
    often, rarely = threading.Semaphore(0), threading.Event()
    ticks = [
        Tick("failing", 0.01, failing),
        Tick("often", 0.01, lambda now: often.release()),
        Tick("rarely", 3600, lambda now: rarely.set()),
    ]
    with running(Schedule(ticks)) as schedule:
        assert rarely.wait(5)
        assert all(often.acquire(timeout=5) for _ in range(3))
    assert schedule.counts()["failing"].errors >= 1
    assert schedule.counts()["rarely"].runs == 1


def test_a_slow_tick_holds_up_neither_the_others_nor_the_schedule() -> None:
    entered, free, other = threading.Semaphore(0), threading.Event(), threading.Semaphore(0)

    def slow(now: float) -> None:
        entered.release()
        assert free.wait(5)

    with running(Schedule([Tick("slow", 0.01, slow), Tick("other", 0.01, lambda now: other.release())])):
        assert entered.acquire(timeout=5)
        assert all(other.acquire(timeout=5) for _ in range(3))
        assert not entered.acquire(blocking=False), "a second run of the slow tick began beside the first"
        free.set()
        assert entered.acquire(timeout=5), "the slow tick did not come again"


def test_stop_waits_for_the_run_under_way() -> None:
    entered, free, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(now: float) -> None:
        entered.set()
        free.wait(5)
        ended.set()

    schedule = Schedule([Tick("slow", 60, slow)])
    schedule.start()
    assert entered.wait(5)
    stopper = threading.Thread(target=schedule.stop)
    stopper.start()
    free.set()
    stopper.join(5)
    assert ended.is_set()
    assert not stopper.is_alive()


def test_stop_before_start_does_nothing() -> None:
    Schedule([]).stop()


@pytest.mark.parametrize("every_s", [0.0, -1.0, float("nan")])
def test_a_pace_that_is_not_above_zero_is_refused(every_s: float) -> None:
    with pytest.raises(ValueError, match="sweep"):
        Schedule([Tick("sweep", every_s, failing)])


def test_two_ticks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="share a name"):
        Schedule([Tick("sweep", 1, failing), Tick("sweep", 2, failing)])


@pytest.mark.parametrize(
    ("now", "window", "inside"),
    [
        ("12:00", ("09:00", "17:00"), True),
        ("08:59", ("09:00", "17:00"), False),
        ("09:00", ("09:00", "17:00"), True),
        ("17:00", ("09:00", "17:00"), False),
        ("23:00", ("22:00", "06:00"), True),
        ("00:00", ("22:00", "06:00"), True),
        ("05:59", ("22:00", "06:00"), True),
        ("06:00", ("22:00", "06:00"), False),
        ("12:00", ("22:00", "06:00"), False),
        ("12:00", ("00:00", "00:00"), True),
    ],
)
def test_the_quiet_window(now: str, window: tuple[str, str], inside: bool) -> None:
    def minutes(text: str) -> int:
        return int(text[:2]) * 60 + int(text[3:])

    assert in_quiet_window(minutes(now), (minutes(window[0]), minutes(window[1]))) is inside


@given(start=MINUTES, end=MINUTES)
def test_a_window_and_the_one_from_its_end_to_its_start_share_out_the_day(start: int, end: int) -> None:
    inside = sum(in_quiet_window(now, (start, end)) for now in range(24 * 60))
    outside = sum(in_quiet_window(now, (end, start)) for now in range(24 * 60))
    assert inside + outside == (24 * 60 if start != end else 2 * 24 * 60)

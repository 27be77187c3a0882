"""The thread around a step function."""

import threading

from adapterd.daemon.loop import Loop


def test_steps_again_at_once_while_there_is_something_to_do_and_waits_when_there_is_not() -> None:
    left, idle = [3], threading.Event()

    def step(_now: float) -> bool:
        left[0] -= 1
        if left[0] <= 0:
            idle.set()
        return left[0] > 0

    loop = Loop("test", step, idle_s=60.0)
    loop.start()
    assert idle.wait(5.0)
    assert loop.stop(5.0)
    assert left[0] == 0


def test_a_wake_ends_the_pause() -> None:
    steps, second = [], threading.Event()

    def step(now: float) -> bool:
        steps.append(now)
        if len(steps) == 2:
            second.set()
        return False

    first = iter([1.0, 2.0, 3.0])
    loop = Loop("test", step, idle_s=60.0, clock=lambda: next(first))
    loop.start()
    loop.wake()
    assert second.wait(5.0)
    assert loop.stop(5.0)
    assert steps == [2.0, 3.0]  # the first reading of the clock was the heartbeat at the start


def test_a_step_that_raises_is_told_of_and_the_loop_lives() -> None:
    told = threading.Event()
    errors: list[tuple[str, Exception]] = []

    def step(_now: float) -> bool:
        raise OSError("disk full")

    def on_error(name: str, error: Exception) -> None:
        errors.append((name, error))
        told.set()

    loop = Loop("test", step, idle_s=60.0, on_error=on_error)
    loop.start()
    assert told.wait(5.0)
    assert loop.alive
    assert loop.stop(5.0)
    assert errors[0][0] == "test"
    assert str(errors[0][1]) == "disk full"

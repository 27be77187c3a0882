"""What other threads hand to the engine's: requests to answer, and commands to run between two steps.

It also knows whether the engine lives. Once it is closed nothing comes in, and everything in it fails.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from .batch import Running
from .errors import EngineStopped, QueueFull

Command = Callable[[], None]


class Intake:
    """A queue of at most `most` requests, and one of commands. Any thread may call any method."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._waiting: deque[Running] = deque()
        self._commands: deque[tuple[Command, Future[None]]] = deque()
        self._closed = ""

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def closed(self) -> str:
        """Why nothing comes in any more; empty while it does."""
        return self._closed

    def check_open(self) -> None:
        """Raise `EngineStopped` once it is closed."""
        if self._closed:
            raise EngineStopped(self._closed, hint="try again when the daemon has been restarted")

    def offer(self, running: Running, check: Command, *, urgent: bool, retry_after_s: Callable[[int], float]) -> None:
        """Queue a request, before all others if `urgent`. `check` may raise; no command runs between it and this.

        Raises:
            QueueFull: as many requests wait as may, and it is not urgent; `retry_after_s(waiting)` goes into the error.
            EngineStopped: it is closed.
        """
        with self._changed:
            self.check_open()
            check()
            if len(self._waiting) >= self._most and not urgent:
                seconds = max(1, round(retry_after_s(len(self._waiting))))
                raise QueueFull(
                    f"{len(self._waiting)} requests wait already",
                    hint=f"try again in about {seconds} s",
                    retry_after_s=str(seconds),
                )
            (self._waiting.appendleft if urgent else self._waiting.append)(running)
            self._changed.notify_all()

    def order(self, command: Command) -> Future[None]:
        """Queue a command; the future is done when it was run. Raises `EngineStopped` if it is closed."""
        done: Future[None] = Future()
        with self._changed:
            self.check_open()
            self._commands.append((command, done))
            self._changed.notify_all()
        return done

    def run_commands(self) -> bool:
        """Run the commands that wait, in the caller's thread, while no request comes in; whether there were any."""
        with self._changed:
            ran = bool(self._commands)
            while self._commands:
                command, done = self._commands.popleft()
                try:
                    command()
                except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the command
                    done.set_exception(error)
                else:
                    done.set_result(None)
            return ran

    def drop_cancelled(self) -> None:
        """Take out the requests that nobody waits for any more."""
        with self._changed:
            if any(running.ticket.cancelled for running in self._waiting):
                self._waiting = deque(running for running in self._waiting if not running.ticket.cancelled)

    def admit(self, accept: Callable[[Running], bool]) -> Iterator[Running]:
        """Take out requests in their order as long as `accept` says so."""
        while True:
            with self._changed:
                if not self._waiting or not accept(self._waiting[0]):
                    return
                running = self._waiting.popleft()
            yield running

    def uses(self, slot: int) -> int:
        """How many requests wait for a slot."""
        with self._changed:
            return sum(1 for running in self._waiting if running.request.slot == slot and not running.ticket.cancelled)

    def wait(self, timeout: float) -> None:
        """Wait until something comes in, it is closed, or `timeout` seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._commands or self._closed, timeout)

    def close(self, why: str) -> None:
        """Let nothing in any more and fail what waits; the first reason stays."""
        with self._changed:
            self._closed = self._closed or why
            waiting, commands = list(self._waiting), list(self._commands)
            self._waiting.clear()
            self._commands.clear()
            self._changed.notify_all()
        for running in waiting:
            running.ticket.fail(self.stopped())
        for _, done in commands:
            done.set_exception(self.stopped())

    def stopped(self) -> EngineStopped:
        """The error of whoever comes too late; a new one for each, since tracebacks grow on an exception."""
        return EngineStopped(self._closed, hint="try again when the daemon has been restarted")

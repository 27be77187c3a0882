"""Streams that wait for what happens next: how many there may be, and when they end.

Each such stream holds a thread of the server for as long as its client likes; so there are only so many seats, and
requests always find a thread.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc

from .errors import CallerGone, Stopping, TooManyFollowers

MAX_FOLLOWERS: Final = 32
"""Streams at once, if the server's limit of calls leaves them room."""

POLL_S: Final = 0.25
"""Seconds after which a waiting stream looks whether its client is still there, and the daemon still up."""


class Followers:
    """The seats. One object is shared by all services."""

    def __init__(self, seats: int = MAX_FOLLOWERS) -> None:
        self.seats = seats
        self._lock = threading.Lock()
        self._taken = 0
        self._closed = threading.Event()

    @property
    def taken(self) -> int:
        """Streams that follow now."""
        return self._taken

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Hold a seat for the body. Raises `TooManyFollowers` if none is free."""
        with self._lock:
            if self._taken >= self.seats:
                raise TooManyFollowers(
                    f"{self._taken} streams follow already, and there are no more seats",
                    hint="end another stream (`adapterd events -f`, a Watch), or ask again and again without following",
                )
            self._taken += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken -= 1

    def check(self, context: grpc.ServicerContext) -> None:
        """Return if the stream may go on. Raises `CallerGone`, or `Stopping` once `close` was called."""
        if not context.is_active():
            raise CallerGone("the client is gone")
        if self._closed.is_set():
            raise Stopping("the daemon is going down", hint="connect again when it is back")

    def close(self) -> None:
        """End every stream at its next look, and every new one at once."""
        self._closed.set()

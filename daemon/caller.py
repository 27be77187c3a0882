"""Who asks, as everything that a call changes is written down under: `access` sets it, `Events.emit` takes it."""

from contextvars import ContextVar
from typing import Final

DAEMON: Final = "daemon"
"""What the daemon does by itself: its threads answer no call."""

PERSON: Final = "person"
"""Who comes by the Unix socket or a loopback port without a token, and may do what `access.local` says."""

_caller: Final = ContextVar("caller", default=DAEMON)


def caller() -> str:
    """The name of who asked for what this thread does."""
    return _caller.get()


def act_for(name: str) -> None:
    """From now on this thread works for `name`. Each call says so at its beginning, so nothing is to be reset."""
    _caller.set(name)

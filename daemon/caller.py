"""Who asks, and in which call: what it changes is written down under the one, and logged under the other.

The interceptors set both, `Events.emit` takes the name, and the call's id is on each line of the log (see `log`).
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from structlog.contextvars import bound_contextvars

DAEMON: Final = "daemon"
"""What the daemon does by itself: its threads answer no call."""

PERSON: Final = "person"
"""Who comes by the Unix socket or a loopback port without a token, and may do what `access.local` says."""

_caller: Final = ContextVar("caller", default=DAEMON)
_call: Final = ContextVar("call", default="")


def caller() -> str:
    """The name of who asked for what this thread does."""
    return _caller.get()


def act_for(name: str) -> None:
    """From now on this thread works for `name`. Each call says so at its beginning, so nothing is to be reset."""
    _caller.set(name)


@contextmanager
def call(method: str) -> Iterator[None]:
    """A call with an id of its own, for the body; both are on every line that is logged meanwhile."""
    number = secrets.token_hex(8)
    before = _call.set(number)
    try:
        with bound_contextvars(request=number, method=method):
            yield
    finally:
        _call.reset(before)


def call_id() -> str:
    """The id of the call that this thread answers; outside of any, a new one."""
    return _call.get() or secrets.token_hex(8)

"""Who asks, and in which call: what it changes is written down under the one, and logged under the other.

The interceptors set both, `Events.emit` takes the name, and the call's id is on each line of the log (see `log`).
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from structlog.contextvars import bound_contextvars, get_contextvars

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


@contextmanager
def call(method: str) -> Iterator[None]:
    """A call with an id of its own, for the body; both are on every line that is logged meanwhile."""
    with bound_contextvars(request=_new_id(), method=method):
        yield


def call_id() -> str:
    """The id of the call that this thread answers; outside of any, a new one."""
    return str(get_contextvars().get("request") or _new_id())


def _new_id() -> str:
    return secrets.token_hex(8)

"""Telling a stream of requests that is complete from one that broke off.

gRPC ends the server's iterator the same way for both: the news that the client is gone comes as another event, right
behind the end. Who takes the first for the whole would keep half a file.
"""

import threading
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import grpc

from .errors import CallerGone

Q = TypeVar("Q")

_NEWS_S: Final = 0.25  # both events come from one read of the connection; this is time for a busy machine to tell both


def whole(requests: Iterable[Q], context: grpc.ServicerContext) -> Iterator[Q]:
    """The `requests` as they come. Raises `CallerGone` instead of ending, if the client went away before their end."""
    gone = threading.Event()
    there = context.add_callback(gone.set)
    yield from requests
    if not there or gone.wait(_NEWS_S) or not context.is_active():
        raise CallerGone("the client went away before it had sent everything")

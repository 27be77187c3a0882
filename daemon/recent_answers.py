"""The newest answers, so that a person can still say what they think of them; in memory alone."""

import threading
from collections import OrderedDict
from typing import Final, NamedTuple

from .errors import UnknownRequest
from .questions import Asked

REMEMBERED: Final = 10_000
"""Answers that can still be rated."""

# Characters of prompts that are kept for corrections; the oldest go first.
_MOST_CHARS: Final = 32_000_000


class Answered(NamedTuple):
    """Who gave an answer, as in `Lease`, and what had been asked; None if that is not kept."""

    task: str
    version: int
    digest: str
    alias: str
    asked: Asked | None = None


class RecentAnswers:
    """By the request's id, newest last; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, Answered] = OrderedDict()
        self._chars = 0

    def remember(self, request_id: str, answered: Answered) -> None:
        """Keep an answer; the oldest are forgotten for it."""
        with self._lock:
            self._answers[request_id] = answered
            self._chars += _chars(answered)
            while len(self._answers) > REMEMBERED or (self._chars > _MOST_CHARS and len(self._answers) > 1):
                self._chars -= _chars(self._answers.popitem(last=False)[1])

    def take(self, request_id: str) -> Answered:
        """An answer that nobody has rated; nobody gets it again. Raises `UnknownRequest`."""
        with self._lock:
            if (found := self._answers.pop(request_id, None)) is None:
                raise UnknownRequest(
                    f"no answer to request {request_id[:80]!r} waits for a rating",
                    hint=f"the newest {REMEMBERED:,} answers since the daemon's start can be rated, each once",
                )
            self._chars -= _chars(found)
            return found


def _chars(answered: Answered) -> int:
    return len(answered.asked.text) if answered.asked else 0

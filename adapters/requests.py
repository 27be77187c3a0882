"""What is asked of the engine, and the ticket through which the answer comes.

The engine's thread fills a ticket and another thread, usually a gRPC handler, reads it.
"""

import math
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .errors import BadRequest, ServingError

STOP: Final = "stop"
LENGTH: Final = "length"
CANCELLED: Final = "cancelled"


@dataclass(frozen=True, slots=True)
class Generation:
    """Continue `prompt` (token ids) with the adapter in `slot`, one token after the other.

    Ends before a token of `stop_ids`, after `max_tokens`, or when the context is full. `temperature` 0 is greedy,
    `top_p` 1 and `top_k` 0 keep every token, `seed` is in [0, 2^64).
    """

    request_id: str
    slot: int
    prompt: list[int]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Scoring:
    """The log-likelihood of each of `continuations` (token ids) after `prompt`, with the adapter in `slot`."""

    request_id: str
    slot: int
    prompt: list[int]
    continuations: list[list[int]]


Request = Generation | Scoring


class Ticket:
    """One request's answer as it comes.

    The reader iterates over it, or calls `next_token` where it must look around between tokens; for a `Scoring` it
    takes `result`. The writer calls `put`, and ends it once with `close`, `complete` or `fail`; what comes after the
    end is ignored.
    """

    def __init__(self, request_id: str) -> None:
        self.request_id: Final = request_id
        self._changed = threading.Condition()
        self._tokens: deque[int] = deque()
        self._finish: str | None = None
        self._scores: list[float] | None = None
        self._error: ServingError | None = None
        self._cancelled = False

    def __iter__(self) -> Iterator[int]:
        """Token ids until the answer ends. Raises the engine's error if it failed."""
        while (token := self.next_token(None)) is not None:
            yield token

    def next_token(self, timeout: float | None) -> int | None:
        """The next token id, waiting up to `timeout` seconds, or for ever if that is `None`.

        `None` means that none came in time, or that the answer has ended; `ended` tells which.

        Raises the engine's error if the answer failed, after the tokens that came before.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._tokens or self._closed, timeout)
            if self._tokens:
                return self._tokens.popleft()
            if self._error is not None:
                raise self._error
            return None

    def wait(self, timeout: float | None) -> bool:
        """Wait until the answer is complete or has failed; false if it takes longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, timeout)

    def result(self) -> list[float]:
        """The log-likelihoods in nats, in the order asked; waits for them.

        Raises the engine's error if it failed, and `ServingError` if it was cancelled.
        """
        self.wait(None)
        if self._error is not None:
            raise self._error
        if self._scores is None:
            raise ServingError(f"request {self.request_id} has no scores: it was {self._finish}")
        return self._scores

    @property
    def ended(self) -> bool:
        """Whether the answer is over and every token of it was read."""
        with self._changed:
            return self._closed and not self._tokens

    @property
    def finish(self) -> str | None:
        """Why the answer ended: "stop", "length" or "cancelled"; `None` while it runs or if it failed."""
        return self._finish

    @property
    def cancelled(self) -> bool:
        """Whether the reader has lost interest."""
        return self._cancelled

    def cancel(self) -> None:
        """Lose interest: the engine drops the request before its next step, and nothing more comes."""
        with self._changed:
            self._cancelled = True
            self._end(CANCELLED)

    def put(self, token: int) -> None:
        """Add a token to the answer."""
        with self._changed:
            if not self._closed:
                self._tokens.append(token)
                self._changed.notify_all()

    def close(self, finish: str) -> None:
        """End a generation with its reason."""
        with self._changed:
            self._end(finish)

    def complete(self, scores: list[float]) -> None:
        """End a scoring with its result."""
        with self._changed:
            if not self._closed:
                self._scores = scores
                self._end(STOP)

    def fail(self, error: ServingError) -> None:
        """End the answer with an error, which the reader gets."""
        with self._changed:
            if not self._closed:
                self._error = error
                self._changed.notify_all()

    @property
    def _closed(self) -> bool:
        return self._finish is not None or self._error is not None

    def _end(self, finish: str) -> None:
        if not self._closed:
            self._finish = finish
            self._changed.notify_all()


def check(request: Request, *, vocabulary: int, max_context: int) -> None:
    """Raise `BadRequest`, naming the field, for a request that the model cannot answer."""
    _check_tokens("prompt", "the prompt", request.prompt, vocabulary)
    if len(request.prompt) >= max_context:
        raise BadRequest(
            f"the prompt has {len(request.prompt)} tokens, which leaves no room for an answer in {max_context}",
            hint="shorten it",
            field="prompt",
        )
    if isinstance(request, Scoring):
        if not request.continuations:
            raise BadRequest("there are no continuations to score", hint="name at least one", field="continuations")
        for index, continuation in enumerate(request.continuations):
            _check_tokens("continuations", f"continuation {index}", continuation, vocabulary)
            if len(request.prompt) + len(continuation) > max_context:
                raise BadRequest(
                    f"the prompt and continuation {index} have {len(request.prompt)} and {len(continuation)} tokens, "
                    f"together more than the context of {max_context}",
                    hint="shorten one of them",
                    field="continuations",
                )
        return
    for field, value, ok, rule in (
        ("max_tokens", request.max_tokens, request.max_tokens >= 1, "is at least 1"),
        (
            "temperature",
            request.temperature,
            math.isfinite(request.temperature) and request.temperature >= 0,
            "is a number from 0 (greedy) up",
        ),
        ("top_p", request.top_p, 0 < request.top_p <= 1, "is above 0 and at most 1"),
        ("top_k", request.top_k, request.top_k >= 0, "is 0 (all) or more"),
        ("seed", request.seed, 0 <= request.seed < 2**64, "is in [0, 2^64)"),
    ):
        if not ok:
            raise BadRequest(f"{field} is {value}; it {rule}", hint=f"{field} {rule}", field=field)


def _check_tokens(field: str, what: str, tokens: list[int], vocabulary: int) -> None:
    if not tokens:
        raise BadRequest(f"{what} is empty", hint="give at least one token", field=field)
    if min(tokens) < 0 or max(tokens) >= vocabulary:
        raise BadRequest(
            f"{what} holds a token outside the vocabulary of {vocabulary}",
            hint="tokenize it with the tokenizer of the base",
            field=field,
        )

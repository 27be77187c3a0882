"""Requests sent to an engine, and what became of them."""

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from adapterd.adapters.base import Base
from adapterd.adapters.engine import Engine
from adapterd.adapters.requests import Generation
from adapterd.adapters.threads import in_passing

PROMPT = "Question: What did the engineers of the harbour find when they opened the old signal box?\nAnswer:"
MAX_BATCH = 32
#: Settings of an engine that reads every prompt as a whole and gives one token a step, as all peers do.
PLAIN: Final = {"drafts": False, "prefix_bytes": 0}
CORES = os.cpu_count() or 1
_NUMBER = iter(range(1 << 62))


@contextmanager
def running(base: Base, slots: int, **settings: Any) -> Iterator[Engine]:
    """An engine on `base` that takes up to `MAX_BATCH` requests at once; the model is its own meanwhile."""
    engine = in_passing(
        lambda: Engine(
            base, slots=slots, max_rank=64, max_batch=MAX_BATCH, max_queue=4096, max_context=1024, **settings
        )
    )
    engine.start(cores=CORES)
    try:
        yield engine
    finally:
        engine.stop()


@dataclass(frozen=True)
class Asked:
    """A request: whose adapter, from which prompt, and how many tokens it gets, for none of them ends it."""

    slot: int
    prompt: Sequence[int]
    tokens: int


def generate(engine: Engine, asked: Sequence[Asked]) -> float:
    """Send all at once and read every answer; seconds that it took."""
    began = time.perf_counter()
    tickets = [engine.submit(_request(one)) for one in asked]
    for ticket, one in zip(tickets, asked, strict=True):
        count = sum(1 for _ in ticket)
        if count != one.tokens:
            raise RuntimeError(f"an answer has {count} tokens instead of {one.tokens}")
    return time.perf_counter() - began


def answer(engine: Engine, one: Asked) -> tuple[int, ...]:
    """The tokens of one greedy answer."""
    return tuple(engine.submit(_request(one)))


def p99(seconds: Sequence[float]) -> float:
    """What all but a hundredth of them stay below."""
    return statistics.quantiles(seconds, n=100)[98]


def _request(one: Asked) -> Generation:
    return Generation(f"bench-{next(_NUMBER)}", one.slot, list(one.prompt), one.tokens)


class Clients:
    """`count` threads that each do `work(client)` over and over until the body ends; the first error ends them all."""

    def __init__(self, count: int, work: Callable[[int], None]) -> None:
        self._stopped = threading.Event()
        self._work = work
        self._error: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, args=(client,), daemon=True) for client in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error

    @property
    def failed(self) -> bool:
        """Whether a client had an error."""
        return self._error is not None

    def _run(self, client: int) -> None:
        while not self._stopped.is_set():
            try:
                self._work(client)
            except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for the threads
                self._error = self._error or error
                self._stopped.set()

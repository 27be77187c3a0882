"""Decode steps that are recorded once and replayed: CUDA graphs.

A step of a small base on a GPU goes by the starts of its thousand kernels, which take the processor 45 ms where the GPU
is at work for a few. A graph starts them all at once. It computes with the tensors that it was recorded with, so what
differs from step to step is copied into them: each request's token and place, and which adapters are not its own.

A recording is for a number of requests and a mix of adapters, and it goes with either: with the mix when one of its
slots changes, and with the cache's tensors when those grow. Steps with pieces of prompts in them vary in shape and are
never recorded.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .attention import Ragged
from .batch import Batch, Running
from .lora import SlotBank
from .low_rank import Routing
from .mixes import Mix
from .requests import Generation, Ticket
from .slots import BASE_SLOT

_log = logging.getLogger(__name__)
_SLOW: Final = "decode steps cannot be recorded as CUDA graphs, so they are several times slower: %s"

#: Steps of a kind that are run as they are before one is recorded, which costs as much as two of them.
PLAIN_STEPS: Final = 2

#: Recordings kept before all are made anew; each takes some megabytes of the driver's memory.
MOST: Final = 64

#: How far the logits of a recorded step may lie from a plain one's, whose attention looks at fewer columns.
_ERROR: Final = 0.02

Record = Callable[[Callable[[], object]], Callable[[], None]]
"""Records what a function computes, without computing it, and returns what replays it."""


def recorder(device: torch.device) -> Record | None:
    """What records on `device`; None where nothing is gained by it: a CPU."""
    if device.type != "cuda":
        return None
    try:
        return _CudaGraphs(device).record
    except RuntimeError as failure:
        _log.warning(_SLOW, failure)
        return None


class _CudaGraphs:
    """Graphs that share their memory: each is replayed to its end before the next one, and leaves nothing there."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # The pool is given up with the last of its graphs, after which none can be made in it. So one stays.
        self._first = self._capture(lambda: torch.zeros(1, device=device))

    def record(self, compute: Callable[[], object]) -> Callable[[], None]:
        """As `Record`."""
        return self._capture(compute).replay

    def _capture(self, compute: Callable[[], object]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        here = torch.cuda.current_stream(self._device)
        self._aside.wait_stream(here)
        with torch.cuda.stream(self._aside):
            # Other threads copy versions to the device meanwhile, so only this one is held to what can be recorded.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                compute()
            finally:
                graph.capture_end()
        here.wait_stream(self._aside)
        return graph


@contextmanager
def _waiting_is_an_error(device: torch.device) -> Iterator[None]:
    """Let torch raise `RuntimeError` where the processor waits for a GPU, in the whole process: only at its start."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@dataclass
class _Recording:
    """`inputs` int64 [2, n] and `routing` are what it reads; `replay` leaves logits in the recordings' buffer."""

    inputs: Tensor
    routing: Routing
    replay: Callable[[], None]


class Recordings:
    """The recorded steps of one engine, used by its thread alone.

    `forward(inputs, ragged)` gives logits [n, V] for tokens and positions [2, n]; `logits` [most requests, V] is where
    they are found.
    """

    def __init__(
        self, bank: SlotBank, forward: Callable[[Tensor, Ragged], Tensor], logits: Tensor, record: Record
    ) -> None:
        self._bank = bank
        self._forward = forward
        self._logits = logits
        self._record = record
        self._seen: WeakKeyDictionary[Mix, dict[tuple[int, bool], int]] = WeakKeyDictionary()
        self._kept: WeakKeyDictionary[Mix, dict[tuple[int, bool], _Recording]] = WeakKeyDictionary()
        self._tensors: tuple[object, int] = (None, 0)  # of which cache, after how many moves
        self._failed = False

    def __len__(self) -> int:
        return sum(len(kept) for kept in self._kept.values())

    def try_out(self) -> None:
        """Record the base's own steps for one cache and then for another, and hold them against plain ones.

        Where that fails, nothing is recorded from then on.
        """
        try:
            for _ in range(2):
                self._try_out()
        except RuntimeError as failure:
            self._give_up(str(failure))

    def _try_out(self) -> None:
        batch, running = Batch(), Running.of(Generation("", BASE_SLOT, [0], 1), Ticket(""))
        batch.enter(running)
        batch.promote(running)
        inputs = torch.zeros(2, 1, dtype=torch.int64, device=self._logits.device)
        self._bank.route([BASE_SLOT], [1])
        self._forward(inputs, Ragged(batch.cache, 1, ()))  # makes the cache
        with _waiting_is_an_error(inputs.device):
            # Recording a layer that asks the GPU for something, as int8's do, would fail and spoil the allocator.
            self._forward(inputs, Ragged(batch.cache, 1, (), columns=inputs[1]))
        for place in range(PLAIN_STEPS + 3):
            running.last = batch.cache.lengths[running.row] = place
            found = self.run(batch)
            expected = self._forward(inputs.fill_(place), Ragged(batch.cache, 1, ())).float()
            if found is not None and not (found - expected).norm() <= _ERROR * expected.norm():
                raise RuntimeError("what is replayed is not what is computed")

    def run(self, batch: Batch) -> Tensor | None:
        """The logits [n, V] of the next token of all requests that decode, until the next call.

        None where it is not worth a recording yet, the cache has to grow first, or recording has failed once.
        """
        if self._failed:
            return None
        try:
            return self._run(batch)
        except RuntimeError as failure:
            self._give_up(str(failure))
            return None

    def _run(self, batch: Batch) -> Tensor | None:
        cache, count = batch.cache, batch.decoding
        for row, length in enumerate(cache.lengths[:count]):
            cache.reserve(row, length + 1)
        if not cache.settled:
            return None
        if self._tensors[0] is not cache or self._tensors[1] != cache.moves:
            self._forget()
            self._tensors = (cache, cache.moves)
        slots = [running.request.slot for running in batch.decoders]
        mix = self._bank.mix(slots)
        routing = self._bank.routing(mix, slots, [1] * count)
        inputs = torch.tensor([[running.last for running in batch.decoders], cache.lengths[:count]])
        kind = (count, bool(routing))
        recording = self._kept.setdefault(mix, {}).get(kind)
        if recording is None:
            seen = self._seen.setdefault(mix, {})
            seen[kind] = seen.get(kind, 0) + 1
            if seen[kind] <= PLAIN_STEPS:
                return None
            if len(self) >= MOST:
                self._forget()
            recording = self._make(batch, mix, routing, inputs.to(self._logits.device))
            self._kept.setdefault(mix, {})[kind] = recording
        else:
            recording.inputs.copy_(inputs, non_blocking=True)
            for key, mask in routing.items():
                recording.routing[key].copy_(mask, non_blocking=True)
        recording.replay()
        return self._logits[:count]

    def _make(self, batch: Batch, mix: Mix, routing: Routing, inputs: Tensor) -> _Recording:
        cache, count = batch.cache, batch.decoding

        def compute() -> None:
            self._bank.select(mix, routing)
            self._logits[:count].copy_(self._forward(inputs, Ragged(cache, count, (), columns=inputs[1])))

        return _Recording(inputs, routing, self._record(compute))

    def _give_up(self, why: str) -> None:
        _log.warning(_SLOW, why)
        self._failed = True
        self._forget()

    def _forget(self) -> None:
        self._kept.clear()
        self._seen.clear()

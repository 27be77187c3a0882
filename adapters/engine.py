"""Continuous batching over many adapters: one thread owns the model and takes it one step at a time.

A step drops cancelled requests, runs what other threads asked for (installing a version, evicting one), admits
waiting requests in the order they came, and does one forward: a token for every request that decodes and, within a
budget, pieces of prompts and of scorings. The budget bounds how long a running stream waits for its next token because
somebody else's prompt is read (chunked prefill, Agrawal et al., arXiv 2308.16369).

The engine knows slots and token ids; it knows no names and no text.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from .base import Base
from .batch import Batch, Running
from .errors import CorruptVersion, ServingError, StillLeased, VersionNotServable
from .intake import Intake
from .requests import LENGTH, STOP, Generation, Request, Scoring, Ticket, check
from .runner import Outcome, Runner
from .schedule import Piece, next_piece
from .slots import BASE_SLOT
from .store import AdapterWeights
from .threads import claim_cores

#: Tokens of prompts and scorings in one step, while requests decode and while none does. Two CPU cores read 300 to 900
#: tokens a second, a GPU tens of thousands.
BUSY_TOKENS: Final = {"cpu": 128, "cuda": 1024}
IDLE_TOKENS: Final = {"cpu": 512, "cuda": 4096}

#: Seconds between two heartbeats of an engine with nothing to do.
IDLE_TICK: Final = 0.5


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine at a glance.

    `tokens` counts those generated since the start, `heartbeat` is the `time.monotonic()` of its last sign of life,
    `error` says why it died and is empty while it lives.
    """

    queued: int
    running: int
    tokens: int
    heartbeat: float
    error: str = ""


class Engine:
    """Serves the base in slot 0 and adapters in slots 1 to `slots`, of rank `max_rank` at most.

    `max_batch` requests run at once and `max_queue` wait; a request's prompt and answer have at most `max_context`
    tokens together. `start` runs the loop in a thread of its own; without it, whoever calls `step` is the loop. While
    it lives the base's model is the engine's alone; `stop` gives it back as it was.

    Raises:
        BaseUnavailable: this architecture cannot be served.
    """

    def __init__(
        self, base: Base, *, slots: int, max_rank: int, max_batch: int, max_queue: int, max_context: int
    ) -> None:
        self.slots: Final = slots
        self.max_context: Final = min(max_context, int(base.model.config.max_position_embeddings))
        self._vocabulary = int(base.model.config.vocab_size)
        self._max_batch = max_batch
        kind = "cpu" if base.device.type == "cpu" else "cuda"
        self._busy_tokens, self._idle_tokens = BUSY_TOKENS[kind], IDLE_TOKENS[kind]
        self._intake = Intake(max_queue)
        self._using = threading.RLock()  # held by whoever uses the model and the batch
        self._runner = Runner(base, slots=slots, max_rank=max_rank)
        self._batch = Batch()
        self._running = 0
        self._tokens = 0
        self._heartbeat = time.monotonic()
        self._seconds = 1.0  # that a request takes, smoothed over the last few
        self._thread: threading.Thread | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each layer that an adapter may change."""
        return self._runner.bank.shapes

    def submit(self, request: Request, *, urgent: bool = False) -> Ticket:
        """Queue a request; any thread may. An `urgent` one goes before all others and is never turned away.

        Raises:
            BadRequest: a field is wrong; `details["field"]` names it.
            VersionNotServable: no version is installed in the request's slot.
            QueueFull: `max_queue` requests wait already; `details["retry_after_s"]` says when to come back.
            EngineStopped: the engine does not run any more.
        """
        check(request, vocabulary=self._vocabulary, max_context=self.max_context)
        running = Running.of(request, Ticket(request.request_id))

        def check_slot() -> None:
            if request.slot != BASE_SLOT and request.slot not in self._runner.bank:
                raise VersionNotServable(
                    f"slot {request.slot} holds no version", hint="lease a version and use its slot"
                )

        self._intake.offer(
            running,
            check_slot,
            urgent=urgent,
            retry_after_s=lambda waiting: self._seconds * waiting / self._max_batch,
        )
        return running.ticket

    def install(self, slot: int, weights: AdapterWeights) -> None:
        """Put a version into `slot` between two steps; returns when it is there. Any thread may.

        Checking and laying out happen in the caller's thread; the engine's only takes the references.

        Raises:
            CorruptVersion: the weights do not fit the base.
            StillLeased: a request uses the slot.
            EngineStopped: the engine does not run any more.
        """
        adapter = self._runner.bank.prepare(weights)
        self._between_steps(slot, lambda: self._runner.bank.write(slot, adapter))

    def evict(self, slot: int) -> None:
        """Empty `slot` between two steps and free its memory; an empty one stays empty. Any thread may.

        Raises:
            StillLeased: a request uses the slot.
            EngineStopped: the engine does not run any more.
        """
        self._between_steps(slot, lambda: self._runner.bank.clear(slot))

    @torch.inference_mode()
    def step(self) -> bool:
        """Take the model one step on; false if there was nothing to do.

        Raises:
            EngineStopped: the engine does not run any more.

        Any other exception is the end of the engine: every request fails with `EngineStopped`.
        """
        with self._using:
            self._intake.check_open()
            self._heartbeat = time.monotonic()
            try:
                self._drop_cancelled()
                commanded = self._intake.run_commands()
                pieces = self._plan()
                if not pieces and not self._batch.decoding:
                    self._batch.cache.release()
                    return commanded
                self._deliver(self._runner.run(self._batch, pieces))
            except BaseException as error:
                self._close(f"the engine failed: {type(error).__name__}: {error}")
                raise
            finally:
                self._running = len(self._batch)
            return True

    def start(self, cores: int = 0) -> None:
        """Run the loop in a thread of its own. Raises `EngineStopped` if the engine was stopped or died.

        With `cores` that thread computes with so many, and threads that begin later with one (see `threads`).
        """
        self._intake.check_open()
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, args=(cores,), name="adapterd-engine", daemon=True)
            self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Take nothing more, fail what runs or waits with `EngineStopped`, and give the model back.

        False if the step at hand did not end within `timeout` seconds; the model is then left as it is.
        """
        self._close("the engine was stopped")
        if not self._using.acquire(timeout=timeout):
            return False
        try:
            self._close("the engine was stopped")  # again, for what was on its way from the queue into the batch
            if self._runner.attached:
                self._runner.detach()
        finally:
            self._using.release()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()  # nothing is left for it to do
        return True

    def stats(self) -> EngineStats:
        """How it goes, now."""
        return EngineStats(len(self._intake), self._running, self._tokens, self._heartbeat, self._intake.closed)

    def _loop(self, cores: int) -> None:
        if cores:
            claim_cores(cores)
        while not self._intake.closed:
            try:
                busy = self.step()
            except Exception:  # noqa: BLE001 - `step` has told every request, and `stats` says why
                return
            if not busy:
                self._intake.wait(IDLE_TICK)

    @torch.inference_mode()
    def _drop_cancelled(self) -> None:
        for running in self._batch:
            if running.ticket.cancelled:
                self._batch.leave(running)
        self._intake.drop_cancelled()

    def _plan(self) -> list[tuple[Running, Piece]]:
        """Share out this step's budget: first to those that read already, then to the queue, first come first."""
        budget = room = self._busy_tokens if self._batch.decoding else self._idle_tokens
        pieces: list[tuple[Running, Piece]] = []

        def take(running: Running) -> bool:
            nonlocal room
            computed = self._batch.cache.lengths[running.row] if running.row >= 0 else 0
            piece = next_piece(
                running.request, computed=computed, scored=len(running.scores), room=room, untouched=room == budget
            )
            if piece is not None:
                room -= piece.tokens
                pieces.append((running, piece))
            return piece is not None

        if all(take(running) for running in self._batch.readers):
            for running in self._intake.admit(lambda first: len(self._batch) < self._max_batch and take(first)):
                running.admitted = time.monotonic()
                self._batch.enter(running)
        return pieces

    def _deliver(self, outcome: Outcome) -> None:
        """Hand out what a forward gave."""
        for running, token in outcome.tokens:
            if token is None:
                self._leave(running, _not_finite(running))
            else:
                self._advance(running, token)
        for running, scores in outcome.scores:
            request = running.request
            assert isinstance(request, Scoring)
            running.scores += scores
            if not all(map(math.isfinite, scores)):
                self._leave(running, _not_finite(running))
            elif len(running.scores) == len(request.continuations):
                running.ticket.complete(running.scores)
                self._leave(running)

    def _advance(self, running: Running, token: int) -> None:
        """Hand a generation's token on, and see whether it was the last."""
        request = running.request
        assert isinstance(request, Generation)
        finish = None
        if token in request.stop_ids:
            finish = STOP
        else:
            self._tokens += 1
            running.generated += 1
            running.last = token
            running.ticket.put(token)
            if running.generated == request.max_tokens or len(request.prompt) + running.generated >= self.max_context:
                finish = LENGTH
        if finish is not None:
            running.ticket.close(finish)
            self._leave(running)
        elif running.row >= self._batch.decoding:
            self._batch.promote(running)

    def _leave(self, running: Running, error: ServingError | None = None) -> None:
        if error is not None:
            running.ticket.fail(error)
        self._batch.leave(running)
        self._seconds += 0.2 * (time.monotonic() - running.admitted - self._seconds)

    def _between_steps(self, slot: int, change: Callable[[], None]) -> None:
        """Change an unused slot while no step runs and no request comes in."""

        def command() -> None:
            running = sum(1 for one in self._batch if one.request.slot == slot and not one.ticket.cancelled)
            users = running + self._intake.uses(slot)
            if users:
                raise StillLeased(
                    f"slot {slot} cannot change: {users} requests use it",
                    hint="release a version's lease only after its request has ended",
                    leases=str(users),
                )
            change()

        done = self._intake.order(command)
        if self._thread is None:  # nobody else would run it
            with self._using:
                self._intake.run_commands()
        done.result()

    def _close(self, why: str) -> None:
        """Fail everything, once; nothing comes in afterwards."""
        self._intake.close(why)
        for running in self._batch:
            running.ticket.fail(self._intake.stopped())


def _not_finite(running: Running) -> CorruptVersion:
    return CorruptVersion(
        f"request {running.request.request_id}: slot {running.request.slot} gave values that are not finite",
        hint="the version's weights are unfit to serve; revert the task to an earlier one",
    )

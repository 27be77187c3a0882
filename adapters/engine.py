"""Continuous batching over many adapters: one thread owns the model and takes it one step at a time.

Between two steps of the requests (`stepper`) it runs what other threads asked for: installing a version, evicting one.

The engine knows slots and token ids; it knows no names and no text.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch

from .base import Base
from .batch import Running
from .errors import StillLeased, VersionNotServable
from .intake import Intake
from .lora import PreparedAdapter
from .requests import Request, Ticket, check
from .runner import Runner
from .slots import BASE_SLOT
from .stepper import Stepper
from .store import AdapterWeights
from .threads import claim_cores

#: Seconds between two heartbeats of an engine with nothing to do.
IDLE_TICK: Final = 5.0


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
    tokens together. With `drafts` a generation that repeats itself gets several tokens a step, and beginnings that
    prompts of a slot share are kept in up to `prefix_bytes`. `start` runs the loop in a thread of its own; without it,
    whoever calls `step` is the loop. While it lives the base's model is the engine's alone; `stop` gives it back as it
    was.

    Raises:
        BaseUnavailable: this architecture cannot be served.
    """

    def __init__(
        self,
        base: Base,
        *,
        slots: int,
        max_rank: int,
        max_batch: int,
        max_queue: int,
        max_context: int,
        drafts: bool = True,
        prefix_bytes: int = 64 << 20,
    ) -> None:
        self.slots: Final = slots
        self.max_context: Final = min(max_context, int(base.model.config.max_position_embeddings))
        self._vocabulary = int(base.model.config.vocab_size)
        self._max_batch = max_batch
        self._device = base.device
        self._intake = Intake(max_queue)
        self._using = threading.RLock()  # held by whoever uses the model and the batch
        self._runner = Runner(base, slots=slots, max_rank=max_rank, max_batch=max_batch)
        self._stepper = Stepper(
            self._runner,
            self._intake,
            kind="cpu" if base.device.type == "cpu" else "cuda",
            max_batch=max_batch,
            max_context=self.max_context,
            drafts=drafts,
            prefix_bytes=prefix_bytes,
        )
        self._running = 0
        self._heartbeat = time.monotonic()
        self._thread: threading.Thread | None = None

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
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
            retry_after_s=lambda waiting: self._stepper.seconds * waiting / self._max_batch,
        )
        return running.ticket

    def prepare(self, weights: AdapterWeights) -> PreparedAdapter:
        """Check a version and lay it out for a slot, without touching what runs. Any thread may.

        Raises:
            CorruptVersion: the weights do not fit the base.
        """
        return self._runner.bank.prepare(weights)

    def install(self, slot: int, adapter: PreparedAdapter) -> None:
        """Put a version into `slot` between two steps; returns when it is there. Any thread may.

        Copying to the device happens in the caller's thread; the engine's only takes the references.

        Raises:
            StillLeased: a request uses the slot.
            EngineStopped: the engine does not run any more.
        """
        placed = adapter.to(self._device)
        self._between_steps(slot, lambda: self._runner.bank.write(slot, placed))

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
                commanded = self._intake.run_commands()
                # After the commands, which count no cancelled request: none may go on with its slot changed.
                self._stepper.drop_cancelled()
                return self._stepper.advance() or commanded
            except BaseException as error:
                self._close(f"the engine failed: {type(error).__name__}: {error}")
                raise
            finally:
                self._running = len(self._stepper.batch)

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
        return EngineStats(len(self._intake), self._running, self._stepper.tokens, self._heartbeat, self._intake.closed)

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

    def _between_steps(self, slot: int, change: Callable[[], None]) -> None:
        """Change an unused slot while no step runs and no request comes in."""

        def command() -> None:
            running = sum(1 for one in self._stepper.batch if one.request.slot == slot and not one.ticket.cancelled)
            users = running + self._intake.uses(slot)
            if users:
                raise StillLeased(
                    f"slot {slot} cannot change: {users} requests use it",
                    hint="release a version's lease only after its request has ended",
                    leases=str(users),
                )
            change()
            self._stepper.prefixes.drop(slot)

        done = self._intake.order(command)
        if self._thread is None:  # nobody else would run it
            with self._using:
                self._intake.run_commands()
        done.result()

    def _close(self, why: str) -> None:
        """Fail everything, once; nothing comes in afterwards."""
        self._intake.close(why)
        for running in self._stepper.batch:
            running.ticket.fail(self._intake.stopped())

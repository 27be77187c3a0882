"""One step of the engine: who takes part in a forward, and what becomes of what it gave.

A step drops cancelled requests, admits waiting ones in the order they came, and does one forward: a token for every
request that decodes, guesses at its next ones, and, within a budget, pieces of prompts and of scorings. The budget
bounds how long a running stream waits for its next token because somebody else's prompt is read (chunked prefill,
Agrawal et al., arXiv 2308.16369).
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Final

from .batch import Batch, Running
from .drafting import Drafter
from .errors import CorruptVersion, ServingError
from .intake import Intake
from .prefix_cache import PrefixCache
from .requests import LENGTH, STOP, Generation, Scoring
from .runner import Outcome, Runner
from .schedule import Piece, next_piece

#: Tokens of prompts and scorings in one step, while requests decode and while none does. Two CPU cores read 300 to 900
#: tokens a second, a GPU tens of thousands.
BUSY_TOKENS: Final = {"cpu": 128, "cuda": 1024}
IDLE_TOKENS: Final = {"cpu": 512, "cuda": 4096}

#: Tokens up to which a decoding step takes hardly longer than with one, so that guesses at the next ones cost little.
#: On a GPU a step with guesses has another shape each time, so it is not recorded and takes longer than many that are.
DRAFT_TOKENS: Final = {"cpu": 8, "cuda": 0}

#: Columns that the cache grows by at least, and up to which it stays when nobody asks: with its tensors go the recorded
#: steps, on a GPU.
COLUMN_STEP: Final = {"cpu": 128, "cuda": 1024}
KEPT_COLUMNS: Final = {"cpu": 0, "cuda": 1024}


class Stepper:
    """The requests that run, taken on one step at a time by the engine's thread.

    `tokens` counts those generated; `seconds` is what a request takes, smoothed over the last few.
    """

    def __init__(
        self,
        runner: Runner,
        intake: Intake,
        *,
        kind: str,
        max_batch: int,
        max_context: int,
        drafts: bool,
        prefix_bytes: int,
    ) -> None:
        """`kind`: of device, "cpu" or "cuda"."""
        self.batch: Final = Batch(COLUMN_STEP[kind])
        self.prefixes: Final = PrefixCache(prefix_bytes)
        self.tokens = 0
        self.seconds = 1.0
        self._runner = runner
        self._intake = intake
        self._max_batch = max_batch
        self._max_context = max_context
        self._busy_tokens, self._idle_tokens = BUSY_TOKENS[kind], IDLE_TOKENS[kind]
        self._draft_tokens = DRAFT_TOKENS[kind] if drafts else 0
        self._kept_columns = KEPT_COLUMNS[kind]

    def drop_cancelled(self) -> None:
        """Take out the requests whose readers have lost interest."""
        for running in self.batch:
            if running.ticket.cancelled:
                self.batch.leave(running)
        self._intake.drop_cancelled()

    def advance(self) -> bool:
        """Do one forward; false if there is nothing to do."""
        pieces = self._plan()
        if not pieces and not self.batch.decoding:
            if self.batch.cache.columns > self._kept_columns:
                self.batch.cache.release()
            return False
        drafts = self._drafts()
        self._deliver(self._runner.run(self.batch, pieces, drafts), drafts)
        return True

    def _plan(self) -> list[tuple[Running, Piece]]:
        """Share out this step's budget: first to those that read already, then to the queue, first come first."""
        budget = room = self._busy_tokens if self.batch.decoding else self._idle_tokens
        pieces: list[tuple[Running, Piece]] = []

        def take(running: Running) -> bool:
            nonlocal room
            if running.row < 0:
                found = self.prefixes.find(running.request.slot, running.request.prompt)
                running.known, running.reused = found or (None, 0)
            computed = self.batch.cache.lengths[running.row] if running.row >= 0 else running.reused
            piece = next_piece(
                running.request, computed=computed, scored=len(running.scores), room=room, untouched=room == budget
            )
            if piece is not None:
                room -= piece.tokens
                pieces.append((running, piece))
            return piece is not None

        if all(take(running) for running in self.batch.readers):
            for running in self._intake.admit(lambda first: len(self.batch) < self._max_batch and take(first)):
                running.admitted = time.monotonic()
                self.batch.enter(running)
        return pieces

    def _drafts(self) -> dict[Running, list[int]]:
        """What decoding requests may say next, as far as the step has room for it."""
        decoders = self.batch.decoders
        room = self._draft_tokens - len(decoders)
        drafts: dict[Running, list[int]] = {}
        for place, running in enumerate(decoders):
            share = min(room // (len(decoders) - place), self._left(running) - 1)
            if running.drafter is not None and share > 0:
                drafts[running] = running.drafter.propose(share)
                room -= len(drafts[running])
        return drafts

    def _left(self, running: Running) -> int:
        """Tokens that a generation may still get."""
        request = running.request
        assert isinstance(request, Generation)
        return min(request.max_tokens, self._max_context - len(request.prompt)) - running.generated

    def _deliver(self, outcome: Outcome, drafts: Mapping[Running, Sequence[int]]) -> None:
        """Hand out what a forward gave."""
        for running, tokens in outcome.tokens:
            if tokens is None:
                self._leave(running, _not_finite(running))
                continue
            if not running.generated:
                self._keep_beginning(running)
            if running.drafter is not None:
                running.drafter.learn(len(drafts.get(running, ())), len(tokens) - 1)
            for token in tokens:
                if not self._advance(running, token):
                    break
        for running, scores in outcome.scores:
            request = running.request
            assert isinstance(request, Scoring)
            running.scores += scores
            if not all(map(math.isfinite, scores)):
                self._leave(running, _not_finite(running))
            elif len(running.scores) == len(request.continuations):
                self._keep_beginning(running)
                running.ticket.complete(running.scores)
                self._leave(running)

    def _advance(self, running: Running, token: int) -> bool:
        """Hand a generation's token on; whether it goes on after it."""
        request = running.request
        assert isinstance(request, Generation)
        finish = None
        if token in request.stop_ids:
            finish = STOP
        else:
            self.tokens += 1
            running.generated += 1
            running.last = token
            running.ticket.put(token)
            if not self._left(running):
                finish = LENGTH
        if finish is not None:
            running.ticket.close(finish)
            self._leave(running)
            return False
        if running.row >= self.batch.decoding:
            self.batch.promote(running)
            running.drafter = Drafter(request.prompt) if self._draft_tokens else None
        if running.drafter is not None:
            running.drafter.add(token)
        return True

    def _keep_beginning(self, running: Running) -> None:
        """Keep what a prompt that was read shares with earlier ones."""
        slot, prompt = running.request.slot, running.request.prompt
        if count := self.prefixes.note(slot, prompt, running.reused):
            self.prefixes.keep(slot, prompt[:count], self.batch.cache.save(running.row, count))

    def _leave(self, running: Running, error: ServingError | None = None) -> None:
        if error is not None:
            running.ticket.fail(error)
        self.batch.leave(running)
        self.seconds += 0.2 * (time.monotonic() - running.admitted - self.seconds)


def _not_finite(running: Running) -> CorruptVersion:
    return CorruptVersion(
        f"request {running.request.request_id}: slot {running.request.slot} gave values that are not finite",
        hint="the version's weights are unfit to serve; revert the task to an earlier one",
    )

"""`InferenceService`: from a request to an answer.

    adapter ─► lease (a version and its slot, until the answer ends) ─► template: text to ids ─► engine ─► ids to text

A request is resolved to a version once, when it begins, and ends on that version whatever becomes of the alias.
"""
# ruff: noqa: N802 - the methods bear the names of the .proto file

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import grpc
from adapterd.v1 import inference_pb2

from ..adapters.errors import BadRequest, CorruptVersion
from ..adapters.refs import AdapterRef
from ..adapters.requests import LENGTH, Generation, Request, Scoring, Ticket
from ..continual.shapes import Kind
from ..continual.template import Template
from . import messages
from .caller import call_id
from .detokenize import Detokenizer
from .edge import foreseen
from .errors import CallerGone, DeadlinePassed
from .questions import Asked, best, read_continuations, read_input, read_sampling
from .recent_answers import Answered

if TYPE_CHECKING:
    from ..adapters.lease import Lease
    from .core import Core

_FOREVER_S: Final = 7 * 86400.0  # a lock takes no timeout of centuries
_POLL_S: Final = 0.1  # how soon a client that is gone, or a deadline, is noticed while no token comes


class InferenceService:
    """The handlers; what they raise becomes a status in `edge`."""

    def __init__(self, core: "Core") -> None:
        self._core = core
        self._serving = core.settings.serving
        self._tokenizer = core.base.tokenizer

    def Generate(
        self, request: inference_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[inference_pb2.GenerateResponse]:
        """Text as it comes; the last message says why the answer ended and what it cost."""
        asked = read_input(request.input)
        sampling = read_sampling(request.sampling, default_max_tokens=self._serving.max_tokens)
        call = _Call(context, self._serving.request_timeout_s)
        with self._leased(request, asked, call) as (lease, template):
            served_by = messages.served_by(lease)
            prompt = self._prompt(asked, template)
            generation = Generation(
                request_id=call.id,
                slot=lease.slot,
                prompt=prompt,
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                seed=sampling.seed,
                stop_ids=template.stop_ids(self._tokenizer),
            )
            detokenizer = Detokenizer(self._decode, sampling.stops, template.joint(_kind(asked)))
            with self._submitted(generation) as ticket:
                for burst in _bursts(ticket, call):
                    text = "".join(map(detokenizer.feed, burst))
                    if detokenizer.stopped:
                        break
                    if text:
                        yield inference_pb2.GenerateResponse(text=text, served_by=served_by)
                else:
                    text = detokenizer.finish()
                call.tokens = len(prompt) + detokenizer.tokens
                ended = inference_pb2.FINISH_REASON_STOP
                if ticket.finish == LENGTH and not detokenizer.stopped:
                    ended = inference_pb2.FINISH_REASON_LENGTH
        yield inference_pb2.GenerateResponse(
            text=text,
            finish_reason=ended,
            usage=messages.usage(len(prompt), detokenizer.tokens),
            served_by=served_by,
            request_id=call.id,
        )

    def Complete(
        self, request: inference_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> inference_pb2.CompleteResponse:
        """The same in one answer."""
        pieces = list(self.Generate(request, context))
        last = pieces[-1]
        return inference_pb2.CompleteResponse(
            text="".join(piece.text for piece in pieces),
            finish_reason=last.finish_reason,
            usage=last.usage,
            served_by=last.served_by,
            request_id=last.request_id,
        )

    def Score(self, request: inference_pb2.ScoreRequest, context: grpc.ServicerContext) -> inference_pb2.ScoreResponse:
        """The log-likelihood of each continuation, its end included, after the same prompt."""
        asked = read_input(request.input)
        texts = read_continuations(request.continuations, limit=self._serving.max_continuations)
        call = _Call(context, self._serving.request_timeout_s)
        with self._leased(request, asked, call) as (lease, template):
            prompt = self._prompt(asked, template)
            kind = _kind(asked)
            continuations = [template.encode_continuation(self._tokenizer, text, kind) for text in texts]
            with self._submitted(Scoring(call.id, lease.slot, prompt, continuations)) as ticket:
                while not ticket.wait(call.patience()):
                    call.check()
                scores = ticket.result()
            call.tokens = len(prompt) + sum(map(len, continuations))
            return inference_pb2.ScoreResponse(
                scores=[
                    inference_pb2.ScoredContinuation(text=text, log_likelihood=score, tokens=len(ids))
                    for text, score, ids in zip(texts, scores, continuations, strict=True)
                ],
                best=best(scores),
                usage=messages.usage(len(prompt), sum(map(len, continuations))),
                served_by=messages.served_by(lease),
                request_id=call.id,
            )

    @contextmanager
    def _leased(
        self, request: inference_pb2.GenerateRequest | inference_pb2.ScoreRequest, asked: Asked, call: "_Call"
    ) -> Iterator[tuple["Lease", Template]]:
        """Hold the version that the request asks for now, with its template, for the body; and count how that ends."""
        ref, canaries = AdapterRef.parse(request.adapter), self._core.canaries
        with self._core.manager.lease(ref, call.id, call.left(), request_key=request.request_key) as lease:
            began = time.monotonic()
            try:
                if ref.is_base:
                    yield lease, Template.for_base(bool(self._tokenizer.chat_template))
                else:
                    yield lease, Template.from_json(lease.template)
            except Exception as error:
                # What the caller did, or what befell the engine, says nothing of the version.
                if isinstance(error, CorruptVersion | DeadlinePassed) or foreseen(error) is None:
                    canaries.failed(lease)
                raise
            canaries.answered(lease, time.monotonic() - began, call.tokens)
            who = (lease.task, lease.version, lease.digest, lease.alias)
            kept = asked if self._core.corrections.wanted else None
            if lease.task:
                self._core.queries.observe(lease.task, asked)
            self._core.recent_answers.remember(call.id, Answered(*who, kept))

    @contextmanager
    def _submitted(self, request: Request) -> Iterator[Ticket]:
        """A ticket that is cancelled at the end of the body, however it ends: the slot is the lease's no longer."""
        ticket = self._core.engine.submit(request)
        try:
            yield ticket
        finally:
            ticket.cancel()

    def _prompt(self, asked: Asked, template: Template) -> list[int]:
        ids = template.encode_prompt(self._tokenizer, prompt=asked.prompt, messages=asked.messages)
        context = self._core.engine.max_context
        if len(ids) >= context:
            raise BadRequest(
                f"the prompt has {len(ids)} tokens and leaves no room for an answer in a context of {context}",
                hint="shorten it",
                field=asked.field,
            )
        return ids

    def _decode(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str), "one sequence gives one text"
        return text


class _Call:
    """A call under way: its id, how long it may still take, and the tokens that it read and wrote."""

    def __init__(self, context: grpc.ServicerContext, default_s: float) -> None:
        self.id = call_id()
        self.tokens = 0
        self._context = context
        named = context.time_remaining()  # None where the client names no deadline, whatever the stubs say
        self._ends = time.monotonic() + (default_s if named is None else min(named, _FOREVER_S))

    def left(self) -> float:
        """Seconds until the deadline, not below 0."""
        return max(0.0, self._ends - time.monotonic())

    def patience(self) -> float:
        """Seconds to wait before the next look around."""
        return min(_POLL_S, self.left())

    def check(self) -> None:
        """Return if somebody still waits for the answer. Raises `CallerGone`, `DeadlinePassed`."""
        if not self._context.is_active():
            raise CallerGone("the client is gone")
        if not self.left():
            raise DeadlinePassed(
                "the answer did not come before the request's deadline",
                hint="give it more time, ask for fewer tokens, or try again when there is less to do",
            )


def _bursts(ticket: Ticket, call: _Call) -> Iterator[list[int]]:
    """The tokens of an answer as they come: those together that came while the ones before were sent.

    So a client that reads slowly gets few long messages instead of many short ones.
    """
    while not ticket.ended:
        call.check()
        token = ticket.next_token(call.patience())
        burst: list[int] = []
        while token is not None:
            burst.append(token)
            token = ticket.next_token(0.0)
        if burst:
            yield burst


def _kind(asked: Asked) -> Kind | None:
    """The kind of row that a request is like; None: whatever the version serves plain prompts as."""
    return None if asked.messages is None else Kind.CHAT

"""`LearningService`: data that comes in, what becomes of it, and what the daemon is doing."""
# ruff: noqa: N802 - the methods bear the names of the .proto file

import os
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as release
from typing import TYPE_CHECKING, Final

import grpc
import psutil
from adapterd.v1 import common_pb2, learning_pb2

from ..adapters.errors import BadRequest
from ..adapters.refs import check_task
from . import messages, overview
from .caller import caller
from .config import load_task_settings
from .dataset import Dataset
from .errors import UnknownDrop
from .followers import POLL_S, Followers
from .problems import problems
from .reporting import report
from .request_stream import whole
from .spot_check import sample
from .states import OPEN_JOBS
from .uploads import receive, sweep

if TYPE_CHECKING:
    from .core import Core

_EVENTS_AT_ONCE: Final = 1000
_MOST_SAMPLED: Final = 1000


class LearningService:
    """The handlers; what they raise becomes a status in `edge`. `address` tells where the server listens."""

    def __init__(self, core: "Core", followers: Followers, address: Callable[[], str]) -> None:
        self._core = core
        self._followers = followers
        self._address = address
        self._process = psutil.Process()
        self._dataset = Dataset.below(core.settings.state)
        sweep(core.settings.inbox_dir)  # what a kill left; nothing is under way yet

    def SubmitData(
        self, requests: Iterator[learning_pb2.SubmitDataRequest], context: grpc.ServicerContext
    ) -> learning_pb2.SubmitDataResponse:
        """Put a file into the inbox of the task that the first message names."""
        requests = whole(requests, context)
        first = next(requests, learning_pb2.SubmitDataRequest())
        task = check_task(first.task)
        limits = load_task_settings(self._core.settings, task).limits
        upload = receive(
            self._core.settings.inbox_dir,
            task,
            first.filename,
            _chunks(first, requests),
            max_bytes=limits.max_file_bytes,
            told_bytes=first.size,
        )
        return learning_pb2.SubmitDataResponse(task=task, filename=upload.filename, sha256=upload.sha256)

    def ListDrops(
        self, request: learning_pb2.ListDropsRequest, _context: grpc.ServicerContext
    ) -> learning_pb2.ListDropsResponse:
        """Drops of a task, or of all; those of one hash, or all: newest first. None of an unknown task."""
        rows = self._core.ledger.drops.find(task=request.task or None, sha256=request.sha256 or None)
        return learning_pb2.ListDropsResponse(drops=[messages.drop(row) for row in reversed(rows)])

    def GetDrop(self, request: learning_pb2.GetDropRequest, _context: grpc.ServicerContext) -> learning_pb2.Drop:
        """One drop."""
        return messages.drop(self._core.ledger.drops.get(overview.check_number(request.id, "id")))

    def ReleaseDrop(
        self, request: learning_pb2.ReleaseDropRequest, _context: grpc.ServicerContext
    ) -> learning_pb2.Drop:
        """Let a drop go on."""
        return messages.drop(self._core.worker.release(overview.check_number(request.id, "id")))

    def ListFindings(
        self, request: learning_pb2.ListFindingsRequest, _context: grpc.ServicerContext
    ) -> Iterator[learning_pb2.Finding]:
        """What the audit found in a drop, in the order of what was looked for."""
        drop = self._core.ledger.drops.get(overview.check_number(request.drop, "drop"))
        for finding in self._dataset.read_findings(drop.task, drop.id):
            yield messages.finding(finding)

    def SampleRows(
        self, request: learning_pb2.SampleRowsRequest, _context: grpc.ServicerContext
    ) -> learning_pb2.SampleRowsResponse:
        """Rows drawn at random from a drop, or from all drops of a task."""
        task = overview.check_known(self._core, request.task)
        if not 1 <= request.count <= _MOST_SAMPLED:
            raise BadRequest(f"{request.count} rows cannot be shown", hint=f"1 to {_MOST_SAMPLED}", field="count")
        drops = [drop.id for drop in self._core.ledger.drops.find(task) if request.drop in (0, drop.id)]
        if not drops:
            raise UnknownDrop(f"{task} has no drop {request.drop}", hint=f"`adapterd drops {task}` lists them")
        rows = sample(self._dataset, task, drops, request.count, request.seed)
        return learning_pb2.SampleRowsResponse(rows=[messages.sampled(row) for row in rows])

    def Forget(
        self, request: learning_pb2.ForgetRequest, _context: grpc.ServicerContext
    ) -> learning_pb2.ForgetResponse:
        """Take rows out of all that is kept; with `dry_run` only tell which."""
        task = overview.check_known(self._core, request.task) if request.task else None
        forgetting, drop = self._core.forgetting, overview.check_number(request.drop, "drop")
        if request.dry_run:
            found = forgetting.find(task, text=request.text, drop=drop)
        else:
            found = forgetting.forget(task, text=request.text, drop=drop, actor=caller())
        saw = {name: forgetting.saw(name, found) for name in sorted({one.drop.task for one in found})}
        aliases = {name: self._core.ledger.aliases.of(name) for name in saw}
        return learning_pb2.ForgetResponse(
            found=[messages.found(one) for one in found],
            saw=[
                messages.saw(name, version, drops, aliases[name])
                for name, versions in saw.items()
                for version, drops in versions.items()
            ],
        )

    def Retrain(
        self, request: learning_pb2.RetrainRequest, _context: grpc.ServicerContext
    ) -> learning_pb2.RetrainResponse:
        """Go back to what saw no forgotten row, and learn the drops after it again."""
        task = overview.check_known(self._core, request.task)
        return messages.retraining(self._core.forgetting.retrain(task, actor=caller()))

    def ListJobs(
        self, request: learning_pb2.ListJobsRequest, _context: grpc.ServicerContext
    ) -> learning_pb2.ListJobsResponse:
        """Jobs of a task, or of all, newest first."""
        rows = self._core.ledger.jobs.find(task=request.task or None)
        return learning_pb2.ListJobsResponse(jobs=[messages.job(row) for row in reversed(rows)])

    def CancelJob(self, request: learning_pb2.CancelJobRequest, _context: grpc.ServicerContext) -> learning_pb2.Job:
        """Stop a job."""
        return messages.job(self._core.worker.cancel(overview.check_number(request.id, "id")))

    def Feedback(
        self, request: learning_pb2.FeedbackRequest, _context: grpc.ServicerContext
    ) -> learning_pb2.FeedbackResponse:
        """Take down what a person thinks of an answer, and what it should have been."""
        core, correction = self._core, request.correction
        if not correction and request.rating == learning_pb2.RATING_UNSPECIFIED:
            raise BadRequest("an answer is good or bad", hint="name one of them", field="rating")
        if correction and request.rating == learning_pb2.RATING_GOOD:
            raise BadRequest(
                "an answer that was good needs no correction", hint="leave one of them out", field="rating"
            )
        answered, waiting = core.recent_answers.take(request.request_id), 0
        if correction:
            try:
                waiting = core.corrections.add(answered, correction)
            except BaseException:
                core.recent_answers.remember(request.request_id, answered)  # it can be tried again, in other words
                raise
        core.canaries.rate(request.request_id, answered, good=request.rating == learning_pb2.RATING_GOOD)
        return learning_pb2.FeedbackResponse(served_by=messages.served_by(answered), waiting=waiting)

    def GetReport(self, request: learning_pb2.GetReportRequest, _context: grpc.ServicerContext) -> learning_pb2.Report:
        """What is known of a task, as one JSON document."""
        task = overview.check_known(self._core, request.task)
        return messages.report(task, report(self._core.ledger, task))

    def Events(self, request: learning_pb2.EventsRequest, context: grpc.ServicerContext) -> Iterator[common_pb2.Event]:
        """Events after the one named, of a task or of all; then, if asked for, new ones as they happen."""
        task = check_task(request.task) if request.task else None
        after = overview.check_number(request.after, "after")
        if not request.follow:
            yield from self._past(after, task)
            return
        events = self._core.ledger.events
        with self._followers.seat():
            while True:
                seen = events.last_id()
                for event in self._past(after, task):
                    yield event
                    after = event.id
                # All up to `seen` was there to be read, other tasks' events too, for which nobody has to wait again.
                after = max(after, seen)
                self._followers.check(context)
                while not events.wait(after, POLL_S):
                    self._followers.check(context)

    def GetStatus(self, _request: learning_pb2.GetStatusRequest, _context: grpc.ServicerContext) -> learning_pb2.Status:
        """What the daemon is, holds and does."""
        core, settings = self._core, self._core.settings
        engine, slots = core.engine.stats(), core.manager.usage()
        return learning_pb2.Status(
            version=_release(),
            base=settings.base,
            fingerprint=core.base.fingerprint,
            quantization=core.base.quantization,
            device=str(core.base.device),
            state_dir=str(settings.state),
            inbox=str(settings.inbox_dir),
            address=self._address(),
            started=messages.timestamp(core.started),
            pid=os.getpid(),
            memory_bytes=self._process.memory_info().rss,
            slots=slots.slots,
            slots_used=slots.used,
            leases=slots.leases,
            queued=engine.queued,
            running=engine.running,
            tasks=overview.tasks(core),
            jobs=[messages.job(row) for row in core.ledger.jobs.find(states=OPEN_JOBS)],
            warnings=problems(core, time.time()),
        )

    def _past(self, after: int, task: str | None) -> Iterator[common_pb2.Event]:
        """The events after `after` that there are."""
        while rows := self._core.ledger.events.after(after, task, _EVENTS_AT_ONCE):
            for row in rows:
                yield messages.event(row)
            after = rows[-1].id
            if len(rows) < _EVENTS_AT_ONCE:
                return


def _release() -> str:
    try:
        return release("adapterd")
    except PackageNotFoundError:  # run from its sources
        return "unreleased"


def _chunks(first: learning_pb2.SubmitDataRequest, rest: Iterator[learning_pb2.SubmitDataRequest]) -> Iterator[bytes]:
    yield first.chunk
    for request in rest:
        if request.task not in ("", first.task) or request.filename not in ("", first.filename):
            raise BadRequest(
                "one stream is for one file, and this one names another later",
                hint="name task and file in the first message alone",
                field="filename",
            )
        yield request.chunk

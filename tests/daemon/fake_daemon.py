"""A daemon without a model: a real gRPC server at a real socket, whose services answer from values that a test sets.

Its errors go through the real edge, so a client sees them as those of the real daemon.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from adapterd.adapters.errors import QueueFull, UnknownAdapter, VersionNotServable
from adapterd.adapters.refs import AdapterRef
from adapterd.daemon.edge import ErrorInterceptor
from adapterd.daemon.errors import NotAllowed, UnknownDrop
from adapterd.daemon.transfer import pack, unpack
from adapterd.v1 import (
    adapters_pb2,
    adapters_pb2_grpc,
    common_pb2,
    inference_pb2,
    inference_pb2_grpc,
    learning_pb2,
    learning_pb2_grpc,
)
from google.protobuf.timestamp_pb2 import Timestamp

NOON = 1_785_240_000  # 2026-07-28 12:00:00 UTC


def manifest(version: int, **recipe: Any) -> dict[str, Any]:
    """A manifest as the daemon writes it, with two drops behind version 2."""
    return {
        "format": 1,
        "task": "mood",
        "version": version,
        "parent": version - 1,
        "digest": f"{version:064x}",
        "created": float(NOON + version),
        "base": {"name": "tiny", "fingerprint": "f" * 64, "quantization": "nf4"},
        "data": {"drop": version, "filename": f"{version}.jsonl", "rows": {"train": 80 + version, "heldout": 20}},
        "recipe": {"name": "replay+ewc", "hyperparameters": {"rank": 8, "learning_rate": 0.001, **recipe}},
        "gate": {"decision": "promote", "reason": "better", "checks": [{"drop": version, "passed": True}]},
        "metrics": {"loss": 1.0 / version, "accuracy": 0.5 + version / 10},
        "libraries": {"torch": "2.13.0"},
    }


def version(number: int, **changes: Any) -> adapters_pb2.Version:
    """A version of the task "mood"."""
    values: dict[str, Any] = {
        "task": "mood",
        "version": number,
        "state": common_pb2.VERSION_STATE_AVAILABLE,
        "digest": f"{number:064x}",
        "parent": number - 1,
        "created": Timestamp(seconds=NOON + number),
        "metrics": {"loss": 1.0 / number, "accuracy": 0.5 + number / 10},
        "serving": common_pb2.SERVING_STATE_AVAILABLE,
        "verdict": "promote",
        "reason": f"new drop {number} improves",
        "manifest_json": json.dumps(manifest(number)),
        "drop": number,
    }
    return adapters_pb2.Version(**(values | changes))


def drop(number: int, state: int = common_pb2.DROP_STATE_DONE, **changes: Any) -> learning_pb2.Drop:
    """A drop of the task "mood"."""
    values: dict[str, Any] = {
        "id": number,
        "task": "mood",
        "filename": f"{number}.jsonl",
        "sha256": f"{number:064x}",
        "state": state,
        "rows": 100,
        "bad_rows": 2,
        "train_rows": 78,
        "heldout_rows": 20,
        "version": number,
        "arrived": Timestamp(seconds=NOON),
        "updated": Timestamp(seconds=NOON + 60),
        "plan": "train",
        "details_json": json.dumps({"duplicates": 3}),
        "bytes": 4321,
    }
    return learning_pb2.Drop(**(values | changes))


def event(number: int, kind: str, message: str, **changes: Any) -> common_pb2.Event:
    """An event of the task "mood"."""
    details = changes.pop("details", {})
    values: dict[str, Any] = {"id": number, "time": Timestamp(seconds=NOON + number), "task": "mood"}
    return common_pb2.Event(kind=kind, message=message, details_json=json.dumps(details), **(values | changes))


def report() -> dict[str, Any]:
    """What GetReport says of "mood" with two versions."""
    versions: list[dict[str, Any]] = [
        {
            "version": number,
            "state": "available",
            "aliases": ["champion"] if number == 2 else ["previous"],
            "digest": f"{number:064x}",
            "parent": number - 1,
            "created": float(NOON + number),
            "verdict": "promote",
            "reason": f"new drop {number} improves",
            "drop": number,
            "metrics": {},
            "evaluations": {},
        }
        for number in (1, 2)
    ]
    base = {"loss": 2.0, "accuracy": 0.3, "rows": 20}
    first = {"loss": 1.0, "accuracy": 0.6, "rows": 20}
    versions[0]["evaluations"] = {"1": {"candidate": first, "base": base}}
    versions[1]["evaluations"] = {
        "1": {"candidate": {"loss": 1.1, "accuracy": 0.55, "rows": 20}, "champion": first, "base": base},
        "2": {"candidate": {"loss": 0.5, "accuracy": 0.7, "rows": 20}, "champion": base, "base": base},
    }
    moved = {"alias": "champion", "from": 1, "to": 2, "time": float(NOON + 2), "actor": "gate", "reason": "improves"}
    return {
        "schema": 1,
        "task": "mood",
        "aliases": {"champion": 2, "previous": 1},
        "versions": versions,
        "drops": [],
        "drift": [
            {"time": float(NOON + 2), "kind": "drift.input", "drop": 2, "message": "mood: prompts have moved"},
        ],
        "history": [moved],
    }


def comparison() -> dict[str, Any]:
    """What Compare says of the two versions of "mood": one row got better, one worse."""

    def row(name: str, right: bool) -> dict[str, Any]:
        return {
            "drop": 1,
            "id": name,
            "prompt": f"the {name} row",
            "answer": "glad",
            "right_before": not right,
            "right_after": right,
            "loss_before": 1.5,
            "loss_after": 0.25 if right else 2.5,
            "better": right,
        }

    return {
        "schema": 1,
        "left": "mood@1",
        "right": "mood@2",
        "compared_rows": 20,
        "better": 1,
        "worse": 1,
        "rows": [row("sunny", True), row("rainy", False)],
        "layers": [
            {"layer": "model.layers.0.mlp.up_proj", "norm": 3.0, "change": 0.0},
            {"layer": "model.layers.1.mlp.up_proj", "norm": 3.0, "change": 3.0},
            {"layer": "model.layers.1.mlp.down_proj", "norm": 4.0, "change": 4.0},
        ],
    }


@dataclass
class FakeDaemon:
    """What the services answer from; a test changes it as it likes. `requests` holds what they were asked."""

    folder: Path
    versions: dict[int, adapters_pb2.Version] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    drops: dict[int, learning_pb2.Drop] = field(default_factory=dict)
    jobs: list[learning_pb2.Job] = field(default_factory=list)
    events: list[common_pb2.Event] = field(default_factory=list)
    after_drop: list[tuple[common_pb2.Event, learning_pb2.Drop]] = field(default_factory=list)
    """What happens once a file is submitted and somebody follows: an event, and the drop as it is from then on."""
    words: tuple[str, ...] = ("It ", "is ", "fine.")
    warnings: tuple[str, ...] = ()
    queue_full: bool = False
    report: dict[str, Any] = field(default_factory=report)
    comparison: dict[str, Any] = field(default_factory=comparison)
    requests: list[Any] = field(default_factory=list)
    received: dict[str, bytes] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"unix:{self.folder / 'fake.sock'}"

    def resolve(self, text: str) -> adapters_pb2.Version:
        """The version that a reference names."""
        ref = AdapterRef.parse(text)
        number = ref.version if ref.version is not None else self.aliases.get(ref.alias or "")
        if ref.task != "mood" or number not in self.versions:
            raise UnknownAdapter(f"there is no {text}", hint="`adapterd list` shows all")
        found = adapters_pb2.Version()
        found.CopyFrom(self.versions[number])
        found.aliases[:] = sorted(alias for alias, named in self.aliases.items() if named == number)
        return found

    def task(self) -> adapters_pb2.Task:
        """The task "mood"."""
        return adapters_pb2.Task(
            name="mood",
            champion=self.aliases.get("champion", 0),
            previous=self.aliases.get("previous", 0),
            versions=len(self.versions),
            drops=len(self.drops),
            serving=common_pb2.SERVING_STATE_AVAILABLE,
        )

    def serve(self) -> grpc.Server:
        """Start it; the caller stops the server."""
        server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[ErrorInterceptor()])
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(_Inference(self), server)  # type: ignore[no-untyped-call]
        adapters_pb2_grpc.add_AdapterServiceServicer_to_server(_Adapters(self), server)  # type: ignore[no-untyped-call]
        learning_pb2_grpc.add_LearningServiceServicer_to_server(_Learning(self), server)  # type: ignore[no-untyped-call]
        server.add_insecure_port(self.address)
        server.start()
        return server


class _Inference(inference_pb2_grpc.InferenceServiceServicer):
    def __init__(self, daemon: FakeDaemon) -> None:
        self._daemon = daemon

    def _served_by(self, adapter: str) -> common_pb2.ServedBy:
        if self._daemon.queue_full:
            raise QueueFull("64 requests wait already", hint="come back later")
        if adapter == "base":
            return common_pb2.ServedBy(digest="f" * 64)
        found = self._daemon.resolve(adapter)
        alias = AdapterRef.parse(adapter).alias or ""
        return common_pb2.ServedBy(task=found.task, version=found.version, digest=found.digest, alias=alias)

    def Generate(
        self, request: inference_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[inference_pb2.GenerateResponse]:
        self._daemon.requests.append(request)
        served_by = self._served_by(request.adapter)
        for word in self._daemon.words:
            yield inference_pb2.GenerateResponse(text=word, served_by=served_by)
        usage = inference_pb2.Usage(prompt_tokens=4, completion_tokens=len(self._daemon.words))
        yield inference_pb2.GenerateResponse(
            finish_reason=inference_pb2.FINISH_REASON_STOP, usage=usage, served_by=served_by
        )

    def Complete(
        self, request: inference_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> inference_pb2.CompleteResponse:
        self._daemon.requests.append(request)
        return inference_pb2.CompleteResponse(
            text="".join(self._daemon.words),
            finish_reason=inference_pb2.FINISH_REASON_LENGTH,
            usage=inference_pb2.Usage(prompt_tokens=4, completion_tokens=3),
            served_by=self._served_by(request.adapter),
            request_id="0123456789abcdef",
        )

    def Score(self, request: inference_pb2.ScoreRequest, context: grpc.ServicerContext) -> inference_pb2.ScoreResponse:
        """The shorter, the likelier."""
        self._daemon.requests.append(request)
        scores = [
            inference_pb2.ScoredContinuation(text=text, log_likelihood=-float(len(text)), tokens=len(text))
            for text in request.continuations
        ]
        best = min(range(len(scores)), key=lambda place: len(scores[place].text))
        return inference_pb2.ScoreResponse(scores=scores, best=best, served_by=self._served_by(request.adapter))


class _Adapters(adapters_pb2_grpc.AdapterServiceServicer):
    def __init__(self, daemon: FakeDaemon) -> None:
        self._daemon = daemon

    def ListTasks(
        self, request: adapters_pb2.ListTasksRequest, context: grpc.ServicerContext
    ) -> adapters_pb2.ListTasksResponse:
        return adapters_pb2.ListTasksResponse(tasks=[self._daemon.task()] if self._daemon.versions else [])

    def ListVersions(
        self, request: adapters_pb2.ListVersionsRequest, context: grpc.ServicerContext
    ) -> adapters_pb2.ListVersionsResponse:
        numbers = sorted(self._daemon.versions) if request.task in ("", "mood") else []
        rows = [self._daemon.resolve(f"mood@{number}") for number in numbers]
        for row in rows:
            row.ClearField("manifest_json")
        return adapters_pb2.ListVersionsResponse(versions=rows)

    def GetVersion(
        self, request: adapters_pb2.GetVersionRequest, context: grpc.ServicerContext
    ) -> adapters_pb2.Version:
        return self._daemon.resolve(request.version)

    def Compare(
        self, request: adapters_pb2.CompareRequest, context: grpc.ServicerContext
    ) -> adapters_pb2.CompareResponse:
        for name in (request.left, request.right):
            self._daemon.resolve(name)
        return adapters_pb2.CompareResponse(comparison_json=json.dumps(self._daemon.comparison))

    def _move(self, to: int) -> adapters_pb2.AliasMoved:
        before = self._daemon.aliases.get("champion", 0)
        self._daemon.aliases |= {"champion": to, "previous": before}
        return adapters_pb2.AliasMoved(task="mood", alias="champion", to=to, seconds=0.04, **{"from": before})

    def Promote(self, request: adapters_pb2.PromoteRequest, context: grpc.ServicerContext) -> adapters_pb2.AliasMoved:
        self._daemon.requests.append(request)
        to = self._daemon.resolve(request.version).version
        if request.canary_share:
            return adapters_pb2.AliasMoved(task="mood", alias="canary", to=to, seconds=0.04)
        return self._move(to)

    def Revert(self, request: adapters_pb2.RevertRequest, context: grpc.ServicerContext) -> adapters_pb2.AliasMoved:
        if request.canary:
            return adapters_pb2.AliasMoved(task="mood", alias="canary", seconds=0.04, **{"from": 3})
        return self._move(request.to or self._daemon.aliases["previous"])

    def Delete(self, request: adapters_pb2.DeleteRequest, context: grpc.ServicerContext) -> adapters_pb2.Version:
        found = self._daemon.resolve(request.version)
        if found.aliases:
            raise NotAllowed(f"{request.version} is the {found.aliases[0]}", hint="promote another version first")
        self._daemon.versions[found.version].state = common_pb2.VERSION_STATE_DELETED
        return self._daemon.resolve(request.version)

    def Pin(self, request: adapters_pb2.PinRequest, context: grpc.ServicerContext) -> adapters_pb2.Version:
        self._daemon.versions[self._daemon.resolve(request.version).version].pinned = not request.off
        return self._daemon.resolve(request.version)

    def Export(
        self, request: adapters_pb2.ExportRequest, context: grpc.ServicerContext
    ) -> Iterator[adapters_pb2.ExportResponse]:
        self._daemon.requests.append(request)
        found = self._daemon.resolve(request.version)
        if found.state == common_pb2.VERSION_STATE_DELETED:
            raise VersionNotServable(f"{request.version} is deleted")
        folder = self._daemon.folder / f"{found.version:06d}"
        for piece in pack(folder):
            yield adapters_pb2.ExportResponse(chunk=piece)
        if (self._daemon.folder / "cut").exists():
            raise VersionNotServable(f"{request.version} was deleted meanwhile")

    def Import(
        self, request_iterator: Iterator[adapters_pb2.ImportRequest], context: grpc.ServicerContext
    ) -> adapters_pb2.Version:
        first = next(request_iterator)
        target = self._daemon.folder / "imported"
        target.mkdir()
        unpack((request.chunk for request in request_iterator), target)
        return version(
            9, task=first.task, state=common_pb2.VERSION_STATE_CANDIDATE, drop=0, verdict="", reason="imported"
        )


class _Learning(learning_pb2_grpc.LearningServiceServicer):
    def __init__(self, daemon: FakeDaemon) -> None:
        self._daemon = daemon

    def SubmitData(
        self, request_iterator: Iterator[learning_pb2.SubmitDataRequest], context: grpc.ServicerContext
    ) -> learning_pb2.SubmitDataResponse:
        first = next(request_iterator)
        content = first.chunk + b"".join(request.chunk for request in request_iterator)
        self._daemon.received[first.filename] = content
        sha256 = hashlib.sha256(content).hexdigest()
        for _, after in self._daemon.after_drop:
            after.sha256 = sha256
        return learning_pb2.SubmitDataResponse(task=first.task, filename=first.filename, sha256=sha256)

    def ListDrops(
        self, request: learning_pb2.ListDropsRequest, context: grpc.ServicerContext
    ) -> learning_pb2.ListDropsResponse:
        rows = [row for row in self._daemon.drops.values() if request.sha256 in ("", row.sha256)]
        return learning_pb2.ListDropsResponse(drops=rows)

    def _drop(self, number: int) -> learning_pb2.Drop:
        if number not in self._daemon.drops:
            raise UnknownDrop(f"there is no drop {number}", hint="`adapterd drops` shows all")
        return self._daemon.drops[number]

    def GetDrop(self, request: learning_pb2.GetDropRequest, context: grpc.ServicerContext) -> learning_pb2.Drop:
        return self._drop(request.id)

    def ReleaseDrop(self, request: learning_pb2.ReleaseDropRequest, context: grpc.ServicerContext) -> learning_pb2.Drop:
        found = self._drop(request.id)
        found.state = common_pb2.DROP_STATE_AUDITED
        return found

    def ListJobs(
        self, request: learning_pb2.ListJobsRequest, context: grpc.ServicerContext
    ) -> learning_pb2.ListJobsResponse:
        return learning_pb2.ListJobsResponse(jobs=self._daemon.jobs)

    def CancelJob(self, request: learning_pb2.CancelJobRequest, context: grpc.ServicerContext) -> learning_pb2.Job:
        (job,) = (job for job in self._daemon.jobs if job.id == request.id)
        job.state = learning_pb2.JOB_STATE_CANCELLED
        held = self._drop(job.drop)
        held.state, held.reason = common_pb2.DROP_STATE_HELD, f"job {job.id} was cancelled by a person"
        return job

    def ListFindings(
        self, request: learning_pb2.ListFindingsRequest, context: grpc.ServicerContext
    ) -> Iterator[learning_pb2.Finding]:
        self._drop(request.drop)
        yield learning_pb2.Finding(concern="contradiction", line=7, said="asks what line 3 asks", other_line=3)
        yield learning_pb2.Finding(concern="balance", said='"a" has one row')

    def SampleRows(
        self, request: learning_pb2.SampleRowsRequest, context: grpc.ServicerContext
    ) -> learning_pb2.SampleRowsResponse:
        self._daemon.requests.append(request)
        row = {"id": "0", "kind": "label", "prompt": "a fine\nday", "context": "", "completion": "yes", "messages": []}
        drawn = learning_pb2.SampleRowsResponse.Row(drop=2, line=5, side="train", row_json=json.dumps(row))
        return learning_pb2.SampleRowsResponse(rows=[drawn])

    def Forget(self, request: learning_pb2.ForgetRequest, context: grpc.ServicerContext) -> learning_pb2.ForgetResponse:
        self._daemon.requests.append(request)
        if request.text == "nobody":
            return learning_pb2.ForgetResponse()
        found = learning_pb2.ForgetResponse.Found(
            task="mood", drop=2, filename="b.jsonl", rows=3, learned=2, judged=1, bad_rows=1
        )
        file = learning_pb2.ForgetResponse.Found(task="mood", drop=4, filename="d.parquet", unsearched=True)
        saw = learning_pb2.ForgetResponse.Saw(task="mood", version=2, aliases=["champion"], drops=[2])
        return learning_pb2.ForgetResponse(found=[found, file], saw=[saw])

    def Retrain(
        self, request: learning_pb2.RetrainRequest, context: grpc.ServicerContext
    ) -> learning_pb2.RetrainResponse:
        self._daemon.requests.append(request)
        return learning_pb2.RetrainResponse(task=request.task, champion=1, deleted=[2], drops=[2, 3])

    def Feedback(
        self, request: learning_pb2.FeedbackRequest, context: grpc.ServicerContext
    ) -> learning_pb2.FeedbackResponse:
        self._daemon.requests.append(request)
        served_by = common_pb2.ServedBy(task="mood", version=2, alias="champion")
        return learning_pb2.FeedbackResponse(served_by=served_by, waiting=3 if request.correction else 0)

    def GetReport(self, request: learning_pb2.GetReportRequest, context: grpc.ServicerContext) -> learning_pb2.Report:
        return learning_pb2.Report(task=request.task, report_json=json.dumps(self._daemon.report))

    def Events(self, request: learning_pb2.EventsRequest, context: grpc.ServicerContext) -> Iterator[common_pb2.Event]:
        yield from [row for row in self._daemon.events if row.id > request.after and request.task in ("", row.task)]
        while request.follow and self._daemon.after_drop:
            happened, after = self._daemon.after_drop.pop(0)
            self._daemon.events.append(happened)
            self._daemon.drops[after.id] = after
            yield happened
        while request.follow and context.is_active() and not self._daemon.stopping.wait(0.02):
            pass

    def GetStatus(self, request: learning_pb2.GetStatusRequest, context: grpc.ServicerContext) -> learning_pb2.Status:
        job = learning_pb2.Job(
            id=3, task="mood", drop=2, state=learning_pb2.JOB_STATE_RUNNING, phase="training", progress=0.42, attempts=1
        )
        return learning_pb2.Status(
            version="0.1.0",
            base="tiny",
            fingerprint="f" * 64,
            quantization="nf4",
            device="cpu",
            state_dir=str(self._daemon.folder),
            inbox=str(self._daemon.folder / "inbox"),
            address=self._daemon.address,
            started=Timestamp(seconds=NOON),
            pid=4711,
            memory_bytes=512_000_000,
            slots=32,
            slots_used=2,
            leases=1,
            running=1,
            tasks=[self._daemon.task()] if self._daemon.versions else [],
            jobs=[job] if self._daemon.versions else [],
            warnings=self._daemon.warnings,
        )

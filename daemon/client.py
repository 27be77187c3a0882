"""The other end of the wire: what the command line talks to a daemon with.

    with Client("unix:/run/adapterd/adapterd.sock") as client:  # or tls:gpu1.example.org:50051, with settings
        client.adapters.ListTasks(adapters_pb2.ListTasksRequest())

Methods are named and typed as in the .proto files. What the daemon answers instead of a result becomes a `RemoteError`
with the message and the hint that the daemon gave; that nobody answers becomes `NotRunning`.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, TypeVar, cast

import grpc
from adapterd.v1 import (
    adapters_pb2,
    adapters_pb2_grpc,
    common_pb2,
    inference_pb2,
    inference_pb2_grpc,
    learning_pb2,
    learning_pb2_grpc,
)
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from .address import Address, parse_any
from .errors import DaemonError, NotRunning, RemoteError, Stopping
from .serving_sections import Client as Settings
from .tls import channel_credentials, read_token

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),  # a long list is no reason to fail: the daemon is ours
    ("grpc.enable_http_proxy", 0),  # nothing stands between the daemon and us, whatever $http_proxy says
)

Metadata = tuple[tuple[str, str], ...]

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Far:
    """The daemon that is called, and what each call shows it."""

    address: Address
    metadata: Metadata = ()


class Unary(Generic[Q, A]):
    """A method that takes one request and gives one answer."""

    def __init__(self, method: "grpc.UnaryUnaryMultiCallable[Q, A]", far: "Far") -> None:
        self._method = method
        self._far = far

    def __call__(self, request: Q, *, timeout: float | None = None) -> A:
        """The answer; `timeout` in seconds. Raises `RemoteError`, `NotRunning`."""
        with _translated(self._far.address):
            return self._method(request, timeout=timeout, metadata=self._far.metadata)


class Upload(Generic[Q, A]):
    """A method that takes requests as they come and gives one answer."""

    def __init__(self, method: "grpc.StreamUnaryMultiCallable[Q, A]", far: "Far") -> None:
        self._method = method
        self._far = far

    def __call__(self, requests: Iterable[Q], *, timeout: float | None = None) -> A:
        """The answer, when all requests are sent, or before that if it is an error.

        Raises `RemoteError`, `NotRunning`, and what `requests` raises.
        """
        failure: list[Exception] = []
        begun = threading.Event()

        def sent() -> Iterator[Q]:
            try:
                yield from requests
            except Exception as error:  # noqa: BLE001 - raised again where the caller is; this is gRPC's thread
                failure.append(error)
                begun.wait()
                call.cancel()  # to end here alone would tell the daemon that it has everything

        call = self._method.future(sent(), timeout=timeout, metadata=self._far.metadata)
        begun.set()
        try:
            with _translated(self._far.address):
                return call.result()
        except (DaemonError, grpc.FutureCancelledError):
            if failure:
                raise failure[0] from None
            raise


class Stream(Generic[Q, A]):
    """A method that takes one request and gives answers as they come."""

    def __init__(self, method: "grpc.UnaryStreamMultiCallable[Q, A]", far: "Far") -> None:
        self._method = method
        self._far = far

    def __call__(self, request: Q, *, timeout: float | None = None) -> Iterator[A]:
        """The answers. An iterator that is dropped or closed cancels the call. Raises `RemoteError`, `NotRunning`."""
        with _translated(self._far.address):
            call = self._method(request, timeout=timeout, metadata=self._far.metadata)
            try:
                yield from call
            finally:
                call.cancel()


class Inference:
    """`adapterd.v1.InferenceService`."""

    def __init__(self, channel: grpc.Channel, far: Far) -> None:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)  # type: ignore[no-untyped-call] # generated
        self.Generate = Stream[inference_pb2.GenerateRequest, inference_pb2.GenerateResponse](stub.Generate, far)
        self.Complete = Unary[inference_pb2.GenerateRequest, inference_pb2.CompleteResponse](stub.Complete, far)
        self.Score = Unary[inference_pb2.ScoreRequest, inference_pb2.ScoreResponse](stub.Score, far)


class Adapters:
    """`adapterd.v1.AdapterService`."""

    def __init__(self, channel: grpc.Channel, far: Far) -> None:
        stub = adapters_pb2_grpc.AdapterServiceStub(channel)  # type: ignore[no-untyped-call] # generated
        self.ListTasks = Unary[adapters_pb2.ListTasksRequest, adapters_pb2.ListTasksResponse](stub.ListTasks, far)
        self.ListVersions = Unary[adapters_pb2.ListVersionsRequest, adapters_pb2.ListVersionsResponse](
            stub.ListVersions, far
        )
        self.GetVersion = Unary[adapters_pb2.GetVersionRequest, adapters_pb2.Version](stub.GetVersion, far)
        self.Compare = Unary[adapters_pb2.CompareRequest, adapters_pb2.CompareResponse](stub.Compare, far)
        self.Promote = Unary[adapters_pb2.PromoteRequest, adapters_pb2.AliasMoved](stub.Promote, far)
        self.Revert = Unary[adapters_pb2.RevertRequest, adapters_pb2.AliasMoved](stub.Revert, far)
        self.Delete = Unary[adapters_pb2.DeleteRequest, adapters_pb2.Version](stub.Delete, far)
        self.Pin = Unary[adapters_pb2.PinRequest, adapters_pb2.Version](stub.Pin, far)
        self.Export = Stream[adapters_pb2.ExportRequest, adapters_pb2.ExportResponse](stub.Export, far)
        self.Import = Upload[adapters_pb2.ImportRequest, adapters_pb2.Version](stub.Import, far)
        self.Watch = Stream[adapters_pb2.WatchRequest, adapters_pb2.WatchResponse](stub.Watch, far)


class Learning:
    """`adapterd.v1.LearningService`."""

    def __init__(self, channel: grpc.Channel, far: Far) -> None:
        stub = learning_pb2_grpc.LearningServiceStub(channel)  # type: ignore[no-untyped-call] # generated
        self.SubmitData = Upload[learning_pb2.SubmitDataRequest, learning_pb2.SubmitDataResponse](stub.SubmitData, far)
        self.ListDrops = Unary[learning_pb2.ListDropsRequest, learning_pb2.ListDropsResponse](stub.ListDrops, far)
        self.GetDrop = Unary[learning_pb2.GetDropRequest, learning_pb2.Drop](stub.GetDrop, far)
        self.ReleaseDrop = Unary[learning_pb2.ReleaseDropRequest, learning_pb2.Drop](stub.ReleaseDrop, far)
        self.ListFindings = Stream[learning_pb2.ListFindingsRequest, learning_pb2.Finding](stub.ListFindings, far)
        self.SampleRows = Unary[learning_pb2.SampleRowsRequest, learning_pb2.SampleRowsResponse](stub.SampleRows, far)
        self.ListJobs = Unary[learning_pb2.ListJobsRequest, learning_pb2.ListJobsResponse](stub.ListJobs, far)
        self.CancelJob = Unary[learning_pb2.CancelJobRequest, learning_pb2.Job](stub.CancelJob, far)
        self.Forget = Unary[learning_pb2.ForgetRequest, learning_pb2.ForgetResponse](stub.Forget, far)
        self.Retrain = Unary[learning_pb2.RetrainRequest, learning_pb2.RetrainResponse](stub.Retrain, far)
        self.Feedback = Unary[learning_pb2.FeedbackRequest, learning_pb2.FeedbackResponse](stub.Feedback, far)
        self.GetReport = Unary[learning_pb2.GetReportRequest, learning_pb2.Report](stub.GetReport, far)
        self.Events = Stream[learning_pb2.EventsRequest, common_pb2.Event](stub.Events, far)
        self.GetStatus = Unary[learning_pb2.GetStatusRequest, learning_pb2.Status](stub.GetStatus, far)


class Client:
    """A connection to the daemon at `address`, made at the first call; `settings` say what it shows and whom it trusts.

    Raises `ConfigError` for a wrong address, and for a token or certificate that cannot be read.
    """

    def __init__(self, address: str, settings: Settings = Settings()) -> None:  # noqa: B008 - frozen
        self.address: Final = parse_any(address)
        target, token = self.address.target, read_token(settings)
        if self.address.tls:
            self._channel = grpc.secure_channel(target, channel_credentials(settings), options=_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        far = Far(self.address, (("authorization", f"Bearer {token}"),) if token else ())
        self.inference: Final = Inference(self._channel, far)
        self.adapters: Final = Adapters(self._channel, far)
        self.learning: Final = Learning(self._channel, far)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and every call on it."""
        self._channel.close()


@contextmanager
def _translated(address: Address) -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise _as_own(cast("grpc.Call", error), address) from error


def _as_own(call: grpc.Call, address: Address) -> DaemonError:
    """The error of ours that a call's failure stands for."""
    code, message = call.code(), call.details() or ""
    info = _error_info(call)
    if code is grpc.StatusCode.UNAVAILABLE and (info is None or info.reason == Stopping.reason):
        return NotRunning(
            f"no daemon answers at {address}: {message}",
            hint=_absence_hint(address),
            address=str(address),
        )
    details = dict(info.metadata) if info is not None else {}
    hint = details.pop("hint", "") or _HINTS.get(code, "")
    # Names of details are the daemon's choice; they must not collide with those of the arguments.
    details = {name: value for name, value in details.items() if name not in ("message", "status", "cause")}
    return RemoteError(
        message or code.name, status=code.name, cause=info.reason if info is not None else "", hint=hint, **details
    )


_HINTS: Final = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "the daemon is busy; `adapterd status` shows what it does",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "the daemon has as many calls under way as it takes; try again in a moment",
    grpc.StatusCode.UNIMPLEMENTED: "the daemon is of another release than this program: restart it",
}


def _error_info(call: grpc.Call) -> error_details_pb2.ErrorInfo | None:
    try:
        status: status_pb2.Status | None = rpc_status.from_call(call)
    except ValueError:  # details that contradict the status: not from one of our daemons
        return None
    found = error_details_pb2.ErrorInfo()
    if status is not None and any(packed.Unpack(found) for packed in status.details):
        return found
    return None


def _absence_hint(address: Address) -> str:
    if address.path is not None and os.access(address.path, os.F_OK) and not os.access(address.path, os.W_OK):
        return f"you may not write to {address.path}: join the group that owns it, or ask as its owner"
    if address.tls:
        return "is it there, does it serve other machines (access.address), and do both trust the other's certificate?"
    return "start it with `adapterd serve`, or name the right one with --address"

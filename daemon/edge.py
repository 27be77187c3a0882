"""Where errors leave the daemon: each class becomes one gRPC status, and nothing else gets out.

A status carries `google.rpc.ErrorInfo` (the class's reason, its details, and the hint as `hint`), for a wrong field
`google.rpc.BadRequest`, and where waiting helps `google.rpc.RetryInfo`. What nobody foresaw becomes INTERNAL with a
short number under which the log has the trace; the trace itself stays here.
"""

import errno
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from ..adapters import errors as serving
from ..continual import errors as learning
from . import errors as daemon
from .caller import call
from .handlers import surrounded

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # generic in the stubs, not at run time

DOMAIN: Final = "adapterd"
"""`google.rpc.ErrorInfo.domain` of every error."""

OwnError = serving.ServingError | learning.LearningError | daemon.DaemonError
"""The roots of the three error trees; `daemon.errors` draws them."""

T = TypeVar("T")

_Code = grpc.StatusCode

STATUS: Final[Mapping[type[OwnError], grpc.StatusCode]] = {
    learning.LearningError: _Code.INTERNAL,
    learning.UnreadableFile: _Code.INVALID_ARGUMENT,
    learning.TooManyBadRows: _Code.INVALID_ARGUMENT,
    learning.NothingToLearn: _Code.FAILED_PRECONDITION,
    learning.BadTemplate: _Code.FAILED_PRECONDITION,
    learning.UnrenderableChat: _Code.INVALID_ARGUMENT,
    learning.TrainingDiverged: _Code.INTERNAL,
    serving.ServingError: _Code.INTERNAL,
    serving.BadRequest: _Code.INVALID_ARGUMENT,
    serving.UnknownAdapter: _Code.NOT_FOUND,
    serving.VersionNotServable: _Code.FAILED_PRECONDITION,
    serving.IllegalTransition: _Code.FAILED_PRECONDITION,
    serving.CorruptVersion: _Code.DATA_LOSS,
    serving.UnsafeImport: _Code.INVALID_ARGUMENT,
    serving.BaseUnavailable: _Code.UNAVAILABLE,
    serving.BaseMismatch: _Code.FAILED_PRECONDITION,
    serving.QueueFull: _Code.RESOURCE_EXHAUSTED,
    serving.NoFreeSlot: _Code.RESOURCE_EXHAUSTED,
    serving.StillLeased: _Code.FAILED_PRECONDITION,
    serving.EngineStopped: _Code.UNAVAILABLE,
    serving.DiskFailure: _Code.DATA_LOSS,
    daemon.DaemonError: _Code.INTERNAL,
    daemon.ConfigError: _Code.FAILED_PRECONDITION,
    daemon.AlreadyRunning: _Code.FAILED_PRECONDITION,
    daemon.NotRunning: _Code.UNAVAILABLE,
    daemon.UnknownDrop: _Code.NOT_FOUND,
    daemon.UnknownRequest: _Code.NOT_FOUND,
    daemon.AliasConflict: _Code.ABORTED,
    daemon.NotAllowed: _Code.FAILED_PRECONDITION,
    daemon.NotAuthenticated: _Code.UNAUTHENTICATED,
    daemon.NotPermitted: _Code.PERMISSION_DENIED,
    daemon.TooManyCalls: _Code.RESOURCE_EXHAUSTED,
    daemon.BackupFailed: _Code.FAILED_PRECONDITION,
    daemon.LedgerFailed: _Code.INTERNAL,
    daemon.TrainerFailed: _Code.INTERNAL,
    daemon.AuditorFailed: _Code.INTERNAL,
    daemon.DiskFull: _Code.RESOURCE_EXHAUSTED,
    daemon.TooManyFollowers: _Code.RESOURCE_EXHAUSTED,
    daemon.DeadlinePassed: _Code.DEADLINE_EXCEEDED,
    daemon.CallerGone: _Code.CANCELLED,
    daemon.Stopping: _Code.UNAVAILABLE,
    daemon.RemoteError: _Code.INTERNAL,
}
"""The status of each error. Every class of the three trees stands here."""

RETRY_AFTER_S: Final[Mapping[type[OwnError], float]] = {
    serving.QueueFull: 1.0,
    serving.NoFreeSlot: 1.0,
    daemon.TooManyFollowers: 10.0,
    daemon.TooManyCalls: 1.0,
}
"""Seconds after which trying again is worth it, where the error's own `details["retry_after_s"]` does not say."""

_MAX_RETRY_S: Final = 3600.0

# Status and message travel as HTTP/2 headers, of which a client takes 8 KiB, the message twice, once percent-encoded.
_MAX_MESSAGE_BYTES: Final = 768
_MAX_DETAIL_BYTES: Final = 200
_MAX_DETAILS: Final = 5
_MAX_HINT_BYTES: Final = 384

_log = structlog.get_logger(__name__)


class Undecodable:
    """Stands for a request whose bytes are not the message that the method takes."""

    def __init__(self, error: DecodeError) -> None:
        self.error = error


Observer = Callable[[str, grpc.StatusCode, float], None]
"""Is told of every call that ended: its method, status and seconds."""


def ignore(_method: str, _code: grpc.StatusCode, _seconds: float) -> None:
    """The observer that looks away."""


class ErrorInterceptor(grpc.ServerInterceptor):
    """Wraps every method of this package's services, so that whatever it raises leaves as a status of `STATUS`.

    Methods of other services (health, reflection) pass as they are.
    """

    def __init__(self, observe: Observer = ignore) -> None:
        self._observe = observe

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Handler | None"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Return the method's handler, guarded."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith("/adapterd."):
            return handler
        return _guarded(handler, method, self._observe)


def to_status(error: OwnError) -> grpc.Status:
    """The gRPC status of one of our errors, with its details."""
    message = _clip(error.message, _MAX_MESSAGE_BYTES)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for name, value in list(error.details.items())[:_MAX_DETAILS]:
        info.metadata[name] = _clip(str(value), _MAX_DETAIL_BYTES)
    if error.hint:
        info.metadata["hint"] = _clip(error.hint, _MAX_HINT_BYTES)
    details: list[Message] = [info]
    if isinstance(error, serving.BadRequest) and "field" in error.details:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=info.metadata["field"], description=_clip(error.message, _MAX_DETAIL_BYTES), reason=error.reason
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if (seconds := _retry_after(error)) is not None:
        delay = Duration()
        delay.FromMilliseconds(round(seconds * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return _status(_look_up(STATUS, type(error)) or _Code.INTERNAL, message, details)


def foreseen(error: BaseException) -> OwnError | None:
    """The error of ours that `error` is, or stands for; None for what nobody foresaw."""
    if isinstance(error, OwnError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return daemon.DiskFull(
            f"the disk is full: {error.strerror} ({error.filename or 'no file named'})",
            hint="free some space in the state folder and the inbox, and try again",
        )
    return None


def _look_up(table: Mapping[type[OwnError], T], kind: type) -> T | None:
    return next((table[parent] for parent in kind.__mro__ if parent in table), None)


def _retry_after(error: OwnError) -> float | None:
    default = _look_up(RETRY_AFTER_S, type(error))
    if default is None:
        return None
    try:
        return min(max(0.0, float(error.details["retry_after_s"])), _MAX_RETRY_S)
    except (KeyError, ValueError):
        return default


def _unforeseen(error: Exception) -> grpc.Status:
    """Log `error` with its trace under a new number and return a status that names only the number."""
    number = secrets.token_hex(4)
    _log.error("call failed", error_id=number, exc_info=error)
    info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN)
    info.metadata["error_id"] = number
    info.metadata["hint"] = f"the daemon's log has the trace under error_id {number}"
    return _status(_Code.INTERNAL, f"internal error {number}", [info])


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> grpc.Status:
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    return rpc_status.to_status(status_pb2.Status(code=code.value[0], message=message, details=packed))


def _clip(text: str, size: int) -> str:
    """`text` as valid UTF-8 of `size` bytes at most (a file's name may hold bytes that are not)."""
    data = text.encode("utf-8", "backslashreplace")
    return data.decode() if len(data) <= size else data[: size - 3].decode("utf-8", "ignore") + "…"


def _status_of(error: Exception) -> grpc.Status:
    """What the caller is told of `error`; the log hears of what is not the caller's to mend."""
    own = foreseen(error)
    if own is None:
        return _unforeseen(error)
    status = to_status(own)
    if status.code in (_Code.INTERNAL, _Code.DATA_LOSS):  # the operator's to know of
        _log.error("call failed", reason=own.reason, error=own.message)
    return status


@contextmanager
def _answering(context: grpc.ServicerContext, method: str, observe: Observer) -> Iterator[None]:
    """A call, for the body: whatever it raises ends it with a status, and how it ended is told."""
    began, code = time.monotonic(), _Code.CANCELLED  # of a stream that is closed before its end, and nothing else
    try:
        yield
        code = _Code.OK
    except grpc.RpcError:  # gRPC's own: the client is gone while its stream was read
        raise
    except Exception as error:  # noqa: BLE001 - the last place where it can be caught; it is logged and answered
        status = _status_of(error)
        code = status.code
        context.abort_with_status(status)
    finally:
        observe(method, code, time.monotonic() - began)


def _guarded(handler: "Handler", method: str, observe: Observer) -> "Handler":
    """The same handler, with everything that it raises turned into a status."""
    decode = cast("Callable[[bytes], Message]", handler.request_deserializer)

    def lenient(data: bytes) -> Message | Undecodable:
        try:
            return decode(data)
        except DecodeError as error:
            return Undecodable(error)

    def checked(request: Any) -> Any:
        return _each_checked(request) if handler.request_streaming else _checked(request)

    @contextmanager
    def around(context: grpc.ServicerContext) -> Iterator[None]:
        with call(method), _answering(context, method, observe):
            yield

    return surrounded(handler, around, prepare=checked, deserializer=lenient)


def _checked(request: Any) -> Any:
    if isinstance(request, Undecodable):
        raise serving.BadRequest(
            f"the request cannot be read: {request.error}",
            hint="text must be UTF-8, and the message that of the method; proto/adapterd/v1 has both",
            field="request",
        )
    return request


def _each_checked(requests: Iterator[Any]) -> Iterator[Any]:
    return (_checked(request) for request in requests)

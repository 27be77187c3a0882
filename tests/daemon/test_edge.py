"""How errors leave the daemon."""

import errno
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import structlog
from adapterd.adapters import errors as serving
from adapterd.continual import errors as learning
from adapterd.daemon import errors as daemon
from adapterd.daemon.caller import call_id
from adapterd.daemon.edge import DOMAIN, RETRY_AFTER_S, STATUS, ErrorInterceptor, to_status
from adapterd.v1 import inference_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from structlog.contextvars import get_contextvars

METHOD = "/adapterd.v1.InferenceService/Complete"
ROOTS = (learning.LearningError, serving.ServingError, daemon.DaemonError)


def tree(root: type) -> list[type]:
    children: list[type] = root.__subclasses__()
    return [root, *(each for child in children for each in tree(child))]


def detail(status: status_pb2.Status, kind: type) -> Any:
    found = kind()
    return found if any(packed.Unpack(found) for packed in status.details) else None


def sent(error: grpc.RpcError) -> status_pb2.Status:
    """The status that a client got with `error`."""
    return cast("status_pb2.Status", rpc_status.from_call(cast("grpc.Call", error)))


def details_of(error: Any, kind: type) -> Any:
    """The detail of `kind` in the status that `error` becomes, or None."""
    packed = to_status(error).trailing_metadata[0][1]
    return detail(status_pb2.Status.FromString(packed), kind)


class Behaviors:
    """Four methods, one of each arity, that do what the test says."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.closed = threading.Event()

    def uu(self, request: Any, context: grpc.ServicerContext) -> inference_pb2.CompleteResponse:
        self.act()
        return inference_pb2.CompleteResponse(text=request.adapter)

    def us(self, request: Any, context: grpc.ServicerContext) -> Iterator[inference_pb2.CompleteResponse]:
        try:
            yield inference_pb2.CompleteResponse(text="first")
            self.act()
            yield inference_pb2.CompleteResponse(text="second")
        finally:
            self.closed.set()

    def su(self, requests: Iterable[Any], context: grpc.ServicerContext) -> inference_pb2.CompleteResponse:
        text = "".join(request.adapter for request in requests)
        self.act()
        return inference_pb2.CompleteResponse(text=text)

    def ss(self, requests: Iterable[Any], context: grpc.ServicerContext) -> Iterator[inference_pb2.CompleteResponse]:
        for request in requests:
            yield inference_pb2.CompleteResponse(text=request.adapter)
            self.act()


@contextmanager
def serve(behaviors: Behaviors, service: str = "adapterd.v1.Test") -> Iterator[grpc.Channel]:
    codec: dict[str, Any] = {
        "request_deserializer": inference_pb2.GenerateRequest.FromString,
        "response_serializer": inference_pb2.CompleteResponse.SerializeToString,
    }
    handlers: dict[str, Any] = {
        "UU": grpc.unary_unary_rpc_method_handler(behaviors.uu, **codec),
        "US": grpc.unary_stream_rpc_method_handler(behaviors.us, **codec),
        "SU": grpc.stream_unary_rpc_method_handler(behaviors.su, **codec),
        "SS": grpc.stream_stream_rpc_method_handler(behaviors.ss, **codec),
    }
    server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=[ErrorInterceptor()])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        server.stop(None).wait(5)


def call(channel: grpc.Channel, arity: str, service: str = "adapterd.v1.Test", *, raw: bytes | None = None) -> Any:
    """Call the method of `arity` ("UU", "US", "SU", "SS") and read its answer to the end."""
    request = raw if raw is not None else inference_pb2.GenerateRequest(adapter="x").SerializeToString()
    kind = {"U": "unary", "S": "stream"}
    method = getattr(channel, f"{kind[arity[0]]}_{kind[arity[1]]}")(
        f"/{service}/{arity}", lambda data: data, inference_pb2.CompleteResponse.FromString
    )
    answer = method(iter([request]) if arity[0] == "S" else request, timeout=5)
    return list(answer) if arity[1] == "S" else answer


def test_every_class_of_the_three_trees_has_a_status() -> None:
    assert {kind for root in ROOTS for kind in tree(root) if kind.__module__.startswith("adapterd.")} == set(STATUS)


def test_every_reason_is_one_of_a_kind() -> None:
    reasons = [kind.reason for kind in STATUS]
    assert len(set(reasons)) == len(reasons)
    assert all(reason == reason.upper() for reason in reasons)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (serving.UnknownAdapter("no task x"), grpc.StatusCode.NOT_FOUND),
        (serving.VersionNotServable("x@1 is retired"), grpc.StatusCode.FAILED_PRECONDITION),
        (daemon.AliasConflict("moved"), grpc.StatusCode.ABORTED),
        (serving.QueueFull("full"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (serving.BadRequest("wrong", field="prompt"), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_the_promised_statuses(error: Any, code: grpc.StatusCode) -> None:
    assert to_status(error).code is code


def test_error_info_carries_reason_details_and_hint() -> None:
    info = details_of(serving.UnknownAdapter("no x", hint="see list", task="x"), error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("UNKNOWN_ADAPTER", DOMAIN)
    assert dict(info.metadata) == {"task": "x", "hint": "see list"}


def test_a_wrong_field_is_named() -> None:
    wrong = details_of(serving.BadRequest("too hot", field="sampling.temperature"), error_details_pb2.BadRequest)
    assert [(each.field, each.description) for each in wrong.field_violations] == [("sampling.temperature", "too hot")]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [({"retry_after_s": "2.5"}, 2.5), ({}, RETRY_AFTER_S[serving.QueueFull]), ({"retry_after_s": "?"}, 1.0)],
)
def test_a_full_queue_says_when_to_come_back(said: dict[str, str], seconds: float) -> None:
    retry = details_of(serving.QueueFull("full", **said), error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == seconds * 1000


def test_other_errors_promise_no_retry() -> None:
    assert details_of(serving.StillLeased("in use"), error_details_pb2.RetryInfo) is None


@pytest.mark.parametrize("arity", ["UU", "US", "SU", "SS"])
def test_our_errors_leave_as_their_status_from_every_kind_of_method(arity: str) -> None:
    def fail() -> None:
        raise serving.UnknownAdapter("no task x", hint="see list", task="x")

    with serve(Behaviors(fail)) as channel, pytest.raises(grpc.RpcError) as caught:
        call(channel, arity)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "no task x"
    info = detail(sent(caught.value), error_details_pb2.ErrorInfo)
    assert info.metadata["task"] == "x"


@pytest.mark.parametrize("arity", ["UU", "US", "SU", "SS"])
def test_what_nobody_foresaw_is_internal_and_tells_only_a_number(arity: str) -> None:
    def fail() -> None:
        raise ZeroDivisionError("secret /path")

    logged, served, raised = structlog.testing.capture_logs(), serve(Behaviors(fail)), pytest.raises(grpc.RpcError)
    with logged as logs, served as channel, raised as caught:
        call(channel, arity)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    info = detail(sent(caught.value), error_details_pb2.ErrorInfo)
    number = info.metadata["error_id"]
    assert caught.value.details() == f"internal error {number}"
    assert "secret" not in str(info)
    assert [(entry["error_id"], type(entry["exc_info"])) for entry in logs] == [(number, ZeroDivisionError)]


@pytest.mark.parametrize("arity", ["UU", "US"])
def test_a_call_has_one_id_on_every_line_and_none_is_left_on_its_thread(arity: str) -> None:
    seen = list[tuple[str, dict[str, Any]]]()

    def look() -> None:
        seen.append((call_id(), get_contextvars()))

    with serve(Behaviors(look)) as channel:
        call(channel, arity)
        call(channel, arity)
    (first, bound), (second, _) = seen
    assert bound == {"request": first, "method": bound["method"]}
    assert bound["method"].startswith("/adapterd.")
    assert second != first
    assert call_id() != call_id()
    assert not get_contextvars()


@pytest.mark.parametrize(
    ("error", "lines"), [(serving.CorruptVersion("bad bytes"), ["bad bytes"]), (serving.UnknownAdapter("no x"), [])]
)
def test_only_what_a_caller_cannot_mend_is_logged(error: Exception, lines: list[str]) -> None:
    def fail() -> None:
        raise error

    logged, served, raised = structlog.testing.capture_logs(), serve(Behaviors(fail)), pytest.raises(grpc.RpcError)
    with logged as logs, served as channel, raised:
        call(channel, "UU")
    assert [entry["error"] for entry in logs] == lines


@pytest.mark.parametrize("arity", ["UU", "US", "SU", "SS"])
def test_an_answer_passes_unchanged(arity: str) -> None:
    with serve(Behaviors(lambda: None)) as channel:
        answer = call(channel, arity)
    texts = [each.text for each in answer] if arity[1] == "S" else answer.text
    assert texts == (["first", "second"] if arity == "US" else ["x"] if arity == "SS" else "x")


@pytest.mark.parametrize("arity", ["UU", "US", "SU", "SS"])
def test_bytes_that_are_no_request_are_an_invalid_argument(arity: str) -> None:
    not_utf8 = b"\x0a\x02\xff\xfe"  # field 1, a string of two bytes
    with serve(Behaviors(lambda: None)) as channel, pytest.raises(grpc.RpcError) as caught:
        call(channel, arity, raw=not_utf8)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_stream_that_the_client_leaves_is_closed() -> None:
    behaviors = Behaviors(lambda: None)
    with serve(behaviors) as channel:
        method = channel.unary_stream(
            "/adapterd.v1.Test/US", lambda data: data, inference_pb2.CompleteResponse.FromString
        )
        answer = method(b"", timeout=5)
        next(iter(answer))
        answer.cancel()
        assert behaviors.closed.wait(5)


def test_methods_of_other_services_are_left_alone() -> None:
    def fail() -> None:
        raise serving.UnknownAdapter("no task x")

    with serve(Behaviors(fail), service="other.Service") as channel, pytest.raises(grpc.RpcError) as caught:
        call(channel, "UU", service="other.Service")
    assert caught.value.code() is grpc.StatusCode.UNKNOWN


def test_a_full_disk_is_foreseen(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))

    with serve(Behaviors(fail)) as channel, pytest.raises(grpc.RpcError) as caught:
        call(channel, "UU")
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "disk is full" in (caught.value.details() or "")


@pytest.mark.parametrize("letter", ["a", "é", "猫", "\udcff"])
def test_the_longest_error_still_fits_into_the_headers(letter: str) -> None:
    def fail() -> None:
        raise serving.BadRequest(letter * 9999, hint=letter * 9999, **{f"detail{n}": letter * 9999 for n in range(20)})

    with serve(Behaviors(fail)) as channel, pytest.raises(grpc.RpcError) as caught:
        call(channel, "UU")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert detail(sent(caught.value), error_details_pb2.ErrorInfo).reason == "BAD_REQUEST"

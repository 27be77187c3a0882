"""The command line's end of the wire."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from adapterd.adapters.errors import BadRequest, QueueFull, UnknownAdapter
from adapterd.daemon.client import Client, Stream, Unary, Upload
from adapterd.daemon.edge import ErrorInterceptor
from adapterd.daemon.errors import ConfigError, NotRunning, RemoteError, Stopping
from adapterd.v1 import adapters_pb2, inference_pb2, learning_pb2

DROP = learning_pb2.GetDropRequest(id=1)


class Daemon:
    """A daemon that knows GetDrop, SubmitData and Events, and does in each what the test says."""

    def __init__(self, act: Callable[[grpc.ServicerContext], None] = lambda context: None) -> None:
        self.act = act
        self.received: list[str] = []
        self.ended = threading.Event()

    def get_drop(self, request: Any, context: grpc.ServicerContext) -> learning_pb2.Drop:
        self.act(context)
        return learning_pb2.Drop(id=request.id)

    def submit_data(self, requests: Iterator[Any], context: grpc.ServicerContext) -> learning_pb2.SubmitDataResponse:
        try:
            for request in requests:
                self.act(context)
                self.received.append(request.filename)
            self.received.append("complete")
        finally:
            self.ended.set()
        return learning_pb2.SubmitDataResponse(filename=self.received[0])

    def events(self, request: Any, context: grpc.ServicerContext) -> Iterator[learning_pb2.Drop]:
        context.add_callback(self.ended.set)
        yield learning_pb2.Drop()
        self.act(context)
        while not self.ended.wait(0.01):
            yield learning_pb2.Drop()


@contextmanager
def running(daemon: Daemon, address: str) -> Iterator[None]:
    handlers: dict[str, Any] = {
        "GetDrop": grpc.unary_unary_rpc_method_handler(
            daemon.get_drop, learning_pb2.GetDropRequest.FromString, learning_pb2.Drop.SerializeToString
        ),
        "SubmitData": grpc.stream_unary_rpc_method_handler(
            daemon.submit_data,
            learning_pb2.SubmitDataRequest.FromString,
            learning_pb2.SubmitDataResponse.SerializeToString,
        ),
        "Events": grpc.unary_stream_rpc_method_handler(
            daemon.events, learning_pb2.EventsRequest.FromString, learning_pb2.Drop.SerializeToString
        ),
    }
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[ErrorInterceptor()])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("adapterd.v1.LearningService", handlers)])
    server.add_insecure_port(address)
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait(5)


@contextmanager
def client_of(daemon: Daemon, folder: Path) -> Iterator[Client]:
    address = f"unix:{folder / 'a.sock'}"
    with running(daemon, address), Client(address) as client:
        yield client


def raising(error: Exception) -> Callable[[grpc.ServicerContext], None]:
    def act(context: grpc.ServicerContext) -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("part", "module", "service"),
    [
        ("inference", inference_pb2, "InferenceService"),
        ("adapters", adapters_pb2, "AdapterService"),
        ("learning", learning_pb2, "LearningService"),
    ],
)
def test_every_method_is_there_with_its_kind(part: str, module: Any, service: str) -> None:
    with Client("unix:/nowhere") as client:
        for method in module.DESCRIPTOR.services_by_name[service].methods:
            kind = Upload if method.client_streaming else Stream if method.server_streaming else Unary
            assert type(getattr(getattr(client, part), method.name)) is kind


def test_an_answer_comes_as_its_message(tmp_path: Path) -> None:
    with client_of(Daemon(), tmp_path) as client:
        assert client.learning.GetDrop(DROP) == learning_pb2.Drop(id=1)


def test_what_the_daemon_says_instead_of_an_answer_is_kept(tmp_path: Path) -> None:
    refusal = UnknownAdapter("there is no task x", hint="`adapterd tasks` shows all", task="x", status="odd")
    with client_of(Daemon(raising(refusal)), tmp_path) as client, pytest.raises(RemoteError) as caught:
        client.learning.GetDrop(DROP)
    error = caught.value
    assert (error.message, error.hint) == ("there is no task x", "`adapterd tasks` shows all")
    assert (error.status, error.cause, error.details) == ("NOT_FOUND", "UNKNOWN_ADAPTER", {"task": "x"})


@pytest.mark.parametrize("error", [QueueFull("full"), BadRequest("wrong", field="id"), ZeroDivisionError()])
def test_every_kind_of_method_translates(tmp_path: Path, error: Exception) -> None:
    with client_of(Daemon(raising(error)), tmp_path) as client:
        with pytest.raises(RemoteError):
            client.learning.GetDrop(DROP)
        with pytest.raises(RemoteError):
            client.learning.SubmitData([learning_pb2.SubmitDataRequest(filename="a")])
        with pytest.raises(RemoteError):
            list(client.learning.Events(learning_pb2.EventsRequest()))


@pytest.mark.parametrize("address", ["unix:{folder}/none.sock", "127.0.0.1:{port}"])
def test_nobody_at_the_address_is_told_with_the_address(tmp_path: Path, address: str) -> None:
    with socket.socket() as taken:  # bound and never listening: nobody else gets the port, and nobody answers
        taken.bind(("127.0.0.1", 0))
        address = address.format(folder=tmp_path, port=taken.getsockname()[1])
        with Client(address) as client, pytest.raises(NotRunning, match="no daemon answers") as caught:
            client.learning.GetDrop(DROP)
    assert address in caught.value.message
    assert "adapterd serve" in caught.value.hint


def test_a_dead_daemons_socket_is_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "a.sock"))
    with Client(f"unix:{tmp_path}/a.sock") as client, pytest.raises(NotRunning):
        client.learning.GetDrop(DROP)


def test_a_daemon_that_goes_down_amid_a_stream_is_not_running(tmp_path: Path) -> None:
    with client_of(Daemon(raising(Stopping("going down"))), tmp_path) as client, pytest.raises(NotRunning):
        list(client.learning.Events(learning_pb2.EventsRequest()))


def test_a_deadline_is_an_error_of_ours(tmp_path: Path) -> None:
    over = threading.Event()

    def wait(context: grpc.ServicerContext) -> None:
        context.add_callback(over.set)
        over.wait(5)

    with client_of(Daemon(wait), tmp_path) as client, pytest.raises(RemoteError) as caught:
        client.learning.GetDrop(DROP, timeout=0.05)
    assert caught.value.status == "DEADLINE_EXCEEDED"
    assert caught.value.hint


def test_a_method_that_the_daemon_lacks_says_so(tmp_path: Path) -> None:
    with client_of(Daemon(), tmp_path) as client, pytest.raises(RemoteError, match="not found") as caught:
        client.adapters.ListTasks(adapters_pb2.ListTasksRequest())
    assert caught.value.status == "UNIMPLEMENTED"
    assert "release" in caught.value.hint


def test_a_stream_that_is_left_ends_at_the_daemon(tmp_path: Path) -> None:
    daemon = Daemon()
    with client_of(daemon, tmp_path) as client:
        for _ in client.learning.Events(learning_pb2.EventsRequest()):
            break
        assert daemon.ended.wait(5)


def test_what_reading_a_file_raises_is_raised_and_ends_the_call(tmp_path: Path) -> None:
    def pieces() -> Iterator[learning_pb2.SubmitDataRequest]:
        yield learning_pb2.SubmitDataRequest(filename="a")
        raise FileNotFoundError("gone")

    daemon = Daemon()
    with client_of(daemon, tmp_path) as client:
        with pytest.raises(FileNotFoundError, match="gone"):
            client.learning.SubmitData(pieces())
        assert daemon.ended.wait(5)


def test_a_path_with_odd_characters_is_reached(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20#é"
    folder.mkdir()
    path = folder / "x.sock"
    with running(Daemon(), f"unix:{tmp_path}/x.sock"):
        (tmp_path / "x.sock").rename(path)
        with Client(f"unix:{path}") as client:
            assert client.learning.GetDrop(DROP).id == 1


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigError):
        Client("example.org:50051")

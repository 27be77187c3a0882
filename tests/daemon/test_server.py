"""Where the server listens, what it offers, and how it ends."""

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from adapterd.adapters.base import Base
from adapterd.daemon.client import Client
from adapterd.daemon.core import Core
from adapterd.daemon.errors import AlreadyRunning, ConfigError, NotRunning, RemoteError
from adapterd.daemon.server import SERVICES, Server
from adapterd.v1 import adapters_pb2, inference_pb2, learning_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from .real_core import publish, real_core, served, until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def core(tmp_path: Path, tiny_base: Base) -> Iterator[Core]:
    with real_core(tmp_path, tiny_base) as core:
        yield core


def with_settings(core: Core, **changes: Any) -> Core:
    """The same core with other settings."""
    return Core(**{**vars(core), "settings": core.settings.model_copy(update=changes)})


def stop_after(server: Server, grace_s: float = 5.0) -> Any:
    """A context that starts and stops a server."""

    class Running:
        def __enter__(self) -> Server:
            server.start()
            return server

        def __exit__(self, *_: object) -> None:
            server.stop(grace_s)

    return Running()


def check(server: Server, service: str) -> int:
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status)


def list_tasks(address: str) -> list[str]:
    with Client(address) as client:
        return [task.name for task in client.adapters.ListTasks(adapters_pb2.ListTasksRequest()).tasks]


def asked(max_tokens: int) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(
        adapter="base",
        input=inference_pb2.Input(prompt="Hello"),
        sampling=inference_pb2.Sampling(max_tokens=max_tokens),
    )


def test_the_socket_is_for_owner_and_group_alone(core: Core) -> None:
    before = os.umask(0o022)
    try:
        with stop_after(Server(core)):
            path = core.settings.state / "adapterd.sock"
            assert path.stat().st_mode & 0o777 == 0o660
            assert list_tasks(f"unix:{path}") == ["mood"]
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_the_socket_is_gone_when_the_server_is(core: Core) -> None:
    with stop_after(Server(core)) as server:
        pass
    assert not (core.settings.state / "adapterd.sock").exists()
    with pytest.raises(NotRunning):
        list_tasks(server.address)


def test_a_dead_daemons_socket_is_replaced(core: Core) -> None:
    path = core.settings.state / "adapterd.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with stop_after(Server(core)):
        assert list_tasks(f"unix:{path}") == ["mood"]


def test_a_live_daemons_socket_is_left_alone(core: Core) -> None:
    with stop_after(Server(core)) as first:
        with pytest.raises(AlreadyRunning):
            Server(core).start()
        assert list_tasks(first.address) == ["mood"]


def test_a_file_in_the_sockets_place_is_left_alone(core: Core) -> None:
    path = core.settings.state / "adapterd.sock"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="no socket"):
        Server(core).start()
    assert path.read_text() == "mine"


def test_a_socket_in_a_folder_that_is_not_there_is_a_wrong_setting(core: Core) -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        Server(with_settings(core, address=f"unix:{core.settings.state}/none/a.sock")).start()


def test_a_port_of_this_machine_is_told_when_it_is_known(core: Core) -> None:
    with stop_after(Server(with_settings(core, address="127.0.0.1:0"))) as server:
        assert server.address.startswith("127.0.0.1:")
        assert not server.address.endswith(":0")
        with Client(server.address) as client:
            told = client.learning.GetStatus(learning_pb2.GetStatusRequest())
        assert told.address == server.address


def test_a_port_that_is_taken_is_a_wrong_setting(core: Core) -> None:
    running = stop_after(Server(with_settings(core, address="127.0.0.1:0")))
    with running as first, pytest.raises(ConfigError, match="cannot listen"):
        Server(with_settings(core, address=first.address)).start()


def test_an_address_that_others_can_reach_is_refused(core: Core) -> None:
    with pytest.raises(ConfigError, match="this machine alone"):
        Server(with_settings(core, address="0.0.0.0:0"))


def test_health_is_told_of_the_whole_of_each_service_and_of_each_task(core: Core) -> None:
    publish(core, "idle", 1)
    with stop_after(Server(core)) as server:
        assert {service: check(server, service) for service in ("", *SERVICES, "mood", "idle")} == {
            **dict.fromkeys(("", *SERVICES, "mood"), SERVING),
            "idle": NOT_SERVING,
        }
        with pytest.raises(grpc.RpcError) as caught:
            check(server, "nobody")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_follows_what_happens(core: Core) -> None:
    publish(core, "late", 1)
    with stop_after(Server(core)) as server:
        core.lifecycle.promote("late", 1, expected=None, actor="test", reason="first")
        server.refresh_health(0.0)
        assert check(server, "late") == SERVING
        core.engine.stop()
        server.refresh_health(1.0)
        assert {check(server, service) for service in ("", *SERVICES, "mood")} == {NOT_SERVING}


def test_a_watch_on_health_is_told_of_each_change(core: Core) -> None:
    with stop_after(Server(core)) as server, grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="mood"), timeout=10)
        assert next(watch).status == SERVING
        server.refresh_health(0.0)
        core.engine.stop()
        server.refresh_health(1.0)
        assert next(watch).status == NOT_SERVING


def test_reflection_lists_every_service(core: Core) -> None:
    with stop_after(Server(core)) as server, grpc.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=5)
    names = {service.name for service in answer.list_services_response.service}
    assert names == {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


def test_a_message_that_is_too_large_is_refused(tmp_path: Path, tiny_base: Base) -> None:
    request = learning_pb2.ListDropsRequest(task="x" * 2000)
    small, raised = real_core(tmp_path, tiny_base, max_message_bytes=1000), pytest.raises(RemoteError)
    with small as core, served(core) as client, raised as caught:
        client.learning.ListDrops(request)
    assert caught.value.status == "RESOURCE_EXHAUSTED"


def test_a_call_above_the_limit_is_refused_at_once(tmp_path: Path, tiny_base: Base) -> None:
    with real_core(tmp_path, tiny_base, max_concurrent_rpcs=1) as core, served(core) as client:
        watch = client.adapters.Watch(adapters_pb2.WatchRequest())
        next(watch)
        with pytest.raises(RemoteError) as caught:
            client.adapters.ListTasks(adapters_pb2.ListTasksRequest())
    assert caught.value.status == "RESOURCE_EXHAUSTED"


def test_stopping_lets_running_answers_end(core: Core) -> None:
    server = Server(core)
    server.start()
    with Client(server.address) as client, ThreadPoolExecutor(1) as other:
        stream = client.inference.Generate(asked(200))
        pieces = [next(stream)]
        stopped = other.submit(server.stop, 30.0)
        pieces += stream
        stopped.result(30)
    assert pieces[-1].usage.completion_tokens == 200


def test_stopping_ends_what_takes_longer_than_its_grace(core: Core) -> None:
    server = Server(core)
    server.start()
    folder, over = core.settings.inbox_dir / "mood", threading.Event()

    def endless() -> Iterator[learning_pb2.SubmitDataRequest]:
        yield learning_pb2.SubmitDataRequest(task="mood", filename="a.jsonl", chunk=b"1")
        over.wait(30)

    with Client(server.address) as client, ThreadPoolExecutor(1) as other:
        upload = other.submit(client.learning.SubmitData, endless())
        assert until(lambda: folder.is_dir() and any(folder.iterdir()))  # the upload is under way at the server
        server.stop(0.05)
        assert isinstance(upload.exception(10), RemoteError | NotRunning)
        over.set()
    assert until(lambda: not any(folder.iterdir()))


def test_stopping_ends_streams_that_wait_at_once(core: Core) -> None:
    server = Server(core)
    server.start()
    with Client(server.address) as client:
        events = client.learning.Events(learning_pb2.EventsRequest(follow=True))
        watch = client.adapters.Watch(adapters_pb2.WatchRequest())
        next(events)
        next(watch)
        server.stop(60.0)
        for stream in (events, watch):
            with pytest.raises(NotRunning):
                list(stream)


def test_nothing_of_a_request_is_left_when_the_server_has_stopped(core: Core) -> None:
    server = Server(core)
    server.start()
    with Client(server.address) as client:
        stream = client.inference.Generate(asked(250))
        next(stream)
        server.stop(0.0)
    assert core.manager.usage().leases == 0
    assert until(lambda: core.engine.stats().running == 0)

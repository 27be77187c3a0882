"""The gRPC server: where it listens, what it offers, and how it ends.

Every service sits behind the same interceptors: `ErrorInterceptor` outermost, so that what others raise becomes a
status too, then `AccessInterceptor`, which asks who calls.
"""

import os
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import structlog
from adapterd.v1 import (
    adapters_pb2,
    adapters_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    learning_pb2,
    learning_pb2_grpc,
)
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ..adapters.refs import CHAMPION
from ..adapters.states import ServingState
from .access import Access
from .access_interceptor import AccessInterceptor
from .adapter_service import AdapterService
from .address import Address, parse_address, parse_remote
from .edge import ErrorInterceptor, Observer, ignore
from .errors import AlreadyRunning, ConfigError
from .followers import MAX_FOLLOWERS, Followers
from .inference import InferenceService
from .learning_service import LearningService
from .tls import Certificates

if TYPE_CHECKING:
    from .core import Core
    from .serving_sections import Access as Settings

SOCKET_MODE: Final = 0o660
"""The owner and the group may talk to the daemon, with the role `access.local`; nobody else."""

SERVICES: Final = (
    inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name,
    adapters_pb2.DESCRIPTOR.services_by_name["AdapterService"].full_name,
    learning_pb2.DESCRIPTOR.services_by_name["LearningService"].full_name,
)
"""What is offered beside health and reflection."""

_FOLLOWING_SHARE: Final = 4  # one call in so many may be a stream that waits, where the limit of calls is low

_log = structlog.get_logger(__name__)


class Server:
    """Serves `core`; made, started and stopped once.

    Made while the caller holds the lock of the state folder: a socket that lies at the address is then a dead
    daemon's. Raises `ConfigError` for an address that is none, or that other machines can reach without TLS, and for
    tokens or certificates that cannot be read.
    """

    def __init__(self, core: "Core", *, observe: Observer = ignore) -> None:
        serving, access = core.settings.serving, core.settings.access
        calls = serving.max_concurrent_rpcs
        self._core = core
        self._address = parse_address(core.settings.bind)
        self._remote = parse_remote(access.address) if access.address else None
        self._certificates = Certificates(access) if access.address else None
        self._access = Access(access)
        self._followers = Followers(max(1, min(MAX_FOLLOWERS, calls // _FOLLOWING_SHARE)))
        self._health = health.HealthServicer()
        self._told: dict[str, bool] = {}
        # A thread for each call that is let in: none waits for a thread unseen.
        self._threads = ThreadPoolExecutor(calls, thread_name_prefix="rpc")
        self._server = grpc.server(
            self._threads,
            interceptors=[ErrorInterceptor(observe), AccessInterceptor(self._access, core.ledger)],
            maximum_concurrent_rpcs=calls,
            options=[
                ("grpc.so_reuseport", 0),  # else two daemons share a port and each gets a part of the calls
                ("grpc.max_receive_message_length", serving.max_message_bytes),
                ("grpc.max_send_message_length", -1),  # a long list is no reason to fail
            ],
        )
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(  # type: ignore[no-untyped-call] # generated
            InferenceService(core), self._server
        )
        adapters_pb2_grpc.add_AdapterServiceServicer_to_server(  # type: ignore[no-untyped-call] # generated
            AdapterService(core, self._followers), self._server
        )
        learning_pb2_grpc.add_LearningServiceServicer_to_server(  # type: ignore[no-untyped-call] # generated
            LearningService(core, self._followers, lambda: self.address), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)

    @property
    def address(self) -> str:
        """Where it listens; with the real port, once started, where 0 was asked for."""
        return str(self._address)

    @property
    def remote_address(self) -> str:
        """Where it listens for other machines, with the real port once started; empty: nowhere."""
        return str(self._remote) if self._remote else ""

    def use(self, access: "Settings") -> None:
        """Take reread roles, tokens and certificates. Raises `ConfigError`, and then nothing has changed."""
        Access(access)  # both can be read, or neither is taken
        if self._certificates is not None and access.address:  # without, other machines are served until the next start
            self._certificates.use(access)
        self._access.use(access)

    def start(self) -> None:
        """Listen and answer; returns at once.

        Raises `AlreadyRunning` if another daemon answers at the address, `ConfigError` if one cannot listen there.
        """
        self._address = _bind(self._server, self._address)
        if self._remote is not None and self._certificates is not None:
            self._remote = _bind_tls(self._server, self._remote, self._certificates.credentials())
        self.refresh_health(0.0)
        self._server.start()

    def refresh_health(self, _now: float) -> None:
        """Tell the health service how things are: of each task under its name, of the whole under the empty one."""
        core = self._core
        alive = not core.engine.stats().error
        self._tell(health.OVERALL_HEALTH, alive)
        for service in SERVICES:
            self._tell(service, alive)
        for task in core.ledger.tasks.names():
            champion = core.ledger.aliases.of(task).get(CHAMPION)
            served = champion is not None and self._available(task, champion)
            self._tell(task, alive and served)

    def stop(self, grace_s: float) -> None:
        """Take no new call, give running ones `grace_s` seconds to end, then cancel them; returns when all are over."""
        self._health.enter_graceful_shutdown()
        self._followers.close()
        self._server.stop(grace_s).wait()
        self._threads.shutdown(wait=True, cancel_futures=True)
        if self._address.path is not None:
            self._address.path.unlink(missing_ok=True)

    def _available(self, task: str, version: int) -> bool:
        state, _ = self._core.manager.serving_state(task, version)
        return state is ServingState.AVAILABLE

    def _tell(self, service: str, serving: bool) -> None:
        if self._told.get(service) is not serving:
            self._told[service] = serving
            status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
            self._health.set(service, status)


def _bind(server: grpc.Server, address: Address) -> Address:
    """Listen at `address`; return it with its real port."""
    try:
        if address.path is None:
            return Address(host=address.host, port=server.add_insecure_port(address.target))
        _clear(address.path)
        # The socket comes to be with its mode; between a bind and a chmod anybody could connect.
        with _umask(0o777 & ~SOCKET_MODE):
            server.add_insecure_port(address.target)
        return address
    except (OSError, RuntimeError) as failure:  # gRPC raises RuntimeError, with the reason in its text
        raise ConfigError(
            f"cannot listen at {address}: {failure}",
            hint="is the port free, does the socket's folder exist, and may the daemon write there?",
            address=str(address),
        ) from failure


def _bind_tls(server: grpc.Server, address: Address, credentials: grpc.ServerCredentials) -> Address:
    """Listen for other machines; return the address with its real port."""
    try:
        port = server.add_secure_port(address.target, credentials)
    except RuntimeError as failure:
        raise ConfigError(
            f"cannot listen at {address}: {failure}",
            hint="is access.address one of this machine's, is the port free, and is the key the certificate's?",
            address=str(address),
        ) from failure
    return replace(address, port=port)


def _clear(path: Path) -> None:
    """Remove the socket that a dead daemon left at `path`. Raises `AlreadyRunning` if one is alive there.

    The lock of the state folder keeps daemons of one folder apart; this, those of two folders with one address.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(
            f"{path} exists and is no socket",
            hint="remove it, or set `address` to another path",
            address=f"unix:{path}",
        )
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except (BlockingIOError, TimeoutError):
            pass  # somebody listens, and has a long queue
    raise AlreadyRunning(
        f"another daemon listens at {path}", hint="stop it, or set `address` to another path", address=f"unix:{path}"
    )


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)

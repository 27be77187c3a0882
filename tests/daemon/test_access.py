"""Who may do what: roles, tokens, certificates, TLS; over real connections."""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from adapterd.daemon import serving_sections
from adapterd.daemon.access import METHODS, Access, Peer, Principal, Role
from adapterd.daemon.access_interceptor import _TOLD_A_MINUTE
from adapterd.daemon.client import Client
from adapterd.daemon.core import Core
from adapterd.daemon.errors import ConfigError, NotAuthenticated, NotPermitted, NotRunning, RemoteError, TooManyCalls
from adapterd.daemon.server import SERVICES, Server
from adapterd.daemon.tokens import add_token, remove_token
from adapterd.v1 import adapters_pb2, inference_pb2, learning_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from .real_core import publish, real_core

LOCAL = Peer("unix:", remote=False)
FAR = Peer("ipv4:192.0.2.7:4711", remote=True)
MESSAGES = (inference_pb2, adapters_pb2, learning_pb2)
RPCS = [
    method
    for module in MESSAGES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def path_of(method: Any) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path) -> Iterator[Core]:
    with real_core(tmp_path_factory.mktemp("access"), tiny_base_folder) as core:
        yield core


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(tmp_path: Path, authority: trustme.CA) -> dict[str, Path]:
    """Files for the daemon and for who calls it."""
    files = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key", "ca")}
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(files["key"])
    files["certificate"].write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(files["ca"])
    return files


def accessible(**settings: Any) -> serving_sections.Access:
    """Settings with paths as they are."""
    return serving_sections.Access(**texts(settings))


def shown(**settings: Any) -> serving_sections.Client:
    """What a client shows and trusts, with paths as they are."""
    return serving_sections.Client(**texts(settings))


def texts(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}


@contextmanager
def serving(core: Core, **access: Any) -> Iterator[Server]:
    """A server of `core` with this access."""
    settings = core.settings.model_copy(update={"access": accessible(**access)})
    server = Server(Core(**{**vars(core), "settings": settings}))
    server.start()
    try:
        yield server
    finally:
        server.stop(2.0)


@contextmanager
def connected(server: Server, **client: Any) -> Iterator[Client]:
    """A client of the server's TLS address if it has one."""
    address = server.remote_address.replace("0.0.0.0", "localhost") or server.address
    with Client(address, shown(**client)) as found:
        yield found


def token_file(folder: Path, tokens: Path, name: str, role: str) -> Path:
    """Make a token; returns a file with it, as a client has one."""
    path = folder / f"{name}.token"
    path.write_text(add_token(tokens, name, role) + "\n")
    return path


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(RemoteError) as caught:
        call()
    return caught.value.status


def ask(client: Client) -> Any:
    return client.adapters.ListTasks(adapters_pb2.ListTasksRequest())


def call(channel: grpc.Channel, method: Any, token: str = "") -> grpc.StatusCode:
    """Call any method with an empty request, or a stream of one; the status that comes back."""
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    callable_ = getattr(channel, kind)(path_of(method))
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    request: Any = iter([b""]) if method.client_streaming else b""
    try:
        answer = callable_(request, timeout=10, metadata=metadata)
        if method.server_streaming:
            next(answer, None)
            answer.cancel()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


class TestDecisions:
    def test_every_method_of_the_services_has_a_role(self) -> None:
        ours = {method for method in METHODS if method.startswith("/adapterd.")}
        assert ours == {path_of(method) for method in RPCS}
        assert len(SERVICES) == len(MESSAGES)

    def test_roles_are_ordered(self) -> None:
        order = [Role.NONE, Role.INFER, Role.SUBMIT, Role.ADMIN]
        for (low, one), (high, other) in itertools.product(enumerate(order), repeat=2):
            assert one.allows(other) is (low >= high)

    def test_who_comes_by_the_socket_has_the_role_of_the_settings(self) -> None:
        assert Access(accessible()).identify(LOCAL, 0.0) == Principal("person", Role.ADMIN, named=False)
        assert Access(accessible(local="infer")).identify(LOCAL, 0.0).role is Role.INFER

    def test_another_machine_must_say_who_it_is(self) -> None:
        with pytest.raises(NotAuthenticated):
            Access(accessible()).identify(FAR, 0.0)

    def test_a_wrong_token_is_not_forgiven_because_of_the_socket(self, tmp_path: Path) -> None:
        add_token(tmp_path / "tokens", "app", "infer")
        access = Access(accessible(tokens=tmp_path / "tokens"))
        with pytest.raises(NotAuthenticated):
            access.identify(Peer("unix:", remote=False, token="adapterd_guess"), 0.0)

    def test_a_token_ends_with_its_last_day(self, tmp_path: Path) -> None:
        secret = add_token(tmp_path / "tokens", "app", "infer", days=1)
        access = Access(accessible(tokens=tmp_path / "tokens"))
        peer = Peer(FAR.address, remote=True, token=secret)
        assert access.identify(peer, 0.0).name == "app"
        with pytest.raises(NotAuthenticated, match="token of app has expired"):
            access.identify(peer, 4e9)

    def test_a_certificate_has_the_role_of_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "ca").touch()
        access = Access(accessible(client_ca=tmp_path / "ca", certificates={"gpu1": "submit"}))
        assert access.identify(Peer("ipv4:…", remote=True, names=("other", "gpu1")), 0.0) == Principal(
            "gpu1", Role.SUBMIT
        )
        with pytest.raises(NotAuthenticated, match="certificate of other"):
            access.identify(Peer("ipv4:…", remote=True, names=("other",)), 0.0)

    def test_an_unknown_method_is_for_admins(self) -> None:
        with pytest.raises(NotPermitted):
            Access.permit(Principal("app", Role.SUBMIT), "/adapterd.v1.LearningService/Tomorrow")

    def test_one_caller_has_so_many_calls_under_way_and_others_as_many(self) -> None:
        access = Access(accessible(max_calls=2))
        app, other, local = Principal("app", Role.INFER), Principal("b", Role.INFER), Principal("p", Role.ADMIN, False)
        with access.counted(app), access.counted(app), access.counted(other):
            with pytest.raises(TooManyCalls), access.counted(app):
                pass
            with access.counted(local), access.counted(local), access.counted(local):
                pass
        with access.counted(app):
            pass

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"address": "0.0.0.0:1"}, "TLS alone"),
            ({"address": "0.0.0.0:1", "certificate": "c", "key": "k"}, "must say who they are"),
            ({"certificates": {"a": "infer"}}, "client_ca"),
            ({"certificates": {"a": "root"}, "client_ca": "c"}, "admin"),
            ({"local": "everything"}, "none"),
        ],
    )
    def test_settings_that_would_let_anybody_in_are_refused(self, given: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            accessible(**given)


class TestRefusals:
    def test_every_method_refuses_who_has_no_role_with_the_right_code_and_writes_it_down(
        self, core: Core, tmp_path: Path
    ) -> None:
        tokens = tmp_path / "tokens"
        roles = {role: add_token(tokens, f"app-{role}", role) for role in ("infer", "submit", "admin")}
        before = core.ledger.events.last_id()
        wanted: list[tuple[str, str]] = []
        with serving(core, local="none", tokens=tokens) as server, grpc.insecure_channel(server.address) as channel:
            for method in RPCS:
                path, role = path_of(method), METHODS[path_of(method)]
                assert call(channel, method) is grpc.StatusCode.PERMISSION_DENIED
                assert call(channel, method, "adapterd_wrong") is grpc.StatusCode.UNAUTHENTICATED
                wanted += [("person", path), ("unknown", path)]
                for name, secret in roles.items():
                    code = call(channel, method, secret)
                    if Role(name).allows(role):
                        assert code not in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
                    else:
                        assert code is grpc.StatusCode.PERMISSION_DENIED
                        wanted.append((f"app-{name}", path))
        told = [row for row in core.ledger.events.after(before) if row.kind == "access.refused"]
        assert [(row.actor, row.details["method"]) for row in told] == wanted
        assert len(wanted) > 2 * len(RPCS)

    def test_reflection_asks_for_a_token_and_health_for_none(self, core: Core, tmp_path: Path) -> None:
        secret = add_token(tmp_path / "tokens", "app", "infer")
        with (
            serving(core, local="none", tokens=tmp_path / "tokens") as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            health = health_pb2_grpc.HealthStub(channel)
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.ServerReflectionInfo(iter([asked]), timeout=5))
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
            metadata = (("authorization", f"bearer {secret}"),)
            assert list(stub.ServerReflectionInfo(iter([asked]), timeout=5, metadata=metadata))

    def test_a_flood_of_refused_calls_is_counted_and_does_not_fill_the_ledger(
        self, core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("adapterd.daemon.access_interceptor._TOLD_A_MINUTE", 5)
        assert _TOLD_A_MINUTE > 5
        before = core.ledger.events.last_id()
        with serving(core, local="none") as server, Client(server.address) as client:
            for _ in range(12):
                assert refused(lambda: ask(client)) == "PERMISSION_DENIED"
        told = [row for row in core.ledger.events.after(before) if row.kind == "access.refused"]
        assert 5 <= len(told) <= 11  # a new minute may have begun

    def test_what_a_token_holder_does_is_written_down_under_its_name(self, core: Core, tmp_path: Path) -> None:
        publish(core, "mood", 2)
        path = token_file(tmp_path, tmp_path / "tokens", "ada", "admin")
        before = core.ledger.events.last_id()
        with serving(core, local="none", tokens=tmp_path / "tokens") as server, connected(server, token_file=path) as c:
            c.adapters.Promote(adapters_pb2.PromoteRequest(version="mood@2"))
            c.adapters.Revert(adapters_pb2.RevertRequest(task="mood"))
        moved = [row for row in core.ledger.events.after(before) if row.kind == "alias.moved"]
        assert [row.actor for row in moved] == ["ada", "ada"]
        assert core.ledger.aliases.history("mood")[-1].actor == "ada"


class TestTls:
    def test_a_token_is_taken_over_tls_and_nothing_else_is(
        self, core: Core, tmp_path: Path, tls: dict[str, Path]
    ) -> None:
        tokens = tmp_path / "tokens"
        path = token_file(tmp_path, tokens, "app", "infer")
        pair = {name: tls[name] for name in ("certificate", "key")}
        with serving(core, address="0.0.0.0:0", tokens=tokens, **pair) as server:
            port = server.remote_address.rpartition(":")[2]
            with connected(server, token_file=path, ca=tls["ca"]) as client:
                assert [task.name for task in ask(client).tasks] == ["mood"]
                submit = learning_pb2.GetStatusRequest()
                assert refused(lambda: client.learning.GetStatus(submit)) == "PERMISSION_DENIED"
            with connected(server, ca=tls["ca"]) as client:
                assert refused(lambda: ask(client)) == "UNAUTHENTICATED"
            with connected(server, token_file=path) as client, pytest.raises(NotRunning):  # trusts public ones alone
                client.adapters.ListTasks(adapters_pb2.ListTasksRequest(), timeout=5)
            with Client(f"127.0.0.1:{port}") as client, pytest.raises((NotRunning, RemoteError)):  # in the clear
                client.adapters.ListTasks(adapters_pb2.ListTasksRequest(), timeout=5)
            with Client(server.address) as client:  # on this machine as before
                assert ask(client).tasks

    def test_a_client_is_known_by_its_certificate(
        self, core: Core, tmp_path: Path, tls: dict[str, Path], authority: trustme.CA
    ) -> None:
        def issued(by: trustme.CA, name: str) -> dict[str, Path]:
            made = by.issue_cert(name, common_name=name)
            files = {kind: tmp_path / f"{name}-{kind}.pem" for kind in ("certificate", "key")}
            made.private_key_pem.write_to_path(files["key"])
            files["certificate"].write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
            return files

        access = {
            "address": "127.0.0.1:0",
            "client_ca": tls["ca"],
            "certificates": {"gpu1.example.org": "infer"},
            "certificate": tls["certificate"],
            "key": tls["key"],
        }
        with serving(core, **access) as server:
            address = server.remote_address.replace("127.0.0.1", "localhost")

            def client(**files: Path) -> Client:
                return Client(address, shown(ca=tls["ca"], **files))

            with client(**issued(authority, "gpu1.example.org")) as known:
                assert ask(known).tasks
            with client(**issued(authority, "gpu2.example.org")) as stranger:
                assert refused(lambda: ask(stranger)) == "UNAUTHENTICATED"
            for files in ({}, issued(trustme.CA(), "gpu1.example.org")):
                with client(**files) as other, pytest.raises(NotRunning):
                    other.adapters.ListTasks(adapters_pb2.ListTasksRequest(), timeout=5)

    def test_tokens_and_certificates_are_renewed_without_a_restart(
        self, core: Core, tmp_path: Path, tls: dict[str, Path]
    ) -> None:
        tokens = tmp_path / "tokens"
        path = token_file(tmp_path, tokens, "app", "infer")
        pair = {name: tls[name] for name in ("certificate", "key")}
        access = accessible(address="127.0.0.1:0", tokens=tokens, **pair)
        with serving(core, **access.model_dump()) as server:
            address = server.remote_address.replace("127.0.0.1", "localhost")
            with Client(address, shown(token_file=path, ca=tls["ca"])) as client:
                ask(client)
                remove_token(tokens, "app")
                ask(client)  # until it is told
                server.use(access)
                assert refused(lambda: ask(client)) == "UNAUTHENTICATED"
            other = trustme.CA()
            made = other.issue_cert("localhost")
            made.private_key_pem.write_to_path(tls["key"])
            tls["certificate"].write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
            other.cert_pem.write_to_path(tmp_path / "other.pem")
            server.use(access)
            with Client(address, shown(ca=tmp_path / "other.pem")) as client:
                assert refused(lambda: ask(client)) == "UNAUTHENTICATED"  # and not: untrusted

    def test_settings_without_other_machines_are_taken_and_those_are_served_until_the_next_start(
        self, core: Core, tmp_path: Path, tls: dict[str, Path]
    ) -> None:
        path = token_file(tmp_path, tmp_path / "tokens", "app", "infer")
        pair = {name: tls[name] for name in ("certificate", "key")}
        with serving(core, address="0.0.0.0:0", tokens=tmp_path / "tokens", **pair) as server:
            server.use(accessible(tokens=tmp_path / "tokens"))
            with connected(server, token_file=path, ca=tls["ca"]) as client:
                ask(client)

    def test_a_file_that_cannot_be_read_changes_nothing(self, core: Core, tmp_path: Path) -> None:
        tokens = tmp_path / "tokens"
        path = token_file(tmp_path, tokens, "app", "infer")
        with serving(core, tokens=tokens) as server, connected(server, token_file=path) as client:
            with pytest.raises(ConfigError, match="cannot read the tokens"):
                server.use(accessible(tokens=tmp_path / "none", local="none"))
            ask(client)

    def test_a_server_without_its_certificate_does_not_start(self, core: Core, tmp_path: Path) -> None:
        add_token(tmp_path / "tokens", "app", "infer")
        access = {
            "address": "127.0.0.1:0",
            "tokens": tmp_path / "tokens",
            "certificate": tmp_path / "c",
            "key": tmp_path,
        }
        with pytest.raises(ConfigError, match=r"access\.key"), serving(core, **access):
            pass


def test_one_token_may_not_take_all_calls(core: Core, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    path = token_file(tmp_path, tokens, "app", "infer")
    begun = threading.Semaphore(0)

    def long(client: Client) -> str:
        request = inference_pb2.GenerateRequest(
            adapter="base",
            input=inference_pb2.Input(prompt="Hello"),
            sampling=inference_pb2.Sampling(max_tokens=150),
        )
        try:
            for number, _ in enumerate(client.inference.Generate(request)):
                if not number:
                    begun.release()
        except RemoteError as error:
            return error.cause
        return ""

    with serving(core, tokens=tokens, max_calls=2) as server, connected(server, token_file=path) as client:
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(long, client) for _ in range(2)]
            for _ in running:
                assert begun.acquire(timeout=30)
            assert long(client) == "TOO_MANY_CALLS"
            assert [one.result() for one in running] == ["", ""]
        ask(client)

"""The sd_notify protocol, against a real datagram socket in systemd's place."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from adapterd.daemon import notify
from adapterd.daemon.errors import ConfigError


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that systemd would listen at."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(str(tmp_path / "notify"))
        peer.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield peer


def heard(peer: socket.socket) -> dict[str, str]:
    lines = peer.recv(4096).decode().split("\n")
    return dict(line.split("=", 1) for line in lines)


def test_each_state_is_one_datagram_with_its_status(systemd: socket.socket) -> None:
    assert notify.ready("serving 3 tasks")
    assert heard(systemd) == {"READY": "1", "STATUS": "serving 3 tasks"}
    assert notify.stopping()
    assert heard(systemd) == {"STOPPING": "1"}
    assert notify.status("training trec@4")
    assert heard(systemd) == {"STATUS": "training trec@4"}
    assert notify.alive()
    assert heard(systemd) == {"WATCHDOG": "1"}


def test_reloading_carries_the_monotonic_time_in_microseconds(systemd: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert notify.reloading()
    said = heard(systemd)
    assert said["RELOADING"] == "1"
    assert before <= int(said["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_status_of_several_lines_cannot_smuggle_in_another_field(systemd: socket.socket) -> None:
    notify.status("one\nREADY=1\r\ntwo")
    assert heard(systemd) == {"STATUS": "one READY=1 two"}


def test_an_abstract_socket_is_reached_by_its_at_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"adapterd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind("\0" + name)
        peer.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert notify.ready()
        assert heard(peer) == {"READY": "1"}


def test_without_a_notify_socket_nothing_is_sent_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not any([notify.ready(), notify.reloading(), notify.stopping(), notify.status("x"), notify.alive()])


def test_a_socket_that_nobody_holds_is_an_error_and_not_a_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"\$NOTIFY_SOCKET .*gone"):
        notify.alive()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
    ],
    ids=["no watchdog", "any process", "this process", "another process"],
)
def test_the_watchdog_is_fed_twice_within_its_limit(environ: dict[str, str], seconds: float | None) -> None:
    assert notify.watchdog_interval(environ) == seconds


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1.5", "²"])
def test_a_watchdog_limit_that_is_no_number_is_named(value: str) -> None:
    with pytest.raises(ConfigError, match=r"\$WATCHDOG_USEC"):
        notify.watchdog_interval({"WATCHDOG_USEC": value})


def test_a_manager_that_does_not_read_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setattr(notify, "_PATIENCE_S", 0.01)
        told = [notify.alive() for _ in range(1000)]
    assert told[0]
    assert not told[-1]

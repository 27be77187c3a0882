"""The whole daemon as a process, on the tiny base: start, signals, a kill in the middle."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adapterd.daemon.client import Client
from adapterd.daemon.errors import DaemonError
from adapterd.v1 import adapters_pb2, inference_pb2, learning_pb2

pytestmark = pytest.mark.e2e

PATIENCE_S = 250.0


class Process:
    """`adapterd serve` with a fake systemd that listens to it."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(folder / "notify"))
        self.heard: queue.Queue[list[str]] = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()
        self.config = folder / "adapterd.toml"
        settings = [
            f'state = "{self.state}"',
            'base = "tiny"',
            'quantization = "none"',
            "settle_s = 0.05",
            "rescan_s = 0.5",
            "trainer = { threads = 1, nice = 0, idle = false }",
            "serving = { threads = 1 }",
            "[training]",
            "rank = 2",
            "batch_size = 8",
            "learning_rate = 0.01",
            "epochs = 12",
            "patience = 12",
            "fisher_rows = 8",
            "checkpoint_steps = 1",
        ]
        self.config.write_text("\n".join(settings), "utf-8")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ADAPTERD_")},
            "ADAPTERD_CONFIG": str(self.config),
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": "1000000",
        }
        self.process = self.spawn()

    def spawn(self) -> subprocess.Popen[bytes]:
        """Another one, with the same settings."""
        command = [sys.executable, "-m", "adapterd.daemon.cli", "serve"]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def listen(self) -> None:
        """As systemd does, read whatever comes."""
        while True:
            self.heard.put(self.systemd.recv(4096).decode().splitlines())

    def hear(self, line: str) -> None:
        """Wait until systemd is told `line`."""
        while line not in self.heard.get(timeout=PATIENCE_S):
            pass

    def client(self) -> Client:
        return Client(f"unix:{self.state / 'adapterd.sock'}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path)
    process.hear("READY=1")
    yield process
    if process.process.poll() is None:
        process.process.kill()
        process.process.wait()


def wait_for(found: Callable[[], bool]) -> None:
    pause, end = threading.Event(), time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < end
        pause.wait(0.05)


def test_systemd_is_told_of_every_turn_and_sigterm_ends_it_with_status_0(daemon: Process) -> None:
    daemon.hear("WATCHDOG=1")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.hear("RELOADING=1")
    daemon.hear("READY=1")
    daemon.process.send_signal(signal.SIGTERM)
    daemon.hear("STOPPING=1")
    assert daemon.process.wait(PATIENCE_S) == 0
    assert not (daemon.state / "adapterd.sock").exists()


def test_a_wrong_configuration_at_sighup_changes_nothing_and_is_told(daemon: Process) -> None:
    daemon.config.write_text("nonsense = 1\n", "utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.hear("READY=1")
    with daemon.client() as client:
        events = list(client.learning.Events(learning_pb2.EventsRequest()))
        assert any(event.kind == "daemon.reload-failed" and "nonsense" in event.message for event in events)


def test_a_second_daemon_on_the_same_state_is_refused(daemon: Process) -> None:
    second = daemon.spawn()
    output, _ = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 1
    assert "another adapterd works on" in output.decode()
    with daemon.client() as client:
        client.adapters.ListTasks(adapters_pb2.ListTasksRequest())


def test_a_training_that_a_kill_interrupted_is_finished_by_the_next_start_and_done_once(daemon: Process) -> None:
    folder = daemon.state / "inbox" / "mood"
    folder.mkdir()
    rows = [{"text": f"{word} {number}", "label": word} for number in range(30) for word in ("good", "bad")]
    (folder / ".rows").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / ".rows").rename(folder / "rows.jsonl")
    checkpoint = daemon.state / "jobs" / "1" / "checkpoint" / "checkpoint.safetensors"
    wait_for(checkpoint.exists)
    daemon.process.kill()
    daemon.process.wait()
    assert not (daemon.state / "jobs" / "1" / "result").exists()

    daemon.process = daemon.spawn()
    daemon.hear("READY=1")

    def served_version() -> int:
        try:
            with daemon.client() as client:
                request = inference_pb2.ScoreRequest(
                    adapter="mood", input=inference_pb2.Input(prompt="good 1"), continuations=["good", "bad"]
                )
                return client.inference.Score(request).served_by.version
        except DaemonError:
            return 0

    wait_for(lambda: served_version() == 1)
    with daemon.client() as client:
        versions = client.adapters.ListVersions(adapters_pb2.ListVersionsRequest(task="mood")).versions
        jobs = client.learning.ListJobs(learning_pb2.ListJobsRequest(task="mood")).jobs
        manifest = client.adapters.GetVersion(adapters_pb2.GetVersionRequest(version="mood@1")).manifest_json
    assert [version.version for version in versions] == [1]
    assert [job.attempts for job in jobs] == [2]
    assert json.loads(manifest)["recipe"]["resumed_at"] > 0
    assert daemon.stop() == 0

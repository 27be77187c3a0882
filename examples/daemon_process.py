"""`adapterd serve` as a process of its own, on a state folder of its own: started, asked, killed, started again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from adapterd.daemon.client import Client
from adapterd.daemon.errors import DaemonError
from adapterd.v1 import learning_pb2

_ADAPTERD = [sys.executable, "-m", "adapterd.daemon.cli"]
# Loading the base takes seconds; fetching and converting it on the first start of all takes a minute or two.
_START_PATIENCE_S = 600.0
_STOP_PATIENCE_S = 60.0
_LOOK_EVERY_S = 0.1


class DaemonProcess:
    """A daemon below `state`; `settings` are those that differ from the defaults, as in `adapterd.toml`."""

    def __init__(self, state: Path, settings: Mapping[str, Any]) -> None:
        self.state = state
        self.inbox = state / "inbox"
        self.address = f"unix:{state / 'adapterd.sock'}"
        self.log = state / "daemon.log"
        self._config = state / "demo.toml"
        self._settings = dict(settings)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it and wait until it answers; returns the seconds that took.

        Raises `RuntimeError` with the end of its log if it exits or does not answer in time.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        self._config.write_text(_toml(self._settings), "utf-8")
        began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([*_ADAPTERD, "serve"], stdout=log, stderr=log, env=self._environment())
        while time.monotonic() - began < _START_PATIENCE_S:
            if self._process.poll() is not None:
                raise RuntimeError(f"the daemon ended with status {self._process.returncode}:\n{self.log_tail()}")
            with contextlib.suppress(DaemonError), self.client() as client:
                client.learning.GetStatus(learning_pb2.GetStatusRequest())
                return time.monotonic() - began
            time.sleep(_LOOK_EVERY_S)
        raise RuntimeError(f"the daemon did not answer in {_START_PATIENCE_S:.0f} s:\n{self.log_tail()}")

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def client(self) -> Client:
        """A gRPC client of it."""
        return Client(self.address)

    def command(self, *arguments: str) -> str:
        """Run an `adapterd` command against it and return what it printed. Raises `RuntimeError` if it failed."""
        done = subprocess.run(
            [*_ADAPTERD, *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_STOP_PATIENCE_S,
        )
        if done.returncode != 0:
            raise RuntimeError(f"`adapterd {' '.join(arguments)}` exited {done.returncode}: {done.stderr.strip()}")
        return done.stdout.rstrip()

    def drop(self, task: str, name: str, data: bytes) -> float:
        """Put a file into a task's inbox; returns the unix seconds at which it appeared there.

        As any program should: written under a name that the daemon ignores, then renamed.
        """
        folder = self.inbox / task
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{name}.part"
        partial.write_bytes(data)
        appeared = time.time()
        partial.rename(folder / name)
        return appeared

    def memory(self) -> int:
        """Resident bytes of the serving process alone, without the training process."""
        assert self._process is not None
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def cpu_seconds(self) -> float:
        """Processor time that the serving process alone has taken."""
        assert self._process is not None
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def kill(self) -> list[int]:
        """SIGKILL, as the kernel does when memory runs out; returns the pids of child processes that outlived it."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait()
        _, alive = psutil.wait_procs(children, timeout=10)
        return [child.pid for child in alive]

    def stop(self) -> int:
        """SIGTERM and wait; returns the exit status, 0 if it was not running. One that hangs is killed: -9."""
        if self._process is None or self._process.poll() is not None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def log_tail(self, lines: int = 30) -> str:
        """The end of what it logged."""
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:]) or "(its log is empty)"

    def _environment(self) -> dict[str, str]:
        """This process's environment without settings of another daemon, which may well live on this machine."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("ADAPTERD_")}
        return {
            **ours,
            "ADAPTERD_CONFIG": str(self._config),
            "ADAPTERD_STATE": str(self.state),
            "PYTHONUNBUFFERED": "1",
        }


def share_bases(state: Path, bases: Path | None) -> None:
    """Let the daemon below `state` use a folder of bases that is there already, instead of fetching its own."""
    link = state / "bases"
    if bases is not None and not link.exists():
        bases.mkdir(parents=True, exist_ok=True)
        state.mkdir(parents=True, exist_ok=True)
        link.symlink_to(bases.resolve(), target_is_directory=True)


def _toml(settings: Mapping[str, Any]) -> str:
    """Settings as TOML: plain values first, then sections. JSON's strings, numbers and truth values are TOML's too."""
    plain = [f"{name} = {json.dumps(value)}" for name, value in settings.items() if not isinstance(value, Mapping)]
    sections = [f"[{name}]\n{_toml(value)}" for name, value in settings.items() if isinstance(value, Mapping)]
    return "\n".join([*plain, *sections, ""])

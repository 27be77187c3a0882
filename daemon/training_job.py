"""One training process as the worker sees it: started, looked at, stopped; never waited for."""

import json
import os
import shutil
import signal
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..adapters.durable import make_folder, write_atomic
from .child_process import command, end
from .environment import TRAINING
from .errors import TrainerFailed
from .trainer_spec import Spec

# Lines of the log that an error quotes.
_QUOTED_LINES = 12


@dataclass
class TrainingJob:
    """A job folder and, while it runs, its process."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    _read: int = field(default=0, repr=False)  # bytes of progress.jsonl already taken

    def prepare(self, spec: Spec) -> None:
        """Write what is to be done, once: a job resumes what it began."""
        make_folder(self.folder, 0o750)
        write_atomic(self.folder / "spec.json", json.dumps(asdict(spec), ensure_ascii=False).encode())

    @property
    def prepared(self) -> bool:
        """Whether the spec is there."""
        return (self.folder / "spec.json").exists()

    def start(self, *, nice: int, idle: bool, threads: int, memory_bytes: int) -> int:
        """Spawn the process, which may take so much memory (0: all that there is); returns its pid.

        `nice` and `idle` as in `environment.give_way`.
        """
        progress = self.folder / "progress.jsonl"
        self._read = progress.stat().st_size if progress.exists() else 0
        # Over the daemon's own, which that would inherit.
        environment = {**os.environ, **TRAINING}
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own module, an absolute interpreter
                command(
                    "adapterd.daemon.trainer",
                    str(self.folder),
                    str(nice),
                    "idle" if idle else "shares",
                    str(memory_bytes),
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                # A Ctrl-C in the daemon's terminal is for the daemon. No session of its own, to which Linux would give
                # as much of the cores as to all of serving, however idle it is (sched(7), autogroups).
                process_group=0,
            )
        return self.process.pid

    def progress(self) -> list[dict[str, Any]]:
        """The lines that came since the last call; half a line waits for its other half."""
        path = self.folder / "progress.jsonl"
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]

    def ended(self) -> bool:
        """Whether the process is gone. Raises `TrainerFailed` if it went without a result."""
        if self.process is None or self.process.poll() is None:
            return False
        status = self.process.returncode
        self.process = None
        if self.finished:
            return True
        raise TrainerFailed(
            f"the training process ended with {_said(status)} and without a result; its log ends:\n{self.log_tail()}",
            hint=f"the whole log is {self.folder / 'log'}",
        )

    @property
    def pid(self) -> int | None:
        """Of the process; None when it is gone."""
        return self.process.pid if self.process is not None else None

    @property
    def finished(self) -> bool:
        """Whether the result is there, whole."""
        return (self.folder / "result").is_dir()

    def clear(self) -> None:
        """Remove what a published version has made superfluous; spec, progress and log stay."""
        for name in ("checkpoint", "trained", "result"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def stop(self, patience_s: float = 10.0) -> None:
        """End the process: SIGTERM, then SIGKILL. Its checkpoint stays."""
        if self.process is not None:
            end(self.process, patience_s)
            self.process = None

    def log_tail(self) -> str:
        """The last lines that the process wrote."""
        path = self.folder / "log"
        text = path.read_bytes()[-8000:].decode("utf-8", "replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-_QUOTED_LINES:]) or "(it is empty)"


def _said(status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        memory = ", most likely for want of memory" if name == "SIGKILL" else ""
        return f"{name}{memory}"
    return f"exit status {status}"

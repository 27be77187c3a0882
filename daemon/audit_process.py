"""The auditing process as the worker sees it: asked one thing at a time, and looked at; never waited for long."""

import json
import os
import selectors
import subprocess
import time
from typing import IO, Any

from .child_process import command, end
from .errors import AuditorFailed

# Seconds from SIGTERM to SIGKILL.
_PATIENCE_S = 2.0
_READ_BYTES = 1 << 16


class AuditProcess:
    """Starts the process when it is asked something, and anew after it died or was stopped."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._memory = 0
        self._deadline = 0.0
        self._seconds = 0.0
        self._unread = b""
        self.phase = ""

    def ask(self, request: dict[str, Any], *, memory_bytes: int, seconds: float) -> None:
        """Send a request, to be answered within `seconds` and `memory_bytes`."""
        if self._process is None or self._process.poll() is not None or memory_bytes != self._memory:
            self.stop()
            self._start(memory_bytes)
        assert self._process is not None
        assert self._process.stdin is not None
        self._seconds, self._deadline, self.phase = seconds, time.monotonic() + seconds, ""
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died since; `answer` says so

    def answer(self, wait_s: float) -> dict[str, Any] | None:
        """The answer, if it comes within `wait_s`; None if the process is still at work.

        Raises `AuditorFailed` if it died, for want of memory as a rule, or took longer than it may.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        until = time.monotonic() + wait_s
        while True:
            while b"\n" in self._unread:
                line, _, self._unread = self._unread.partition(b"\n")
                answer: dict[str, Any] = json.loads(line)
                if "share" not in answer:
                    return answer
                self.phase = f"{answer['phase']}, {answer['share']:.0%}"
            if time.monotonic() > self._deadline:
                self.stop()
                raise AuditorFailed(f"it took longer than limits.audit_seconds = {self._seconds:g}")
            if not _readable(self._process.stdout, until - time.monotonic()):
                return None
            read = os.read(self._process.stdout.fileno(), _READ_BYTES)
            if not read:
                status = self._process.wait()
                self.stop()
                raise AuditorFailed(
                    f"the auditing process ended at it (status {status}), most likely for want of memory: "
                    f"limits.audit_memory_bytes = {self._memory:,}"
                )
            self._unread += read

    @property
    def pid(self) -> int | None:
        """Of the process; None before it was asked anything, and once it is gone."""
        return self._process.pid if self._process is not None else None

    def stop(self) -> None:
        """End the process; the next request starts another."""
        if self._process is not None:
            process, self._process = self._process, None
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
            end(process, _PATIENCE_S)
        self._unread = b""

    def _start(self, memory_bytes: int) -> None:
        # One thread for each library: beside serving and training there is no core to spare.
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._memory = memory_bytes
        self._process = subprocess.Popen(  # noqa: S603 - our own module, an absolute interpreter
            command("adapterd.daemon.auditor", str(memory_bytes)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **threads},
            process_group=0,  # a Ctrl-C in the daemon's terminal is for the daemon; see `TrainingJob.start`
        )


def _readable(pipe: IO[bytes], wait_s: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return bool(selector.select(max(0.0, wait_s)))

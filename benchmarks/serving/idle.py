"""From the start of a real daemon to its first answer, and what it takes while nobody asks."""

import time
from pathlib import Path

from adapterd.v1 import inference_pb2
from rich.console import Console

from benchmarks.report import Report

from .fresh_daemon import fresh_daemon

# The first seconds after a start are spent on what is due at once.
_SETTLE_S, _IDLE_S = 10.0, 60.0


def measure(base: str, bases: Path | None, report: Report, screen: Console) -> None:
    """All figures of the module."""
    with fresh_daemon("idle", bases, {"base": base}) as daemon:
        daemon.start()  # a base is converted at the first start of all
        daemon.stop()
        began = time.monotonic()
        answers = daemon.start()
        with daemon.client() as client:
            client.inference.Complete(_QUESTION, timeout=120)
        first = time.monotonic() - began
        time.sleep(_SETTLE_S)
        before, began = daemon.cpu_seconds(), time.monotonic()
        screen.print(f"  answers after {answers:.1f} s; idle for {_IDLE_S:.0f} s")
        time.sleep(_IDLE_S)
        busy = (daemon.cpu_seconds() - before) / (time.monotonic() - began)
        report.add("idle_start_s", "seconds from the start to a daemon that answers", answers)
        report.add("idle_first_answer_s", "seconds from the start to the first generated answer", first)
        report.add("idle_cpu_share", "of one core, while nobody asks", busy, at_most=0.02)
        report.add("idle_memory_mb", "megabytes of resident memory then", daemon.memory() / 1e6)


_QUESTION = inference_pb2.GenerateRequest(
    adapter="base",
    input=inference_pb2.Input(prompt="Once upon a time"),
    sampling=inference_pb2.Sampling(max_tokens=4),
)

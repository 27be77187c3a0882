"""Answers of a real daemon while it trains: how much longer the slowest take than on a quiet machine."""

import time
from pathlib import Path
from statistics import median

from adapterd.daemon.client import Client
from adapterd.v1 import common_pb2, inference_pb2, learning_pb2
from rich.console import Console

from benchmarks.report import Report
from examples.daemon_process import DaemonProcess

from .fresh_daemon import fresh_daemon
from .streams import Clients, p99

_CLIENTS, _TOKENS = 4, 16
_WARM_S, _QUIET_S, _PATIENCE_S = 5.0, 40.0, 600.0
_DROP = Path(__file__).parents[2] / "examples" / "tickets" / "drop-1.jsonl"


def measure(base: str, bases: Path | None, report: Report, screen: Console) -> None:
    """All figures of the module."""
    with fresh_daemon("training", bases, {"base": base}) as daemon:
        daemon.start()
        with daemon.client() as client:
            quiet, beside = _answers(daemon, client, screen)
    report.add("training_p99_alone_ms", "p99 of an answer of 16 tokens, 4 clients, ms", 1e3 * p99(quiet))
    report.add("training_p99_ratio", "p99 while another task trains ÷ alone", p99(beside) / p99(quiet), at_most=2.0)
    report.add("training_median_ratio", "the same of the median", median(beside) / median(quiet))


def _answers(daemon: DaemonProcess, client: Client, screen: Console) -> tuple[list[float], list[float]]:
    """Seconds that answers of the base took, before a drop came and while it was learned."""
    taken: list[float] = []

    def work(_: int) -> None:
        began = time.perf_counter()
        client.inference.Complete(_REQUEST, timeout=_PATIENCE_S)
        taken.append(time.perf_counter() - began)

    with Clients(_CLIENTS, work):
        time.sleep(_WARM_S)
        taken.clear()
        time.sleep(_QUIET_S)
        quiet = list(taken)
        daemon.drop("tickets", _DROP.name, _DROP.read_bytes())
        _wait(client, training=True)
        taken.clear()
        began = time.perf_counter()
        _wait(client, training=False)
        beside, seconds = list(taken), time.perf_counter() - began
    screen.print(f"  {len(quiet)} answers alone, {len(beside)} while a drop was learned in {seconds:.0f} s")
    return quiet, beside


def _wait(client: Client, *, training: bool) -> None:
    """Until the drop is learned, or is no more. Raises `RuntimeError` if that takes longer than `_PATIENCE_S`."""
    ends = time.monotonic() + _PATIENCE_S
    while time.monotonic() < ends:
        drops = client.learning.ListDrops(learning_pb2.ListDropsRequest(task="tickets")).drops
        if any(drop.state == common_pb2.DROP_STATE_TRAINING for drop in drops) is training:
            return
        time.sleep(0.2)
    raise RuntimeError(f"after {_PATIENCE_S:.0f} s the drop is {'not yet' if training else 'still'} being learned")


_REQUEST = inference_pb2.GenerateRequest(
    adapter="base",
    input=inference_pb2.Input(prompt="Once upon a time"),
    sampling=inference_pb2.Sampling(max_tokens=_TOKENS),
)

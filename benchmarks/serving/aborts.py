"""Clients that cancel, run out of time or vanish: what they leave behind in a real daemon, asked over gRPC."""

import multiprocessing
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import grpc
from adapterd.daemon.client import Client
from adapterd.v1 import inference_pb2, inference_pb2_grpc, learning_pb2
from rich.console import Console

from benchmarks.report import Report
from examples.daemon_process import DaemonProcess

from .fresh_daemon import fresh_daemon

_REQUESTS, _AT_ONCE = 2000, 24
_WAYS = ("finish", "cancel", "deadline")
# Client processes that are killed, requests of each, and seconds until it has imported gRPC and sent them.
_KILLED, _REQUESTS_OF_ONE, _HEAD_START_S = 10, 10, 4.0
_PATIENCE_S, _SETTLE_S = 300.0, 20.0


def measure(base: str, bases: Path | None, report: Report, screen: Console) -> None:
    """All figures of the module."""
    with fresh_daemon("aborts", bases, {"base": base, "serving": {"max_queue": 256}}) as daemon:
        daemon.start()
        _measure(daemon, report, screen)


def _measure(daemon: DaemonProcess, report: Report, screen: Console) -> None:
    random = Random(0)
    plans = [(random.choice(_WAYS), random.randrange(1, 12), random.uniform(0.01, 2.0)) for _ in range(_REQUESTS)]
    ends: Counter[str] = Counter()
    with grpc.insecure_channel(daemon.address) as channel, ThreadPoolExecutor(_AT_ONCE) as pool:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)  # type: ignore[no-untyped-call] # generated
        for number, end in enumerate(pool.map(lambda plan: _abort(stub, *plan), plans), 1):
            ends[end] += 1
            if number % 200 == 0:
                screen.print(f"  {number} requests: {dict(ends)}")
    vanished = _vanish(daemon.address)
    with daemon.client() as client:
        status = _settled(client)
        answer = client.inference.Complete(_request(4), timeout=60)
    report.add("aborts_requests", "requests, most of which ended early in one way or another", _REQUESTS + vanished)
    report.add("aborts_unexpected", "requests that ended in an unexpected way", ends["unexpected"], at_most=0)
    report.add("aborts_leases", "leases left", status.leases, at_most=0)
    report.add("aborts_running", "rows of the cache left", status.running, at_most=0)
    report.add("aborts_queued", "requests left in the queue", status.queued, at_most=0)
    report.add("aborts_tokens_after", "tokens of an answer afterwards", answer.usage.completion_tokens, at_least=1)


def _request(tokens: int) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(
        adapter="base",
        input=inference_pb2.Input(prompt="Once upon a time"),
        sampling=inference_pb2.Sampling(max_tokens=tokens),
    )


def _abort(stub: inference_pb2_grpc.InferenceServiceStub, way: str, after: int, seconds: float) -> str:
    """Ask, and end in `way`: after some tokens, after some seconds, or not before its time. How it ended."""
    stream = stub.Generate(_request(64), timeout=seconds if way == "deadline" else _PATIENCE_S)
    try:
        for number, _ in enumerate(stream, 1):
            if way == "cancel" and number == after:
                stream.cancel()
    except grpc.RpcError as error:
        code = error.code()
        wanted = {"cancel": grpc.StatusCode.CANCELLED, "deadline": grpc.StatusCode.DEADLINE_EXCEEDED}.get(way)
        return way if code == wanted else "unexpected"
    return "finish"


def _vanish(address: str) -> int:
    """Client processes that are killed with their requests under way; how many requests."""
    spawn = multiprocessing.get_context("spawn")
    for _ in range(_KILLED):
        process = spawn.Process(target=_ask_until_killed, args=(address,), daemon=True)
        process.start()
        time.sleep(_HEAD_START_S)
        process.kill()
        process.join()
    return _KILLED * _REQUESTS_OF_ONE


def _ask_until_killed(address: str) -> None:
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(_REQUESTS_OF_ONE) as pool:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)  # type: ignore[no-untyped-call] # generated
        streams = [stub.Generate(_request(512), timeout=_PATIENCE_S) for _ in range(_REQUESTS_OF_ONE)]
        list(pool.map(list, streams))


def _settled(client: Client) -> learning_pb2.Status:
    """The daemon's status once nothing runs, or after `_SETTLE_S` seconds."""
    ends = time.monotonic() + _SETTLE_S
    while True:
        status: learning_pb2.Status = client.learning.GetStatus(learning_pb2.GetStatusRequest())
        if not (status.leases or status.running or status.queued) or time.monotonic() > ends:
            return status
        time.sleep(0.2)

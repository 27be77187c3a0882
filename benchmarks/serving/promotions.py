"""From `Promote` to the new version's first answer, asked of a real daemon over gRPC.

Each version is promoted for the first time, so that it is read from disk, checked and warmed up: one that was in the
engine lately would be there still. What the ledger and the way to the daemon take is in the figure.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from statistics import median

from adapterd.adapters.base import load_base
from adapterd.adapters.store import CONFIG, WEIGHTS
from adapterd.adapters.strict_files import canonical_json
from adapterd.continual.recipe import Hyperparameters
from adapterd.daemon.client import Client
from adapterd.daemon.transfer import pack
from adapterd.v1 import adapters_pb2, inference_pb2
from rich.console import Console
from safetensors.torch import save_file

from benchmarks.report import Report
from examples.daemon_process import DaemonProcess, share_bases

from .crowd import peft_config, random_weights, shapes_of
from .streams import PROMPT

_PROMOTIONS = 20
Shapes = Mapping[str, tuple[int, int]]


def measure(base_folder: Path, base: str, bases: Path | None, report: Report, screen: Console) -> None:
    """All figures of the module."""
    model = load_base(base_folder, quantization="nf4").model
    tasks = {"every": shapes_of(model), "trained": shapes_of(model, Hyperparameters().layers)}
    del model
    state = Path(tempfile.mkdtemp(prefix="adapterd-promotions-"))
    share_bases(state, bases)
    daemon = DaemonProcess(state, {"base": base})
    try:
        daemon.start()
        with daemon.client() as client:
            taken = {task: list(_promotions(client, task, shapes)) for task, shapes in tasks.items()}
    finally:
        daemon.stop()
        shutil.rmtree(state)
    for task, seconds in taken.items():
        screen.print(f"  {task}: {', '.join(f'{1e3 * one:.0f}' for one in seconds)} ms")
    what = "from `Promote` to the new version's first answer, p50, ms"
    report.add("promotion_every_layer_p50_ms", f"{what}; on every layer", 1e3 * median(taken["every"]), at_most=100.0)
    what += "; on the layers that the daemon trains"
    report.add("promotion_trained_layers_p50_ms", what, 1e3 * median(taken["trained"]), at_most=100.0)


def _promotions(client: Client, task: str, shapes: Shapes) -> Iterator[float]:
    """Import so many versions, ask the task once, and promote each; seconds to its first token."""
    versions = [client.adapters.Import(_pieces(task, shapes, seed)).version for seed in range(1 + _PROMOTIONS)]
    for version in versions:
        began = time.perf_counter()
        client.adapters.Promote(adapters_pb2.PromoteRequest(version=f"{task}@{version}"))
        answer = client.inference.Complete(_request(task), timeout=60)
        seconds = time.perf_counter() - began
        if answer.served_by.version != version:
            raise RuntimeError(f"{task}@{answer.served_by.version} answered after {task}@{version} was promoted")
        if version != versions[0]:  # whose promotion also brings the daemon's own code into memory
            yield seconds


def _pieces(task: str, shapes: Shapes, seed: int) -> Iterator[adapters_pb2.ImportRequest]:
    with tempfile.TemporaryDirectory(prefix="adapterd-promoted-") as folder:
        save_file(dict(random_weights(dict(shapes), seed)), Path(folder) / WEIGHTS)
        (Path(folder) / CONFIG).write_bytes(canonical_json(peft_config(dict(shapes))))
        tar = (adapters_pb2.ImportRequest(chunk=piece) for piece in pack(Path(folder)))
        yield from chain([adapters_pb2.ImportRequest(task=task)], tar)


def _request(task: str) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(
        adapter=task, input=inference_pb2.Input(prompt=PROMPT), sampling=inference_pb2.Sampling(max_tokens=1)
    )

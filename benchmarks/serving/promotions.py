"""From `Promote` to the new version's first answer, asked of a real daemon over gRPC.

Each version is promoted for the first time, so that it is read from disk and checked: one that was in the engine lately
would be there still. What the ledger and the way to the daemon take is in the figure.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from adapterd.adapters.base import load_base
from adapterd.adapters.store import CONFIG, WEIGHTS
from adapterd.adapters.strict_files import canonical_json
from adapterd.continual.recipe import Hyperparameters
from adapterd.daemon.client import Client
from adapterd.daemon.peft_folder import import_requests
from adapterd.v1 import adapters_pb2, inference_pb2
from rich.console import Console
from safetensors.torch import save_file

from benchmarks.report import Report

from .crowd import peft_config, random_weights, shapes_of
from .fresh_daemon import fresh_daemon
from .streams import PROMPT

_PROMOTIONS = 20
Shapes = dict[str, tuple[int, int]]


def measure(base_folder: Path, base: str, bases: Path | None, report: Report, screen: Console) -> None:
    """All figures of the module."""
    model = load_base(base_folder, quantization="nf4").model
    every, trained = shapes_of(model), shapes_of(model, Hyperparameters().layers)
    del model  # the daemon has its own
    what = "from `Promote` to the new version's first answer, p50, ms;"
    with fresh_daemon("promotions", bases, {"base": base}) as daemon:
        daemon.start()
        with daemon.client() as client:
            for task, shapes, where in (
                ("every-layer", every, "on every layer"),
                ("trained-layers", trained, "on the layers that the daemon trains"),
            ):
                taken = list(_promotions(client, task, shapes))
                screen.print(f"  {task}: {', '.join(f'{1e3 * seconds:.0f}' for seconds in taken)} ms")
                key = f"promotion_{task.replace('-', '_')}_p50_ms"
                report.add(key, f"{what} {where}", 1e3 * median(taken), at_most=100.0)


def _promotions(client: Client, task: str, shapes: Shapes) -> Iterator[float]:
    """Import `_PROMOTIONS` versions and one more, and promote them one after the other; seconds to each one's token."""
    versions = [_imported(client, task, shapes, seed) for seed in range(1 + _PROMOTIONS)]
    for version in versions:
        began = time.perf_counter()
        client.adapters.Promote(adapters_pb2.PromoteRequest(version=f"{task}@{version}"))
        answer = client.inference.Complete(_request(task), timeout=60)
        seconds = time.perf_counter() - began
        if answer.served_by.version != version:
            raise RuntimeError(f"{task}@{answer.served_by.version} answered after {task}@{version} was promoted")
        if version != versions[0]:  # whose promotion also brings the daemon's own code into memory
            yield seconds


def _imported(client: Client, task: str, shapes: Shapes, seed: int) -> int:
    """The number that a version with random weights got."""
    with tempfile.TemporaryDirectory(prefix="adapterd-promoted-") as name:
        folder = Path(name)
        save_file(dict(random_weights(shapes, seed)), folder / WEIGHTS)
        (folder / CONFIG).write_bytes(canonical_json(peft_config(shapes)))
        return int(client.adapters.Import(import_requests(task, folder)).version)


def _request(task: str) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(
        adapter=task, input=inference_pb2.Input(prompt=PROMPT), sampling=inference_pb2.Sampling(max_tokens=1)
    )

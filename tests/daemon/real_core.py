"""A daemon's parts, all of them real, on the tiny base: what the tests of the gRPC services stand on."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from adapterd.adapters.base import Base, load_base
from adapterd.adapters.engine import Engine
from adapterd.adapters.manager import Manager
from adapterd.adapters.states import VersionState
from adapterd.adapters.store import Store
from adapterd.continual.shapes import Kind
from adapterd.continual.template import Template
from adapterd.daemon.canary_watch import CanaryWatch
from adapterd.daemon.client import Client
from adapterd.daemon.config import Settings
from adapterd.daemon.core import Core
from adapterd.daemon.corrections import Corrections
from adapterd.daemon.dataset import Dataset
from adapterd.daemon.exchange import Exchange
from adapterd.daemon.forgetting import Forgetting
from adapterd.daemon.inbox import Inbox
from adapterd.daemon.learning_sections import Limits
from adapterd.daemon.ledger import Ledger, VersionRow
from adapterd.daemon.lifecycle import Lifecycle
from adapterd.daemon.query_watch import QueryWatch
from adapterd.daemon.recent_answers import RecentAnswers
from adapterd.daemon.server import Server
from adapterd.daemon.serving_sections import Access, Serving
from adapterd.daemon.worker import Worker
from safetensors.torch import save_file

NOW = 1_785_240_000.0
RANK = 4
LABELS = ("no", "yes")


@contextmanager
def real_core(
    folder: Path,
    base: Base | Path,
    *,
    address: str = "",
    limits: Limits | None = None,
    signers: str = "",
    **serving: Any,
) -> Iterator[Core]:
    """A core on the tiny base with the task "mood": version 1 is the champion, the engine runs. Settings as given."""
    if isinstance(base, Path):
        base = load_base(base, quantization="none", device="cpu")
    settings = Settings(
        state=folder / "state",
        address=address,
        base="tiny",
        quantization="none",
        limits=limits or Limits(),
        access=Access(signers=signers),
        serving=Serving(**{"slots": 6, "max_rank": 8, "max_context": 256, "drain_timeout_s": 5.0, **serving}),
    )
    for name in ("adapters", "data", "quarantine", "jobs", "spool", "inbox"):
        (settings.state / name).mkdir(parents=True)
    ledger = Ledger(settings.state / "adapterd.sqlite3")
    limits_of_engine = {
        name: getattr(settings.serving, name)
        for name in ("slots", "max_rank", "max_batch", "max_queue", "max_context", "drafts")
    }
    engine = Engine(base, **limits_of_engine)
    store = Store(settings.state / "adapters")
    manager = Manager(
        engine,
        store,
        fingerprint=base.fingerprint,
        slots=settings.serving.slots,
        host_bytes=settings.serving.host_cache_mb << 20,
    )
    lifecycle = Lifecycle(ledger, store, manager)
    exchange = Exchange(ledger, store, lifecycle, base, engine.shapes, signers=settings.access.signers)
    dataset = Dataset(settings.state / "data", settings.state / "quarantine")
    worker = Worker(settings, ledger, dataset, store, lifecycle, base)
    inbox = Inbox(settings.inbox_dir, settings.state / "spool", ledger, settle_s=0.0)
    corrections = Corrections(settings, ledger, store)
    forgetting = Forgetting(ledger, dataset, lifecycle, worker, corrections)
    canaries = CanaryWatch(settings, ledger, manager, lifecycle)
    core = Core(
        settings,
        base,
        engine,
        manager,
        store,
        ledger,
        lifecycle,
        exchange,
        canaries,
        RecentAnswers(),
        QueryWatch(settings, ledger, store, dataset, base),
        corrections,
        worker,
        forgetting,
        inbox,
        NOW,
    )
    engine.start()
    try:
        publish(core, "mood", 1)
        lifecycle.promote("mood", 1, expected=None, actor="test", reason="the first")
        yield core
    finally:
        engine.stop()
        ledger.close()


@contextmanager
def served(core: Core) -> Iterator[Client]:
    """A client of a server on `core`."""
    server = Server(core)
    server.start()
    try:
        with Client(server.address) as client:
            yield client
    finally:
        server.stop(5.0)


def publish(
    core: Core,
    task: str,
    version: int,
    *,
    state: VersionState = VersionState.AVAILABLE,
    kind: Kind = Kind.LABEL,
    **said: Any,
) -> VersionRow:
    """Publish a version with weights drawn from its number, and write it to the ledger; the manifest has `said`."""
    folder = core.settings.state / "made"
    folder.mkdir(exist_ok=True)
    weights = folder / "adapter_model.safetensors"
    shapes = core.engine.shapes
    save_file(random_weights(shapes, seed=version), weights)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": sorted({name.rpartition(".")[2] for name in shapes}),
        "base_model_name_or_path": "tiny",
        "bias": "none",
        "inference_mode": True,
    }
    manifest = {
        "task": task,
        "version": version,
        "parent": version - 1,
        "created": NOW,
        "base": {"name": "tiny", "fingerprint": core.base.fingerprint, "quantization": "none"},
        "metrics": {"loss": 1.0 / version},
        **said,
    }
    template = Template(kind, LABELS if kind is Kind.LABEL else (), True)
    digest = core.store.publish(
        task, version, weights=weights, config=config, template=template.to_json(), manifest=manifest, fisher=None
    )
    row = core.ledger.versions.add(
        task,
        version,
        state=state,
        digest=digest,
        parent=version - 1,
        drop=0,
        fingerprint=core.base.fingerprint,
        metrics={"loss": 1.0 / version},
        verdict="promote",
        reason="it is better",
    )
    core.lifecycle.sync()
    return row


def random_weights(shapes: Mapping[str, tuple[int, int]], seed: int) -> dict[str, torch.Tensor]:
    """LoRA weights for layers of (in, out), named as PEFT saves them, strong enough to change what comes out."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, (width, height) in shapes.items():
        weights[f"base_model.model.{name}.lora_A.weight"] = torch.randn(RANK, width, generator=generator) * 0.3
        weights[f"base_model.model.{name}.lora_B.weight"] = torch.randn(height, RANK, generator=generator) * 0.3
    return weights


def until(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether `holds` within `seconds`: for what another thread is about to do."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if holds():
            return True
        pause.wait(0.01)
    return holds()


def rows(texts: Sequence[str]) -> bytes:
    """A file of rows to learn from."""
    return b"".join(json.dumps({"text": text, "label": LABELS[len(text) % 2]}).encode() + b"\n" for text in texts)

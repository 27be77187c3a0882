"""What resident versions cost, and what happens when there are more of them than slots."""

import tempfile
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from random import Random

import psutil
from adapterd.adapters.base import Base, load_base
from adapterd.adapters.manager import Manager
from adapterd.adapters.refs import AdapterRef
from adapterd.daemon.serving_sections import Serving
from rich.console import Console

from benchmarks.report import Report

from .crowd import Crowd, Member, know
from .streams import PROMPT, Asked, Clients, answer, running

_RESIDENT = 64
_SLOTS, _OVER, _CLIENTS, _TOKENS, _SECONDS = 8, 3, 4, 32, 20.0

Published = Mapping[str, Member]


def measure(base_folder: Path, report: Report, screen: Console) -> None:
    """All figures of the module."""
    base = load_base(base_folder, quantization="nf4")
    with tempfile.TemporaryDirectory(prefix="adapterd-residency-") as folder:
        crowd = Crowd(base, Path(folder))
        members = [crowd.publish(f"task-{number}", 1, seed=number) for number in range(_RESIDENT)]
        published = {member.task: member for member in members}
        grown = _growth(base, crowd, published)
        screen.print(f"  {_RESIDENT - 1} more versions took {grown / 1e6:.0f} MB")
        what = "growth from 1 to 64 resident versions ÷ the adapters' bytes"
        report.add("residency_growth", what, grown / ((_RESIDENT - 1) * crowd.adapter_bytes), at_most=1.1)
        fits, many = _SLOTS - 1, _OVER * _SLOTS
        speed = {versions: _speed(base, crowd, dict(list(published.items())[:versions])) for versions in (fits, many)}
    for versions, value in speed.items():
        what = f"tokens a second, {versions} versions asked evenly over {_SLOTS} slots"
        report.add(f"residency_{versions}_tokens_per_s", what, value)
    what = "three times as many versions as slots ÷ all of them resident"
    report.add("residency_over_slots", what, speed[many] / speed[fits], at_least=0.5)


def _growth(base: Base, crowd: Crowd, published: Published) -> int:
    """Bytes of resident memory that all versions but the first take, each asked once."""
    prompt: list[int] = base.tokenizer(PROMPT).input_ids
    memory = []
    with running(base, _RESIDENT + 1) as engine:
        manager = Manager(engine, crowd.store, fingerprint=base.fingerprint, slots=_RESIDENT + 1)
        for task, member in published.items():
            know(manager, [member], champion=None)
            with manager.lease(AdapterRef.parse(f"{task}@1"), task) as lease:
                answer(engine, Asked(lease.slot, prompt, 2))
            memory.append(psutil.Process().memory_info().rss)
    return memory[-1] - memory[0]


def _speed(base: Base, crowd: Crowd, published: Published) -> float:
    """Tokens a second of clients that ask one version or another, all equally often."""
    prompt: list[int] = base.tokenizer(PROMPT).input_ids
    number, random, done = count(), Random(0), [0]
    with running(base, _SLOTS) as engine:
        manager = Manager(
            engine, crowd.store, fingerprint=base.fingerprint, slots=_SLOTS, host_bytes=Serving().host_cache_mb << 20
        )
        for member in published.values():
            know(manager, [member], champion=None)

        def work(_client: int) -> None:
            task = random.choice(list(published))
            with manager.lease(AdapterRef.parse(f"{task}@1"), f"request-{next(number)}") as lease:
                done[0] += len(answer(engine, Asked(lease.slot, prompt, _TOKENS)))

        with Clients(_CLIENTS, work):
            time.sleep(_SECONDS / 4)  # until what fits is resident
            before, began = done[0], time.perf_counter()
            time.sleep(_SECONDS)
            return (done[0] - before) / (time.perf_counter() - began)

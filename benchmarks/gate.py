"""The gate's verdicts on drops that should pass and on drops that should not.

    python -m benchmarks.gate --data DIR

A task learns 400 questions of `trec6`. Then forty drops of 100 rows come, each held where it contradicts what was
learned, or learned from that same version by the default recipe and judged by the default gate: 20 clean ones of other
questions, and 20 poisoned ones, in turn

    shuffled      every label drawn from the drop's labels at random
    flipped       one label, the drop's commonest, replaced by another
    off-domain    product reviews under labels of the task at random

What is finished is kept in `--work` and not done again.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from adapterd.adapters.base import ensure_base
from adapterd.continual.examples import Example, parse_file
from adapterd.continual.recipe import Hyperparameters
from adapterd.continual.rows import Limits

from benchmarks.arguments import WORK
from benchmarks.arguments import parser as benchmark_parser
from benchmarks.cell import Cell
from benchmarks.methods import Method
from benchmarks.report import Report, console
from benchmarks.streams import Stream, StreamStep

FIRST_ROWS, ROWS, DROPS = 400, 100, 20
POISONS = ("shuffled", "flipped", "off-domain")


def stream(data: Path) -> Stream:
    """The first drop, then clean and poisoned ones in turn."""
    rows = [numbered.example for numbered in parse_file(data / "trec6/train.jsonl", Limits(), 0).examples]
    reviews = [numbered.example for numbered in parse_file(data / "amazon/train.jsonl", Limits(), 0).examples]
    Random(0).shuffle(rows)
    steps = [_step("first", rows[:FIRST_ROWS])]
    drops = [rows[FIRST_ROWS + ROWS * n : FIRST_ROWS + ROWS * (n + 1)] for n in range(2 * DROPS)]
    for number in range(DROPS):
        steps.append(_step(f"clean {number + 1}", drops[2 * number]))
        kind = POISONS[number % len(POISONS)]
        here = reviews[ROWS * number : ROWS * (number + 1)]
        steps.append(_step(f"{kind} {number + 1}", poisoned(kind, drops[2 * number + 1], here, Random(number))))
    return Stream("gate", "accuracy", tuple(steps))


def poisoned(kind: str, rows: Sequence[Example], reviews: Sequence[Example], random: Random) -> list[Example]:
    """`rows` spoiled as `kind` says."""
    labels = [row.completion for row in rows]
    if kind == "flipped":
        return [replace(row, completion=label) for row, label in zip(rows, flipped(labels, random), strict=True)]
    random.shuffle(labels)
    source = rows if kind == "shuffled" else [replace(row, prompt=row.prompt[:400]) for row in reviews]
    return [replace(row, completion=label) for row, label in zip(source, labels, strict=True)]


def flipped(labels: Sequence[str], random: Random) -> list[str]:
    """The commonest label replaced by another one."""
    commonest = Counter(labels).most_common(1)[0][0]
    other = random.choice(sorted(set(labels) - {commonest}))
    return [other if label == commonest else label for label in labels]


def _step(name: str, rows: Sequence[Example]) -> StreamStep:
    return StreamStep(name, tuple(rows), (), ())


def main() -> int:
    """Entry point; returns 0 if every target is met."""
    parser = benchmark_parser("gate", __doc__)
    parser.add_argument("--work", type=Path, metavar="DIR", default=WORK, help="what is finished")
    arguments = parser.parse_args()
    screen = console()
    work = Cell(
        arguments.work / "gate" / "ours" / "cell",
        stream(arguments.data),
        Method("ours", "fan", gated=True),
        Hyperparameters(),
        ensure_base(arguments.bases, arguments.base),
        arguments.work / "general.safetensors",
        None,
    )
    found = work.run(screen.print)
    report = Report("verdicts of the gate")
    for step in found.steps[1:]:
        screen.print(f"{step.name:<14} {step.verdict:<8} {step.reason}", soft_wrap=True)
    clean = [step for step in found.steps if step.name.startswith("clean")]
    promoted = sum(step.verdict == "promote" for step in clean)
    report.add("gate_clean_promoted", f"clean drops promoted, of {len(clean)}", promoted, at_least=19)
    for kind in POISONS:
        drops = [step for step in found.steps if step.name.startswith(kind)]
        stopped = sum(step.verdict != "promote" for step in drops)
        key = f"gate_{kind.replace('-', '_')}_stopped"
        report.add(key, f"{kind} drops held or rejected, of {len(drops)}", stopped, at_least=len(drops))
    return report.end(screen, arguments.json)


if __name__ == "__main__":
    sys.exit(main())

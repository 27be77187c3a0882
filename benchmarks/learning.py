"""Learning that does not forget: methods beside each other on streams of drops.

    python -m benchmarks.learning --stream unlike4 --methods ours,joint,sequential --seeds 3 --data DIR

For each method every learning rate of `--rates` is tried with the first seed, the one that is best on held-out training
rows is kept, and the other seeds run with it alone. The table gives mean and spread over seeds of the test rows'
figures. What is finished is kept in `--work` and not done again: a long table can be filled over days, and interrupted.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapterd.adapters.base import ensure_base
from adapterd.continual.matrix import average_accuracy, backward_transfer, forgetting, forward_transfer
from adapterd.continual.recipe import Hyperparameters
from rich.console import Console
from rich.table import Table

from benchmarks.arguments import WORK, names_of
from benchmarks.arguments import parser as benchmark_parser
from benchmarks.cell import Cell
from benchmarks.found import CellFound
from benchmarks.methods import METHODS, Method
from benchmarks.report import Report, console
from benchmarks.streams import Stream, load_stream

RATES = (5e-4, 1e-3, 2e-3)
_PROBE = "probe_wikitext2/test.txt"


@dataclass(frozen=True)
class Figures:
    """Of one finished cell. Scores are shares (accuracy) or nats per token, negative; `tokens_ratio` is over what
    training on the new rows alone takes, in as many epochs."""

    rate: float
    seed: int
    aa: float
    bwt: float
    fwt: float | None
    forgetting: float
    last: float
    general: float
    seconds: float
    tokens: int
    tokens_ratio: float
    worst_rise: float
    """Largest relative rise of a drop's loss from when it was learned to the end."""
    joint_tokens: int
    """Of a joint cell: what retraining on everything at each drop would have taken."""

    @classmethod
    def of(cls, found: CellFound, rate: float, seed: int) -> "Figures":
        """From what a finished cell found."""
        matrix = [step.scores for step in found.steps]
        whole = [step for step in found.steps if step.epochs]
        rises = [
            found.steps[-1].losses[j] / step.losses[j] - 1  # type: ignore[operator]
            for j, step in enumerate(found.steps[:-1])
            if step.losses[j] and found.steps[-1].losses[j]
        ]
        return cls(
            rate=rate,
            seed=seed,
            aa=average_accuracy(matrix) or float("nan"),
            bwt=_number(backward_transfer(matrix)),
            fwt=forward_transfer(matrix, found.base_scores),
            forgetting=_number(forgetting(matrix)),
            last=_number(matrix[-1][-1]),
            general=(found.general or 0.0) - found.general_base,
            seconds=sum(step.seconds for step in found.steps),
            tokens=sum(step.tokens for step in found.steps),
            tokens_ratio=max(step.tokens / (step.new_tokens * step.epochs) for step in whole),
            worst_rise=max(rises, default=0.0),
            joint_tokens=found.joint_tokens,
        )


@dataclass(frozen=True)
class Targets:
    """What the default recipe is to reach on a stream; None where nothing is asked."""

    aa: float | None = None
    bwt: float | None = None
    general: float | None = None
    to_joint: float | None = None
    """Of its average score minus that of joint training."""
    worst_rise: float | None = None
    cost: float | None = None
    """Of its tokens over those of retraining jointly at each drop."""


_TARGETS = {
    "unlike4": Targets(aa=0.78, bwt=-0.01, general=0.15, to_joint=-0.01),
    "standard-1": Targets(to_joint=-0.01),
    "standard-2": Targets(to_joint=-0.01),
    "standard-3": Targets(to_joint=-0.01),
    "banking77": Targets(to_joint=-0.02, cost=0.4),
    "geo-sql": Targets(worst_rise=0.02),
}


def run(arguments: argparse.Namespace, screen: Console) -> dict[str, list[Figures]]:
    """Run what is not finished yet; figures by method, one for each seed."""
    base = ensure_base(arguments.bases, arguments.base)
    probe = arguments.data / _PROBE
    probe_text = probe.read_text("utf-8") if probe.is_file() else None
    found: dict[str, list[Figures]] = {}
    for name in arguments.methods:
        method = METHODS[name]

        def cell(rate: float, seed: int, method: Method = method) -> CellFound:
            stream = load_stream(arguments.stream, arguments.data, seed, arguments.full)
            hp = replace(Hyperparameters(), **{**method.settings, **arguments.settings})
            hp = replace(hp, learning_rate=rate, seed=seed)
            folder = arguments.work / stream.name / method.name / f"rate-{rate:g}-seed-{seed}"
            if _finished(folder, stream):
                return CellFound.read(folder / "found.json")
            screen.print(f"{stream.name}, {method.name}, rate {rate:g}, seed {seed}")
            general = arguments.work / "general.safetensors"
            work = Cell(folder, stream, method, hp, base, general, probe_text)
            return work.run(lambda text: screen.print(f"  {text}"))

        first = {rate: cell(rate, 0) for rate in arguments.rates}
        rate = max(first, key=lambda rate: first[rate].selection or float("-inf"))
        cells = [first[rate], *(cell(rate, seed) for seed in range(1, arguments.seeds))]
        found[name] = [Figures.of(one, rate, seed) for seed, one in enumerate(cells)]
        show(found, screen)
    return found


def _finished(folder: Path, stream: Stream) -> bool:
    found = CellFound.read(folder / "found.json")
    return found.selection is not None and len(found.steps) == len(stream.steps)


def show(found: dict[str, list[Figures]], screen: Console) -> None:
    """The table so far."""
    table = Table(header_style="bold")
    headings = ("method", "rate", "AA", "BWT", "FWT", "last drop", "general text", "seconds", "tokens", "÷ new rows'")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if not place else "right")
    for name, cells in found.items():
        table.add_row(
            name,
            f"{cells[0].rate:g}",
            _spread([cell.aa for cell in cells]),
            _spread([cell.bwt for cell in cells], signed=True),
            _spread([cell.fwt for cell in cells if cell.fwt is not None], signed=True),
            _spread([cell.last for cell in cells]),
            _spread([cell.general for cell in cells], signed=True),
            f"{statistics.mean(cell.seconds for cell in cells):.0f}",
            f"{statistics.mean(cell.tokens for cell in cells):,.0f}",
            f"{max(cell.tokens_ratio for cell in cells):.2f}",
        )
    screen.print(table)


def _spread(values: Sequence[float], *, signed: bool = False) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return ""
    shown = f"{statistics.mean(known):{'+' if signed else ''}.3f}"
    return shown if len(known) == 1 else f"{shown} ± {statistics.stdev(known):.3f}"


def report_of(stream: str, found: dict[str, list[Figures]]) -> Report:
    """The figures under short keys, ours against the targets where joint training ran beside it."""
    report = Report(f"learning on {stream}")
    key = stream.replace("-", "_")
    targets = _TARGETS.get(stream, Targets())
    for name, cells in found.items():
        slug = f"{key}_{name.replace('+', '_')}"
        # Other methods are beside ours for comparison: nothing is asked of them.
        aim = targets if name == "ours" else Targets()
        report.add(f"{slug}_aa", f"{name}: average score after the last drop", _mean(cells, "aa"), at_least=aim.aa)
        if name not in ("joint", "apart"):
            report.add(f"{slug}_bwt", f"{name}: backward transfer", _mean(cells, "bwt"), at_least=aim.bwt)
        what = f"{name}: rise of the loss on general text, nats a token"
        report.add(f"{slug}_general", what, _mean(cells, "general"), at_most=aim.general)
        if name == "ours":
            most = max(cell.tokens_ratio for cell in cells)
            what = "ours: tokens trained over those of training on the new rows alone, a drop"
            report.add(f"{slug}_tokens_ratio", what, most, at_most=2.0)
            rise = max(cell.worst_rise for cell in cells)
            what = "ours: largest relative rise of an earlier drop's loss"
            report.add(f"{slug}_worst_rise", what, rise, at_most=aim.worst_rise)
    if "ours" in found and "joint" in found:
        ours, joint = found["ours"], found["joint"]
        change = _mean(ours, "aa") - _mean(joint, "aa")
        what = "ours minus joint, average score"
        report.add(f"{key}_ours_minus_joint", what, change, at_least=targets.to_joint)
        cost = _mean(ours, "tokens") / _mean(joint, "joint_tokens")
        what = "ours over joint training at each drop, tokens trained"
        report.add(f"{key}_cost_ratio", what, cost, at_most=targets.cost)
    return report


def _mean(cells: Sequence[Figures], name: str) -> float:
    return statistics.mean(float(getattr(cell, name)) for cell in cells)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def main() -> int:
    """Entry point; returns 0 if every target is met."""
    arguments = _arguments()
    screen = console()
    found = run(arguments, screen)
    stream = load_stream(arguments.stream, arguments.data, 0, arguments.full).name
    report = report_of(stream, found)
    if arguments.plot:
        from benchmarks.matrix_plot import draw  # noqa: PLC0415 - matplotlib is wanted here alone

        draw(arguments.work / stream, found, arguments.plot)
    return report.end(screen, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = benchmark_parser("learning", __doc__)
    parser.add_argument("--stream", required=True, help="unlike4, standard-1/2/3, banking77, geo-sql, or FILE.json")
    parser.add_argument(
        "--methods", type=names_of(METHODS), default=list(METHODS), help=f"of {','.join(METHODS)}; default: all"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1; default: 1")
    parser.add_argument(
        "--rates", type=_rates, default=list(RATES), metavar="A,B", help="learning rates to choose from"
    )
    parser.add_argument(
        "--set",
        dest="settings",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a hyper-parameter of the recipe, for all methods",
    )
    parser.add_argument("--full", action="store_true", help="all rows of the files")
    parser.add_argument("--work", type=Path, metavar="DIR", default=WORK, help="what is finished")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the accuracy matrices there")
    arguments = parser.parse_args()
    arguments.settings = dict(arguments.settings)
    return arguments


def _rates(text: str) -> list[float]:
    return [float(rate) for rate in text.split(",")]


def _setting(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    kinds = {field: type(default) for field, default in vars(Hyperparameters()).items()}
    if name not in kinds:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(kinds)}")
    return name, value == "true" if kinds[name] is bool else kinds[name](value)


if __name__ == "__main__":
    sys.exit(main())

"""The accuracy matrix of each method as a picture: a row for each version, a column for each drop."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.found import CellFound

_CELL_INCHES = 0.62
_BESIDE_INCHES = 1.6


def draw(work: Path, cells: Mapping[str, Sequence[Any]], path: Path) -> None:
    """Draw seed 0 of every method in `cells` below `work`; the ending of `path` says the format."""
    found = {
        name: CellFound.read(work / name / f"rate-{some[0].rate:g}-seed-{some[0].seed}" / "found.json")
        for name, some in cells.items()
    }
    drops = max(len(cell.steps) for cell in found.values())
    side = drops * _CELL_INCHES + _BESIDE_INCHES
    # A Figure of its own and not pyplot's: no window system is asked for.
    figure = Figure(figsize=(side * len(found), side), layout="constrained")
    values = [score for cell in found.values() for step in cell.steps for score in step.scores if score is not None]
    for axes, (name, cell) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        matrix = [[float("nan") if score is None else score for score in step.scores] for step in cell.steps]
        axes.imshow(matrix, cmap="viridis", vmin=min(values), vmax=max(values))
        for t, row in enumerate(matrix):
            for j, score in enumerate(row):
                if score == score:  # noqa: PLR0124 - not a number where nothing was measured
                    axes.text(j, t, f"{score:.2f}", ha="center", va="center", color="white", fontsize="small")
        axes.set_title(name)
        axes.set_xlabel("tested on drop")
        axes.set_ylabel("after drop")
        ticks = range(drops)
        axes.set_xticks(ticks, [str(tick + 1) for tick in ticks])
        axes.set_yticks(ticks, [str(tick + 1) for tick in ticks])
    figure.savefig(path, dpi=150)

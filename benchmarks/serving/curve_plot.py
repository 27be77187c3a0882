"""Tokens a second by number of streams, as a picture."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure


def draw(curve: Mapping[int, float], path: Path) -> None:
    """Draw `curve` (tokens a second by streams); the ending of `path` says the format."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(list(curve), list(curve.values()), marker="o")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(curve), [str(count) for count in curve])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("streams")
    axes.set_ylabel("tokens a second, all together")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)

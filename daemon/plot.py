"""A task's report as a picture, with matplotlib (the extra `plot`)."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from . import render_report
from .errors import ConfigError, NotAllowed
from .render_report import Measure, Report

_INCHES: Final = (7.0, 3.2)  # width, and height of each measure's part
_LABELS: Final = {
    "accuracy": "accuracy (share of rows)",
    "exact_match": "exact match (share of rows)",
    "loss": "loss (nats per token)",
}


def draw(report: Report, path: Path) -> None:
    """Draw each measure over the versions, a line for each drop, the base dashed; the ending of `path` says the format.

    Raises `ConfigError` if matplotlib is not installed, `NotAllowed` if there is nothing to draw or nowhere to.
    """
    figure = figure_of(report)
    if not path.parent.is_dir():
        raise NotAllowed(f"{path.parent} is no folder", hint="name a file in a folder that exists")
    try:
        figure.savefig(path, dpi=150)
    except (ValueError, OSError) as error:  # ValueError: an ending that matplotlib does not know
        raise NotAllowed(f"cannot draw into {path}: {error}", hint="end its name in .png, .svg or .pdf") from error


def figure_of(report: Report) -> Any:
    """The matplotlib `Figure`. Raises as `draw` does."""
    try:
        module = importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "--plot draws with matplotlib, which is not installed", hint="pip install 'adapterd[plot]'"
        ) from error
    measures = render_report.measures_in(report)
    if not measures:
        raise NotAllowed(
            f"no version of {report.get('task')} has figures to draw yet", hint="drop data and wait for its verdict"
        )
    width, height = _INCHES
    # A Figure of its own and not pyplot's: no window system is asked for, and nothing stays open.
    figure = module.Figure(figsize=(width, height * len(measures)), layout="constrained")
    for axes, measure in zip(figure.subplots(len(measures), 1, squeeze=False)[:, 0], measures, strict=True):
        _draw_measure(axes, report, measure)
    figure.axes[-1].set_xlabel(f"version of {report.get('task')}")
    return figure


def _draw_measure(axes: Any, report: Report, measure: Measure) -> None:
    numbers: Sequence[int] = [row["version"] for row in report["versions"]]
    for place, drop in enumerate(render_report.drops_of(report)):
        found = [
            render_report.value(row.get("evaluations") or {}, drop, "candidate", measure) for row in report["versions"]
        ]
        points = [(number, value) for number, value in zip(numbers, found, strict=True) if value is not None]
        if not points:
            continue
        color, name = f"C{place % 10}", render_report.name_of(drop, report.get("golden", 0))
        axes.plot(*zip(*points, strict=True), marker="o", color=color, label=name)
        base = render_report.base_value(report, drop, measure)
        if base is not None:
            axes.axhline(base, color=color, linestyle="--", linewidth=0.8)
    champion = (report.get("aliases") or {}).get("champion")
    if champion is not None:
        axes.axvline(champion, color="0.85", linewidth=6, zorder=0)
    axes.set_xticks(numbers)
    axes.set_ylabel(_LABELS[measure])
    axes.legend(title="base dashed, champion grey", fontsize="small", title_fontsize="small")

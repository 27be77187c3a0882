"""What the comparison of two versions looks like on a screen: rows that changed, layers that moved.

The comparison is the document of `Compare` (see `comparison.py`).
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from .render import figure, one_line, table, titled

Comparison = Mapping[str, Any]

# Rows on a screen; `--json` has all.
_ROWS: Final = 20
_ANSWER: Final = {True: "right", False: "wrong", None: ""}


def parts(comparison: Comparison) -> list[RenderableType]:
    """The parts of a screen, those with nothing to say left out."""
    shown: list[RenderableType] = []
    rows = comparison.get("rows") or []
    if comparison.get("compared_rows"):
        better, worse = comparison["better"], comparison["worse"]
        title = (
            f"held-out rows whose answers changed: {better} better, {worse} worse, of {comparison['compared_rows']}"
            + (f"; the first {_ROWS}, worse ones first" if len(rows) > _ROWS else "")
        )
        shown.append(titled(title, _rows(rows) if rows else Text("none")))
    if comparison.get("layers"):
        shown.append(titled("how far the adapter's weights moved, by layer", _layers(comparison["layers"])))
    return shown


def _rows(rows: list[Mapping[str, Any]]) -> Table:
    ordered = sorted(rows, key=lambda row: row["better"])[:_ROWS]
    return table(
        ("DROP", "CHANGE", "BEFORE", "AFTER", "LOSS", "", "ROW", "RIGHT ANSWER"),
        (
            (
                str(row["drop"]),
                Text("better", "green") if row["better"] else Text("worse", "red"),
                _ANSWER[row["right_before"]],
                _ANSWER[row["right_after"]],
                figure(row["loss_before"]),
                figure(row["loss_after"]),
                one_line(row["prompt"]),
                one_line(row["answer"]),
            )
            for row in ordered
        ),
        right=("DROP", "LOSS"),
    )


def _layers(layers: list[Mapping[str, Any]]) -> Table:
    """By layer of the stack: the norm of what the older adapter adds, and of the change, each over all its matrices."""
    norms: dict[str, float] = defaultdict(float)
    changes: dict[str, float] = defaultdict(float)
    for row in layers:
        name = _layer(row["layer"])
        norms[name] += row["norm"] ** 2
        changes[name] += row["change"] ** 2
    most = max(changes.values()) ** 0.5 or 1.0
    return table(
        ("LAYER", "NORM", "MOVED", ""),
        (
            (
                name,
                figure(norms[name] ** 0.5),
                figure(changes[name] ** 0.5),
                "▇" * round(30 * changes[name] ** 0.5 / most),
            )
            for name in norms
        ),
        right=("NORM", "MOVED"),
    )


def _layer(path: str) -> str:
    """The number of the layer that a matrix belongs to, or its path where there is none."""
    found = re.search(r"\.(\d+)\.", path)
    return found[1] if found else path

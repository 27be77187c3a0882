"""What a benchmark found: a table for a person, a JSON document for a script, and the machine it was found on."""

import importlib.metadata
import json
import math
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

_LIBRARIES = ("adapterd", "torch", "transformers", "peft", "bitsandbytes", "grpcio")
_WIDTH = 116  # columns


@dataclass(frozen=True)
class Figure:
    """One measured number. `target` is a bound that it must keep, from below or, with `at_most`, from above."""

    key: str
    what: str
    value: float
    target: float | None = None
    at_most: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the target is met; None without one. A figure that is no number meets nothing."""
        if self.target is None:
            return None
        if not math.isfinite(self.value):
            return False
        return self.value <= self.target if self.at_most else self.value >= self.target


@dataclass
class Report:
    """The figures of one run of a benchmark, in the order in which they were measured."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    def add(
        self, key: str, what: str, value: float, *, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        """Note a figure. `key` is short, stable and unique; `what` says it for a person, with its unit."""
        if any(figure.key == key for figure in self.figures):
            raise ValueError(f"the figure {key} was noted before")
        target = at_least if at_most is None else at_most
        self.figures.append(Figure(key, what, value, target, at_most is not None))

    @property
    def holds(self) -> bool:
        """Whether every figure that has a target meets it."""
        return all(figure.holds is not False for figure in self.figures)

    def show(self, screen: Console) -> None:
        """Print the table."""
        table = Table(title=self.name, title_justify="left", title_style="bold", header_style="bold")
        table.add_column("figure", overflow="fold")
        table.add_column("key", overflow="fold")
        for heading in ("value", "target", "holds"):
            table.add_column(heading, justify="right")
        for figure in self.figures:
            bound = "" if figure.target is None else f"{'≤' if figure.at_most else '≥'} {_shown(figure.target)}"
            holds = {None: Text(""), True: Text("yes", "green"), False: Text("NO", "bold red")}[figure.holds]
            table.add_row(figure.what, figure.key, _shown(figure.value), bound, holds)
        screen.print(table)

    def end(self, screen: Console, json_file: Path | None) -> int:
        """Show the table, write the document if a file is named, and return the exit status: 0 if all targets hold."""
        self.show(screen)
        if json_file:
            self.write(json_file)
        return 0 if self.holds else 1

    def write(self, path: Path) -> None:
        """Write the JSON document."""
        document = {
            "figures": {
                figure.key: {
                    "value": figure.value if math.isfinite(figure.value) else None,
                    "target": figure.target,
                    "holds": figure.holds,
                }
                for figure in self.figures
            },
            "environment": environment() | {"benchmark": self.name, "seconds": round(time.time() - self.began, 1)},
        }
        path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def console() -> Console:
    """A console on standard output, wide enough for the table where that is no terminal."""
    screen = Console(markup=False, highlight=False, emoji=False)
    return screen if screen.is_terminal else Console(markup=False, highlight=False, emoji=False, width=_WIDTH)


def environment() -> dict[str, Any]:
    """The machine and the libraries: what a figure depends on beside the code."""
    cuda = torch.cuda.is_available()
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    """The processor's name as Linux tells it, else what Python knows."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _shown(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"

"""What a training process says of its progress, a line of JSON each, for the daemon to read."""

import json
import time
from pathlib import Path
from typing import Final, Literal

Phase = Literal["loading", "drift", "training", "evaluating", "fisher"]

# How much of a job each phase takes, roughly: for one bar from 0 to 1.
_PHASES: Final[dict[Phase, tuple[float, float]]] = {
    "loading": (0.0, 0.05),
    "drift": (0.05, 0.07),
    "training": (0.07, 0.75),
    "evaluating": (0.75, 0.95),
    "fisher": (0.95, 1.0),
}


class Progress:
    """Appends lines to `progress.jsonl` in a job's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress.jsonl"

    def __call__(self, phase: Phase, done: float, total: float, **details: object) -> None:
        """Say that `done` of `total` of a phase is done."""
        low, high = _PHASES[phase]
        share = low + (high - low) * (done / total if total else 1.0)
        line = {"time": time.time(), "phase": phase, "progress": round(share, 4), **details}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

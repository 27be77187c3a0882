"""Drift as the daemon sees it: what the champion loses on each new drop, and whether anybody has done something."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..continual.drift import Shift, performance_shift
from ..continual.evaluate import Figures
from .ledger import Ledger
from .trainer_spec import Spec


def shift_of(spec: Spec, evaluation: dict[str, dict[str, object]]) -> Shift | None:
    """The champion's loss on the new drop, before it learns from it, against its loss on the drops behind it.

    None for a first version, and where there are too few rows to say anything.
    """
    if not spec.parent:
        return None
    before = [loss for drop in spec.history for loss in Figures.from_json(evaluation[f"champion/{drop}"]).losses]
    return performance_shift(before, Figures.from_json(evaluation[f"champion/{spec.drop}"]).losses)


def read_drift(job: Path) -> dict[str, Any]:
    """What a training process found of the drop's rows: see `trainer_drift`."""
    found: dict[str, Any] = json.loads((job / "result" / "drift.json").read_text("utf-8"))
    return found


def tell_of_rows(ledger: Ledger, spec: Spec, found: Mapping[str, Any]) -> None:
    """Events where the rows have moved, or the champion's answers have become worse."""
    if found.get("drifted"):
        lines = ", ".join(map(str, found["farthest_lines"]))
        ledger.events.emit(
            "drift.input",
            f"{spec.task}: the rows of drop {spec.drop} differ from those learned before, most of all lines {lines}: "
            f"{found['reason']}",
            task=spec.task,
            drop=spec.drop,
            version=spec.version,
            details=found,
        )
    asked = found.get("prequential", {})
    if rise := asked.get("rise"):
        ledger.events.emit(
            "drift.concept",
            f"{spec.task}: {spec.task}@{spec.parent_version} errs more than champions did before: from "
            f"{rise['before']:.0%} to {rise['after']:.0%} by line {rise['line']} of drop {spec.drop}",
            task=spec.task,
            drop=spec.drop,
            version=spec.parent_version,
            details=asked,
        )


class DriftWatch:
    """Says, once for each version, that the data moved and the champion did not follow."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._told: set[tuple[str, int]] = set()

    def step(self, _now: float) -> list[str]:
        """Look at the newest judged version of each task; returns the tasks whose drift is unanswered."""
        unanswered = []
        for task in self._ledger.tasks.names():
            judged = [row for row in self._ledger.versions.find(task) if row.verdict]
            newest = max(judged, key=lambda row: row.version, default=None)
            if newest is None or not newest.metrics.get("drifted") or newest.verdict == "promote":
                continue
            unanswered.append(task)
            if (task, newest.version) not in self._told:
                self._told.add((task, newest.version))
                self._ledger.events.emit(
                    "drift.unanswered",
                    f"{task}: the data of drop {newest.drop} has moved away from what the champion knows, and "
                    f"{task}@{newest.version}, trained on it, was rejected: {newest.reason}",
                    task=task,
                    drop=newest.drop,
                    version=newest.version,
                )
        return unanswered

"""What a training process is asked to do: the one thing that daemon and process share, as plain JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..continual.plan import needs_no_training


@dataclass(frozen=True)
class Spec:
    """Paths are strings, so that the whole is JSON as it stands."""

    task: str
    drop: int
    version: int
    base: str  # folder of the base
    quantization: str
    fingerprint: str
    device: str
    threads: int  # 0: all cores
    data: str  # folders of `Dataset`
    quarantine: str
    general: str  # file of what was drawn from the base; made if it is not there
    parent: str  # folder of the champion; empty for a first version
    parent_version: int  # 0 for a first version
    history: list[int]  # earlier drops that were learned from, oldest first
    golden: int  # the drop that is the task's golden set; 0 if there is none
    known: dict[str, dict[str, Any]]  # "champion/3" or "base/3" -> figures that need not be measured again
    training: dict[str, Any]  # as [training] in the settings
    answered: float  # as in [drift]; 0 where a person wants it trained
    hold_contradictions: bool  # as in [drift]; not where a person wants it trained
    new_labels: bool  # whether the drop has some
    gate: dict[str, Any]  # as [gate], so that a verdict is made by the settings that the job began with

    def held(self, drift: Mapping[str, Any]) -> str:
        """Why a person is to look at the drop before it is trained, by what was found of its rows; empty if none is."""
        found = drift.get("contradiction") if self.hold_contradictions else None
        return str(found["said"]) if found else ""

    def spared(self, drift: Mapping[str, Any]) -> str:
        """Why the champion needs no training on the drop, by what was found of its rows; empty if it does."""
        asked = drift["prequential"]
        return needs_no_training(
            asked.get("right"),
            asked.get("rows", 0),
            drifted=drift.get("drifted"),
            new_labels=self.new_labels,
            answered=self.answered,
        )

    @classmethod
    def read(cls, folder: Path) -> "Spec":
        """The spec of a job folder."""
        return cls(**json.loads((folder / "spec.json").read_text("utf-8")))

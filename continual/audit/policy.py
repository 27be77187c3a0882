"""Which findings hold a drop for a person: a pure function of the audit's counts and the task's policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from .findings import Concern


class Handling(StrEnum):
    """What is done about personal data or secrets."""

    REDACT = "redact"
    HOLD = "hold"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class Policy:
    """As `[audit]` in the settings, where each is explained. Shares are of the drop's rows."""

    personal: Handling = Handling.HOLD
    secrets: Handling = Handling.HOLD
    triggers: Handling = Handling.HOLD
    max_contradictions: float = 0.05
    max_noise: float = 0.25
    max_damaged: float = 0.05


_DAMAGE: Final = (Concern.EMPTY, Concern.REPETITION, Concern.ENCODING)


def objections(summary: Mapping[str, Any], policy: Policy) -> list[str]:
    """Why a careful person would want to see the drop, a phrase each; empty if it can be trained on.

    `summary`: what `Report.summary` gives.
    """
    counts: Mapping[str, int] = summary["counts"]
    rows = max(1, int(summary["rows"]))
    found = []
    if policy.secrets is Handling.HOLD and (count := counts.get(Concern.SECRET, 0)):
        found.append(f"{_rows(count)} secrets (audit.secrets)")
    if policy.personal is Handling.HOLD and (count := counts.get(Concern.PERSONAL, 0)):
        found.append(f"{_rows(count)} personal data (audit.personal)")
    if policy.triggers is Handling.HOLD:
        if count := counts.get(Concern.TRIGGER, 0):
            found.append(f"{_rows(count)} what seems a trigger (audit.triggers)")
        if count := counts.get(Concern.INJECTION, 0):
            found.append(f"{_rows(count)} instructions to the model (audit.triggers)")
    if (share := counts.get(Concern.CONTRADICTION, 0) / rows) > policy.max_contradictions:
        found.append(f"{share:.0%} of the rows contradict others (audit.max_contradictions)")
    if (share := counts.get(Concern.LABEL_NOISE, 0) / rows) > policy.max_noise:
        found.append(f"{share:.0%} of the labels are implausible (audit.max_noise)")
    if (share := sum(counts.get(concern, 0) for concern in _DAMAGE) / rows) > policy.max_damaged:
        found.append(f"{share:.0%} of the rows are damaged, empty or say one thing over and over (audit.max_damaged)")
    return found


def _rows(count: int) -> str:
    return "1 row holds" if count == 1 else f"{count:,} rows hold"

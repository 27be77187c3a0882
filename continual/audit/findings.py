"""What an audit says of a drop: a list of findings, each about one row or about the drop as a whole."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

# Findings of each concern that a summary quotes; all of them stand in the drop's `findings.jsonl`.
_QUOTED: Final = 5


class Concern(StrEnum):
    """What a finding is about."""

    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near-duplicate"
    CONTRADICTION = "contradiction"
    LABEL_NOISE = "label-noise"
    LEAK = "leak"
    PERSONAL = "personal"
    SECRET = "secret"  # noqa: S105 - a concern's name
    EMPTY = "empty"
    REPETITION = "repetition"
    ENCODING = "encoding"
    TRUNCATED = "truncated"
    LANGUAGE = "language"
    BALANCE = "balance"
    NEW_LABEL = "new-label"
    VANISHED_LABEL = "vanished-label"
    INJECTION = "injection"
    TRIGGER = "trigger"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    `line`: of the dropped file; 0 if it concerns the drop as a whole. `other`: the line of another row that it is
    about, in this drop, or in the earlier one called `drop`. `said`: a sentence without its subject, the row.
    """

    concern: Concern
    line: int
    said: str
    other: int = 0
    drop: int = 0

    def to_json(self) -> dict[str, object]:
        """As it is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The finding that `to_json` wrote."""
        return cls(**{**value, "concern": Concern(value["concern"])})


@dataclass(frozen=True, slots=True)
class Report:
    """All that an audit found. `rows`: audited ones; `effective`: how many of them are not another one rephrased."""

    rows: int
    effective: int
    findings: Sequence[Finding] = field(default_factory=tuple)

    @property
    def counts(self) -> dict[Concern, int]:
        """Rows by concern; a row with two findings of a concern counts once."""
        return dict(Counter(concern for concern, _ in {(found.concern, _place(found)) for found in self.findings}))

    def summary(self) -> dict[str, Any]:
        """The counts, and the first few findings of each concern: what the ledger keeps."""
        quoted: dict[str, list[dict[str, object]]] = {}
        for finding in self.findings:
            of_concern = quoted.setdefault(finding.concern.value, [])
            if len(of_concern) < _QUOTED:
                of_concern.append(finding.to_json())
        return {
            "rows": self.rows,
            "effective_rows": self.effective,
            "counts": {concern.value: count for concern, count in sorted(self.counts.items())},
            "findings": quoted,
        }


def _place(finding: Finding) -> int | str:
    return finding.line or finding.said

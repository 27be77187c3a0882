"""How two versions of a task differ in what they do: held-out rows whose answers changed, and weights that moved."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..adapters.distance import moves
from ..adapters.states import VersionState
from ..adapters.store import Store
from ..continual.examples import Example
from ..continual.probe import PROBE
from .dataset import Dataset
from .errors import NotAllowed
from .ledger import Ledger, VersionRow

_SCHEMA: Final = 1

# A row without a label counts as changed where its loss moved by more than this, in nats a token.
_CHANGED_LOSS: Final = 0.1
# Characters of a row's text that are shown.
_EXCERPT: Final = 300


@dataclass(frozen=True)
class ChangedRow:
    """A held-out row that two versions answer differently: `right_*` for one with a label, losses in nats a token."""

    drop: int
    id: str
    prompt: str
    answer: str
    right_before: bool | None
    right_after: bool | None
    loss_before: float
    loss_after: float

    @property
    def better(self) -> bool:
        """Whether the right one is the newer's only, or for a row without a label the newer's loss is lower."""
        if self.right_before is not None and self.right_after is not None:
            return self.right_after
        return self.loss_after < self.loss_before


Figures = Mapping[str, Any]
"""As `evaluations` keeps them: `ids`, `losses`, `correct` of one version on one drop."""


def compare(ledger: Ledger, store: Store, dataset: Dataset, left: VersionRow, right: VersionRow) -> dict[str, Any]:
    """The comparison as a JSON document: `rows` that changed, counts over all, `layers` that moved.

    Of a deleted version's weights nothing is said. Raises `NotAllowed` for versions of different tasks: they were
    judged on different rows.
    """
    if left.task != right.task:
        raise NotAllowed(
            f"{left.task}@{left.version} and {right.task}@{right.version} are of different tasks",
            hint="compare versions of one task",
        )
    before, after = (
        {
            row.drop: row.figures
            for row in ledger.evaluations.find(left.task, side.version)
            if row.subject == "candidate" and row.drop != PROBE
        }
        for side in (left, right)
    )
    shared = sorted(before.keys() & after.keys())
    texts = {row.id: row for drop in shared for row in dataset.read(left.task, drop, "heldout")}
    changed = [row for drop in shared for row in changed_rows(drop, before[drop], after[drop], texts)]
    there = all(side.state is not VersionState.DELETED for side in (left, right))
    weights = [store.load(side.task, side.version, digest=side.digest, shapes=None) for side in (left, right) if there]
    return {
        "schema": _SCHEMA,
        "left": f"{left.task}@{left.version}",
        "right": f"{right.task}@{right.version}",
        "compared_rows": sum(len(set(before[drop]["ids"]) & set(after[drop]["ids"])) for drop in shared),
        "better": sum(row.better for row in changed),
        "worse": sum(not row.better for row in changed),
        "rows": [{**asdict(row), "better": row.better} for row in changed],
        "layers": [asdict(moved) for moved in moves(*weights)] if there else [],
    }


def changed_rows(drop: int, before: Figures, after: Figures, texts: Mapping[str, Example]) -> Iterator[ChangedRow]:
    """The rows that both versions were judged on and answer differently, in the order of the older's."""
    newer = {row: place for place, row in enumerate(after["ids"])}
    for place, row in enumerate(before["ids"]):
        if row not in newer:
            continue
        right = before["correct"][place], after["correct"][newer[row]]
        losses = before["losses"][place], after["losses"][newer[row]]
        if right[0] == right[1] and (right[0] is not None or abs(losses[1] - losses[0]) <= _CHANGED_LOSS):
            continue
        example = texts.get(row)
        yield ChangedRow(drop, row, _asked(example), example.completion[:_EXCERPT] if example else "", *right, *losses)


def _asked(example: Example | None) -> str:
    """What a row asks, as far as it is shown."""
    if example is None:
        return ""
    turns: Sequence[tuple[str, str]] = example.messages[:-1]
    return (example.request or "\n".join(f"{role}: {content}" for role, content in turns))[:_EXCERPT]

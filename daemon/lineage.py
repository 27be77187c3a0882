"""What the champion of a task has learned so far, and what was measured of it: where the next training starts."""

from dataclasses import dataclass
from typing import Any

from ..adapters.store import Store
from ..continual.plan import Action
from ..continual.probe import PROBE
from .ledger import DropRow, Ledger, VersionRow
from .states import DropState


@dataclass(frozen=True)
class Lineage:
    """The champion (None for a task without one), the drops behind it, oldest first, and the labels it knows.

    `golden`: the drop that is the task's golden set, the newest that was taken as one; 0 if there is none.
    `max_length`: tokens that rows were cut to when the champion was trained and judged; 0 if it does not say.
    """

    champion: VersionRow | None
    drops: tuple[int, ...]
    labels: tuple[str, ...]
    golden: int
    max_length: int = 0


def lineage(ledger: Ledger, store: Store, task: str) -> Lineage:
    """The lineage of a task's champion, from its manifest: drops of rejected or reverted versions are not in it.

    Drops that needed no training are, if it was the champion, or one before it, that needed none.
    """
    number, golden = ledger.aliases.of(task).get("champion"), golden_drop(ledger, task)
    if number is None:
        return Lineage(None, (), (), golden)
    champion = ledger.versions.get(task, number)
    manifest = store.manifest(task, number)
    data = manifest.get("data")
    behind = (*data["earlier_drops"], data["drop"]) if data else ()
    descent = ancestors(ledger, task, number)
    kept = (drop for drop, by in rehearsed(ledger, task).items() if by in descent)
    behind = tuple(sorted({*behind, *kept}))
    # What nothing is left of to judge by, since it was forgotten, cannot be held against later versions.
    drops = tuple(drop for drop in behind if ledger.drops.get(drop).heldout_rows)
    max_length = int(manifest.get("recipe", {}).get("hyperparameters", {}).get("max_length", 0))
    return Lineage(champion, drops, tuple(store.template(task, number)["labels"]), golden, max_length)


def is_parted_for(drop: DropRow, came_from: Lineage) -> bool:
    """Whether a drop was audited, and its rows parted, as one that is learned on top of this lineage.

    A drop's own rows do not come before it, so what the audit makes of them does not change the answer.
    """
    before = [number for number in came_from.drops if number != drop.id]
    wanted = {"drops": before, "golden": came_from.golden, "labels": list(came_from.labels)}
    return bool(drop.details.get("parted_for") == wanted)


def ancestors(ledger: Ledger, task: str, version: int) -> list[int]:
    """A version and all those that it descends from, itself first; none of the base (0)."""
    parents = {row.version: row.parent for row in ledger.versions.find(task)}
    found: list[int] = []
    while version:
        found.append(version)
        version = parents.get(version, 0)  # its row may be lost: `repair` adopts what has none
    return found


def rehearsed(ledger: Ledger, task: str) -> dict[int, int]:
    """The drops that needed no training, each with the version that needed none."""
    drops = ledger.drops.find(task)
    return {row.id: int(row.details["rehearsed_by"]) for row in drops if "rehearsed_by" in row.details}


def golden_drop(ledger: Ledger, task: str) -> int:
    """The drop that is a task's golden set: the newest that was taken as one; 0 if there is none."""
    taken = [drop.id for drop in ledger.drops.find(task, states=[DropState.DONE]) if drop.plan == Action.GOLDEN]
    return max(taken, default=0)


def known_figures(
    ledger: Ledger, came_from: Lineage, *, new_labels: bool, max_length: int
) -> dict[str, dict[str, Any]]:
    """Figures of champion and base on earlier drops that hold still, by "subject/drop".

    They were measured when the champion was the candidate, or taken over then as they are now, so those of the base are
    of rows cut alike, too. A new label makes every choice harder, so then only the probe's figures hold, which has no
    labels; with another `max_length` longer rows are other rows, and none hold. All else is measured again.
    """
    if came_from.champion is None or came_from.max_length != max_length:
        return {}
    hold = (PROBE,) if new_labels else (PROBE, came_from.golden, *came_from.drops)
    subjects = {"candidate": "champion", "base": "base"}
    task, version = came_from.champion.task, came_from.champion.version
    return {
        f"{subjects[row.subject]}/{row.drop}": row.figures
        for row in ledger.evaluations.find(task, version)
        if row.subject in subjects and row.drop in hold
    }

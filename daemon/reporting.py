"""What is known of a task's versions, as one JSON document: `GetReport`, `adapterd report`."""

from typing import Any

from ..continual.evaluate import MEASURES
from .ledger import Ledger
from .lineage import golden_drop

_SCHEMA = 1
# Moves of aliases, and events of drift, that a report holds: those before are among the events.
_NEWEST = 500
_FIGURES = (*MEASURES, "rows")


def report(ledger: Ledger, task: str) -> dict[str, Any]:
    """Versions with verdicts and figures by drop, drops, and what has drifted and how aliases moved lately.

    `golden` is the drop that is the golden set, 0 if there is none.
    """
    evaluations: dict[int, dict[str, dict[str, Any]]] = {}
    for row in ledger.evaluations.measures(task, _FIGURES):
        figures = {name: row[name] for name in _FIGURES}
        evaluations.setdefault(row["version"], {}).setdefault(str(row["drop"]), {})[row["subject"]] = figures
    aliases = ledger.aliases.of(task)
    return {
        "schema": _SCHEMA,
        "task": task,
        "aliases": aliases,
        "golden": golden_drop(ledger, task),
        "versions": [
            {
                "version": row.version,
                "state": row.state.value,
                "aliases": sorted(alias for alias, number in aliases.items() if number == row.version),
                "digest": row.digest,
                "parent": row.parent,
                "created": row.created,
                "verdict": row.verdict,
                "reason": row.reason,
                "drop": row.drop,
                "metrics": row.metrics,
                "evaluations": evaluations.get(row.version, {}),
            }
            for row in ledger.versions.find(task)
        ],
        "drops": [
            {
                "id": drop.id,
                "filename": drop.filename,
                "state": drop.state.value,
                "reason": drop.reason,
                "rows": drop.rows,
                "bad_rows": drop.bad_rows,
                "train_rows": drop.train_rows,
                "heldout_rows": drop.heldout_rows,
                "version": drop.version,
                "arrived": drop.arrived,
                "updated": drop.updated,
            }
            for drop in ledger.drops.find(task)
        ],
        "drift": [
            {"time": event.time, "kind": event.kind, "drop": event.drop or None, "message": event.message}
            for event in ledger.events.of_kind(task, "drift.", _NEWEST)
        ],
        "history": [
            {
                "alias": move.alias,
                "from": move.from_version,
                "to": move.to_version,
                "time": move.time,
                "actor": move.actor,
                "reason": move.reason,
            }
            for move in ledger.aliases.history(task, _NEWEST)
        ],
    }

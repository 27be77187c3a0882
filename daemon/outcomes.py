"""What becomes of a drop: its new state and the event that tells people, both or neither."""

from typing import Any

from .ledger import DropRow, Ledger
from .states import DropState


def emit(
    ledger: Ledger,
    kind: str,
    message: str,
    drop: DropRow,
    *,
    version: int = 0,
    details: dict[str, Any] | None = None,
) -> None:
    """An event about a drop."""
    ledger.events.emit(kind, message, task=drop.task, drop=drop.id, version=version, details=details)


def hold(ledger: Ledger, drop: DropRow, reason: str) -> None:
    """Let it wait for a person."""
    with ledger.transaction():
        ledger.drops.move(drop.id, DropState.HELD, reason=reason)
        emit(ledger, "drop.held", f"drop {drop.id} ({drop.filename}) is held: {reason}", drop)


def fail(ledger: Ledger, drop: DropRow, reason: str) -> None:
    """Give it up, until a person releases it."""
    with ledger.transaction():
        ledger.drops.move(drop.id, DropState.FAILED, reason=reason)
        emit(ledger, "drop.failed", f"drop {drop.id} ({drop.filename}) failed: {reason}", drop)


def done(ledger: Ledger, drop: DropRow, reason: str, became: str, version: int = 0) -> None:
    """Nothing is left to do; `became` ends the sentence "drop 3 (a.jsonl) …"."""
    with ledger.transaction():
        ledger.drops.move(drop.id, DropState.DONE, reason=reason, version=version)
        emit(ledger, "drop.done", f"drop {drop.id} ({drop.filename}) {became}", drop, version=version)

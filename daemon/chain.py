"""The hash chain that makes the ledger's events an audit log: none can be changed, taken out or put in unseen.

Each event's hash covers its content and the hash of the one before, as in Schneier & Kelsey (1999), "Secure audit logs
to support computer forensics", without their keys: who can write to the ledger can compute a chain of their own. What
they cannot do is to arrive at a hash that somebody noted elsewhere, which is why `adapterd audit-log --verify` prints
the newest one and takes one to look for.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

BEGINNING: Final = "0" * 64
"""Stands before the first event."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as it is hashed. `micros` since 1970, so that no rounding of a time breaks the chain."""

    id: int
    micros: int
    actor: str
    kind: str
    task: str
    drop: int
    version: int
    message: str
    details: Mapping[str, Any]
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Chain:
    """What `verify` found: how many entries are chained up to the newest, with which hash; where it is broken."""

    entries: int
    head: str
    broken_at: int = 0
    """Id of the first entry that does not follow from the one before; 0: none."""
    unchained: int = 0
    """Entries of releases that had no chain, before the first that has."""
    noted: bool = True
    """Whether the hash that was looked for is one of the chain's."""

    @property
    def sound(self) -> bool:
        """Whether all of it is as it was written."""
        return not self.broken_at and self.noted


def link(before: str, entry: Entry) -> str:
    """sha256 of an entry after one whose hash is `before`, in hexadecimal."""
    content = [
        before,
        entry.id,
        entry.micros,
        entry.actor,
        entry.kind,
        entry.task,
        entry.drop,
        entry.version,
        entry.message,
        entry.details,
    ]
    text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def verify(entries: Iterable[Entry], noted: str = "") -> Chain:
    """Follow the chain from its beginning, oldest entry first; `noted` is a hash, or its beginning, to be met."""
    before, count, unchained, met = BEGINNING, 0, 0, not noted
    for entry in entries:
        if not entry.hash and not count:
            unchained += 1
            continue
        if link(before, entry) != entry.hash:
            return Chain(count, before, broken_at=entry.id, unchained=unchained, noted=met)
        before, count = entry.hash, count + 1
        met = met or entry.hash.startswith(noted)
    return Chain(count, before, unchained=unchained, noted=met)

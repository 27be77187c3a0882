"""Which rows are kept from training, to judge by.

A row's side is decided by a hash of the seed and the row, not by a draw: sent again in another file, it falls on the
same side, so that what judged one version is not learned by the next. Bounds and balance bend this as little as they
can: they move the rows whose hashes are nearest to the border. Where all rows say when they were written, the newest
are held out instead: what a version will be asked comes after what it learned.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .examples import Example

# Validation rows decide when training stops; a tenth of what is left for training, within bounds that keep it cheap.
_VALIDATION_SHARE = 0.1
_VALIDATION_MIN, _VALIDATION_MAX = 4, 64


class Parted(NamedTuple):
    """A drop's rows: to learn from, to stop by, to judge by."""

    train: list[Example]
    validation: list[Example]
    heldout: list[Example]


def part(examples: Sequence[Example], share: float, seed: int, min_heldout: int, max_heldout: int) -> Parted:
    """Part a drop's rows. At least `min_heldout` are held out; half of them, if there are fewer than twice as many."""
    least = min(min_heldout, max(1, len(examples) // 2))
    rest, heldout = split(examples, share, seed, least, max_heldout, newest=is_dated(examples))
    fewest = min(_VALIDATION_MIN, max(1, len(rest) // 4))
    train, validation = split(rest, _VALIDATION_SHARE, seed + 1, fewest, _VALIDATION_MAX)
    return Parted(train, validation, heldout)


def is_dated(examples: Sequence[Example]) -> bool:
    """Whether all rows say when they were written, and not all the same."""
    dates = {example.date for example in examples}
    return len(dates) > 1 and None not in dates


def split(
    examples: Sequence[Example], share: float, seed: int, min_heldout: int, max_heldout: int, *, newest: bool = False
) -> tuple[list[Example], list[Example]]:
    """(training rows, held-out rows), each in the order of `examples`; equal rows are on one side.

    A row is held out if its hash is among the lowest `share` of all hashes there can be. Then, of each stratum (label,
    or kind): at least one row is held out if the share of it comes to one, and at least one is trained on. With fewer
    than `min_heldout` in all, rows of the next hashes follow, up to half of the rows; with more than `max_heldout`,
    those of the highest hashes are trained on. Both are spread over the strata in proportion. With `newest`, as many
    are held out, and of each stratum those with the latest dates, which all rows must have.

    Raises `ValueError` unless 0 <= share < 1 and 0 <= min_heldout <= max_heldout.
    """
    if not (0 <= share < 1 and 0 <= min_heldout <= max_heldout):
        raise ValueError(f"share {share} is not in [0, 1), or bounds {min_heldout}..{max_heldout} are out of order")
    strata = _ranked(examples, seed)
    counts = {name: _natural_count([place for place, _ in ranked], share) for name, ranked in strata.items()}
    if sum(counts.values()) < min_heldout:
        spare = {name: len(ranked) - 1 for name, ranked in strata.items()}
        wanted = min(min_heldout, sum(len(ranked) for ranked in strata.values()) // 2, sum(spare.values()))
        raised = _apportioned(wanted, spare)
        counts = {name: max(count, raised[name]) for name, count in counts.items()}
    if sum(counts.values()) > max_heldout:
        counts = _apportioned(max_heldout, counts)
    if newest:
        strata = _by_date(examples, strata)
    heldout = {row for name, ranked in strata.items() for _, row in ranked[: counts[name]]}
    return [row for row in examples if row.id not in heldout], [row for row in examples if row.id in heldout]


def _ranked(examples: Sequence[Example], seed: int) -> dict[str, list[tuple[float, str]]]:
    """For each stratum (place in [0, 1), id) of its different rows, in the order of their places."""
    strata: dict[str, set[tuple[float, str]]] = {}
    for example in examples:
        strata.setdefault(example.stratum, set()).add((_place(seed, example.id), example.id))
    return {name: sorted(strata[name]) for name in sorted(strata)}


def _by_date(
    examples: Sequence[Example], strata: Mapping[str, Sequence[tuple[float, str]]]
) -> dict[str, list[tuple[float, str]]]:
    """The same rows, of each stratum the newest first; those of one date stay in their order."""
    written = {example.id: example.date or 0.0 for example in examples}
    return {name: sorted(ranked, key=lambda row: -written[row[1]]) for name, ranked in strata.items()}


def _place(seed: int, row: str) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}:{row}".encode()).digest()[:8], "big") / 2**64


def _natural_count(places: Sequence[float], share: float) -> int:
    at_least = 1 if len(places) * share >= 1 else 0
    return min(len(places) - 1, max(at_least, sum(place < share for place in places)))


def _apportioned(total: int, most: Mapping[str, int]) -> dict[str, int]:
    """`total` in whole parts proportional to `most`, by the largest remainders; no part is more than its `most`."""
    whole = max(1, sum(most.values()))
    parts = {name: total * weight // whole for name, weight in most.items()}
    by_remainder = sorted(most, key=lambda name: (-(total * most[name] % whole), name))
    for name in by_remainder[: total - sum(parts.values())]:
        parts[name] += 1
    return parts

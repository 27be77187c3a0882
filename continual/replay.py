"""Rows of earlier drops that are learned again beside new ones, so that they are not forgotten.

Every drop counts the same, whatever its size, and within a drop every label: a large drop does not crowd out a small
one, nor a common label a rare one.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from .examples import Example

Row = TypeVar("Row")


def sample_replay(history: Mapping[int, Sequence[Example]], k: int, seed: int) -> list[Example]:
    """`k` different rows of `history` (a drop's number to its training rows), fewer if there are no more: the first in
    `replay_order`.
    """
    return list(islice(replay_order(history, seed), max(0, k)))


def replay_order(history: Mapping[int, Sequence[Example]], seed: int) -> Iterator[Example]:
    """All different rows of `history` in an order of which every beginning is balanced.

    Drops take turns, and within a drop its strata (labels, or kinds); which of a stratum's rows comes next, and who
    begins, is decided by a hash of `seed`, so the order of neither drops nor rows matters. A drop or a stratum that
    has no more rows leaves its turns to the others.
    """
    taken: set[str] = set()
    drops = sorted(history, key=lambda drop: _rank(seed, f"drop {drop}"))
    return _in_turn([_fresh(_rows(history[drop], seed), taken) for drop in drops])


def hardest(rows: Sequence[tuple[float, int]], tokens: int) -> list[int]:
    """The places of those of `rows`, each its loss and its number of tokens, that have the highest losses and up to
    `tokens` tokens together, one at least; in growing order.

    What is known well already is not forgotten first, and teaches little (Aljundi et al. 2019, arXiv:1908.04742, who
    choose by how much a step would raise the loss).
    """
    hardest_first = sorted(range(len(rows)), key=lambda place: -rows[place][0])
    return sorted(fitting(hardest_first, tokens, lambda place: rows[place][1]))


def fitting(rows: Iterable[Row], tokens: int, length: Callable[[Row], int]) -> list[Row]:
    """The first of `rows` that have up to `tokens` tokens together, one at least; no more of them are looked at."""
    chosen: list[Row] = []
    for row in rows:
        tokens -= length(row)
        if chosen and tokens < 0:
            break
        chosen.append(row)
    return chosen


def replay_seed(seed: int, drop: int) -> int:
    """What `sample_replay` is seeded with for the training of a drop: each draws other rows."""
    return seed + drop


def _rows(examples: Sequence[Example], seed: int) -> Iterator[Example]:
    strata: dict[str, list[Example]] = {}
    for example in sorted(examples, key=lambda example: _rank(seed, example.id)):
        strata.setdefault(example.stratum, []).append(example)
    names = sorted(strata, key=lambda name: _rank(seed, name))
    return _in_turn([iter(strata[name]) for name in names])


def _fresh(examples: Iterable[Example], taken: set[str]) -> Iterator[Example]:
    for example in examples:
        if example.id not in taken:
            taken.add(example.id)
            yield example


def _in_turn(sources: Sequence[Iterator[Example]]) -> Iterator[Example]:
    """One of each source in turn, until all are exhausted."""
    waiting = list(sources)
    while waiting:
        going_on = []
        for source in waiting:
            for example in islice(source, 1):
                yield example
                going_on.append(source)
        waiting = going_on


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()

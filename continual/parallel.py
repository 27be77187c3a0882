"""Groups of rows on threads of their own, instead of all threads on every product.

A training step's products are small: on a CPU, threads that share one spend their time waiting for each other, a
thousand times a pass. Where each thread takes rows of its own through all layers they meet once, at the end. Two
threads on two cores, 160 to 640 tokens a step on the default base: 1.7 to 2 times as fast as sharing products with
threads that soon sleep while they wait, as they must beside a busy server, and 1.1 to 1.7 times where they may spin.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

from .batches import TOKENS_AT_ONCE, token_groups
from .template import Encoded

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

# With fewer tokens to a group, what a pass costs besides them outweighs another thread.
_LEAST_TOKENS = 48
# Groups may be so much larger than an equal share: a row is whole.
_SLACK = 1.1


def threads_for(device: torch.device) -> int:
    """How many groups can be worked on at once: as many as torch has threads on a CPU, one on anything else."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def shared_out(rows: Sequence[Encoded], threads: int, most: int = TOKENS_AT_ONCE) -> list[list[int]]:
    """Indices of `rows` in groups of neighbours in length, enough for so many threads, the largest group first.

    The groups that are worked on at once have up to `most` tokens together, so memory does not grow with threads.
    """
    if threads == 1:
        return token_groups(rows, most)
    share = math.ceil(_SLACK * sum(len(row) for row in rows) / threads)
    groups = token_groups(rows, max(_LEAST_TOKENS, min(most // threads, share)))
    return sorted(groups, key=lambda group: -len(group) * len(rows[group[-1]]))


def each(work: Callable[[Item], Outcome], items: Sequence[Item], threads: int) -> list[Outcome]:
    """`work` of each item, in their order, up to `threads` at once.

    `work` must change nothing that another one reads. Grad mode is a thread's own, so `work` sets its own.
    """
    at_once = min(threads, len(items))
    if at_once <= 1:
        return [work(item) for item in items]
    before = torch.get_num_threads()

    def alone(item: Item) -> Outcome:
        torch.set_num_threads(max(1, threads // at_once))  # OpenMP counts for each thread, MKL for the process
        return work(item)

    try:
        return list(_pool(threads).map(alone, items))
    finally:
        torch.set_num_threads(before)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="rows")

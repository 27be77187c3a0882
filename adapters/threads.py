"""Which thread of the process computes with how many cores.

torch's products share their work among the threads of a pool, and every thread that calls them gets a pool of its own.
GNU's OpenMP lets a pool wait for its next product awake only while all pools together have no more threads than there
are cores; with a second pool, even an idle one, each of the thousand products of a decoding step first has to wake a
sleeper. So one thread, the engine's, gets the cores, and all others compute alone, which makes no pool.
"""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

import torch

T = TypeVar("T")

_LOWEST: Final = 19


def claim_cores(count: int) -> None:
    """Let this thread compute with `count` threads, and every thread that has not computed yet with one."""
    # The setting counts for this thread and for those that come; asked first, it is not taken from there again.
    torch.get_num_threads()
    torch.set_num_threads(count)
    others = threading.Thread(target=torch.set_num_threads, args=(1,), name="adapterd-threads")
    others.start()
    others.join()


def in_passing(work: Callable[[], T]) -> T:
    """What `work` returns, done by a thread that ends with it, and its pool too."""
    with ThreadPoolExecutor(1, thread_name_prefix="adapterd-passing") as pool:
        return pool.submit(work).result()


def giving_way(work: Callable[[], T]) -> T:
    """The same, by a thread that computes while no other wants a core."""

    def lowly() -> T:
        # Linux counts a thread's niceness by itself, others that of the process, which could never be raised again.
        if sys.platform == "linux":
            with suppress(PermissionError):  # a sandbox may forbid it, and the work is more than the courtesy
                os.setpriority(os.PRIO_PROCESS, 0, _LOWEST)
        return work()

    return in_passing(lowly)

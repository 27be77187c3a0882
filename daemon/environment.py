"""What torch and what it brings along, the C library and the scheduler are told of a process."""

import ctypes
import logging
import os
import sys
from collections.abc import Mapping
from typing import Final

_log = logging.getLogger(__name__)

KEPT_SHAPES: Final = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "128"}
"""oneDNN, and torch above it, keep what they compiled for a product of one shape, 0.3 MB each, up to 1,024 of them.
Under mixed load nearly every step has a new one, and the process grew for hours; with 128 it is soon as large as it
gets, and no slower."""

SERVING: Final = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000", **KEPT_SHAPES}
"""For the daemon: threads must soon sleep, since serving and training share the cores. One stream beside other work had
0.5 tokens a second spinning, 4.2 sleeping, on two cores. So many turns (GNU's runtime counts them, of some 10 ns) last
from one product of a step to the next."""

TRAINING: Final = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000", **KEPT_SHAPES}
"""For what trains beside a daemon: by default OpenMP's threads spin, and where serving takes a core from a nice process
they spin for a thread that does not run: a step took ten times as long beside one other busy process. A thousand turns
save much of the waking where both cores are free."""


_M_ARENA_MAX: Final = -8  # malloc.h
_ARENAS: Final = 2


def usable_cores() -> int:
    """Cores that this process may run on: with a cpuset, or under `taskset`, fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def give_way(niceness: int, *, idle: bool) -> None:
    """Let the calling thread, and those that it starts from now on, compute after others.

    `idle`: on Linux only while a core has nothing else to do (sched(7), SCHED_IDLE), for niceness alone takes a core
    from nobody: four streams waited 3.3 times as long for the slowest of a hundred answers beside a process of niceness
    10 or 19, and 1.3 times beside one that is idle, which had a sixth of the cores.
    """
    os.nice(niceness)
    if idle and sys.platform == "linux":
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        except PermissionError as refused:
            _log.warning("SCHED_IDLE is refused, so niceness alone holds back: %s", refused)


def share_arenas() -> None:
    """Let the threads of this process share two heaps; before there are threads, or it comes too late.

    glibc gives threads up to eight heaps a core, and what one frees no other can have: under mixed load the free part
    of them grew by 18 % an hour, where two stay as large as they are. Other C libraries have one.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def give_memory_back() -> None:
    """Return to the system what was freed and kept for later, in the middle of heaps too (glibc by itself never does).

    What a daemon holds between two requests is then what it needs, not the most that it ever needed.
    """
    if (malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        malloc_trim(0)


def set_unless_told(values: Mapping[str, str]) -> None:
    """Set what this process's environment does not say already; before torch is loaded, or it comes too late."""
    for name, value in values.items():
        os.environ.setdefault(name, value)

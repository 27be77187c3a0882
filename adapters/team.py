"""Loops of our own that share their turns among the threads that torch computes with.

torch's products wake a team of OpenMP's threads, which stay awake for the next one (`threads.py`). A loop between two
products asks the same team, which costs a microsecond; threads of its own would each have to be woken up, and compete
with those for the cores.
"""

import ctypes
import logging
import struct
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import cfunc
from torch import Tensor

from .compiled import array, compiled
from .low_rank import filled_up

_log = logging.getLogger(__name__)

Turns = Callable[[int, int, int, int], None]
"""Does the turns from one number up to another of a loop that is told the rest at an address, as int64s, with room for
what it has in mind at another."""

#: Products in a loop from which on a team does it, and from which on Python's lock is let go of meanwhile: 20
#: microseconds of one thread, and some 400.
_SHARED, _LONG = 1 << 17, 1 << 22
#: Float32s from which on a thread's room is in nobody else's line of the cache, the next one along.
_LINE = 32


class _OpenMP(NamedTuple):
    """GNU's OpenMP, as other compilers' have it too on Linux: what starts a team, with Python's lock and without it,
    and which thread of how many asks."""

    start_holding: Any
    start: Any
    thread: Any
    threads: Any


@lru_cache
def _openmp() -> _OpenMP | None:
    """The one that torch uses, None where it has no such: among the process's own symbols the first is what torch, too,
    is linked to."""
    try:
        holding, letting_go = ctypes.PyDLL(None), ctypes.CDLL(None)
        found = _OpenMP(
            holding.GOMP_parallel, letting_go.GOMP_parallel, holding.omp_get_thread_num, holding.omp_get_num_threads
        )
    except (AttributeError, OSError, TypeError) as error:
        _log.warning("loops between products are done by one thread: no OpenMP team like GNU's here (%s)", error)
        return None
    for start in found[:2]:
        start.argtypes, start.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    for asked in found[2:]:
        asked.argtypes, asked.restype = (), ctypes.c_int
    return found


class _Room(threading.local):
    """Memory that the loops of a thread use meanwhile: its team must not ask for any, for that takes turns."""

    floats: Tensor = torch.empty(0, dtype=torch.float32)

    def of(self, count: int) -> int:
        """The address of so many float32s."""
        if len(self.floats) < count:
            self.floats = torch.empty(count, dtype=torch.float32)
        return self.floats.data_ptr()


class SharedLoop:
    """A loop compiled for a team: whoever does a turn, it gives the same bits. `told`: how many numbers it is told."""

    _room = _Room()

    def __init__(self, turns: Turns, told: int) -> None:
        self._pack = struct.Struct(f"={3 + told}q").pack
        each = compiled("void(intp, intp, intp, intp)")(turns)
        self._openmp = _openmp()
        if self._openmp is None:

            @cfunc("void(intp)")
            def share(at: int) -> None:
                begun = array(at, (3,), np.int64)
                each(at + 24, begun[1], 0, begun[0])
        else:
            place, size = self._openmp.thread, self._openmp.threads

            @cfunc("void(intp)")
            def share(at: int) -> None:
                begun, thread, threads = array(at, (3,), np.int64), place(), size()
                count, room = begun[0], begun[1] + thread * begun[2]
                each(at + 24, room, count * thread // threads, count * (thread + 1) // threads)

        self._share = share  # or its code would be gone
        assert share.address is not None
        self._address = share.address
        self._alone = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(self._address)
        self._alone_letting_go = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._address)

    def __call__(self, count: int, told: Sequence[int], products: int, room: int = 0) -> None:
        """Do `count` turns, in which there are about so many products, with what the loop is told.

        `room`: float32s that each thread uses meanwhile.
        """
        # All of the team or none: threads that are left out would end, and have to be made anew for the next product.
        threads = 1 if products < _SHARED or self._openmp is None else torch.get_num_threads()
        room = filled_up(room, _LINE)
        at = self._pack(count, self._room.of(threads * room), 4 * room, *told)
        long = products >= _LONG
        if threads > 1 and self._openmp is not None:
            (self._openmp.start if long else self._openmp.start_holding)(self._address, at, threads, 0)
        else:
            (self._alone_letting_go if long else self._alone)(at)

"""What is freed goes back to the system, and what gives way takes no core from others."""

import ctypes
import os
import subprocess
import sys

import pytest
from adapterd.daemon.environment import usable_cores

CHILD = """
import os, sys
from adapterd.daemon.environment import give_memory_back, share_arenas

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

share_arenas()
blocks = [bytearray(b"x") * 100_000 for _ in range(1000)]
last = blocks.pop()
blocks.clear()
held = resident()
give_memory_back()
print(held - resident())
"""


@pytest.mark.skipif(getattr(ctypes.CDLL(None), "malloc_trim", None) is None, reason="this C library keeps nothing")
def test_what_was_freed_goes_back_to_the_system() -> None:
    found = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert int(found.stdout) > 50  # of 100 MB that were freed below a block in use


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such policy")
@pytest.mark.parametrize(("idle", "policy"), [(True, "SCHED_IDLE"), (False, "SCHED_OTHER")])
def test_what_gives_way_is_idle_if_it_is_asked_to_be(idle: bool, policy: str) -> None:
    child = f"""
import os
from adapterd.daemon.environment import give_way
give_way(3, idle={idle})
assert os.sched_getscheduler(0) == os.{policy}
print(os.nice(0))
"""
    before = os.nice(0)
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert int(done.stdout) == min(19, before + 3)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no such thing")
def test_cores_that_the_process_may_not_run_on_do_not_count() -> None:
    allowed = os.sched_getaffinity(0)
    assert usable_cores() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)

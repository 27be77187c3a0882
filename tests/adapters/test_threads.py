"""One thread gets the cores, the others compute alone."""

import os
import sys
import threading

import pytest
import torch
from adapterd.adapters.threads import claim_cores, giving_way, in_passing


def test_who_claims_cores_gets_them_and_threads_that_begin_later_get_one() -> None:
    before = torch.get_num_threads()
    found: dict[str, int] = {}

    def claim() -> None:
        claim_cores(3)
        found["claimed"] = torch.get_num_threads()
        later = threading.Thread(target=lambda: found.update(later=torch.get_num_threads()))
        later.start()
        later.join()
        found["still"] = torch.get_num_threads()

    try:
        in_passing(claim)
        assert found == {"claimed": 3, "later": 1, "still": 3}
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)


def test_what_is_done_in_passing_is_done_by_a_thread_that_is_gone_and_errors_come_back() -> None:
    done = in_passing(threading.current_thread)
    assert done is not threading.current_thread()
    assert not done.is_alive()
    try:
        in_passing(lambda: 1 // 0)
    except ZeroDivisionError:
        return
    raise AssertionError("the error was swallowed")


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a niceness of its own")
def test_a_thread_that_gives_way_is_the_lowliest_and_no_other_is_changed() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert giving_way(lambda: os.getpriority(os.PRIO_PROCESS, 0)) == 19
    assert in_passing(lambda: os.getpriority(os.PRIO_PROCESS, 0)) == before
    assert os.getpriority(os.PRIO_PROCESS, 0) == before

"""kill -9, at every named failpoint and at random: no drop is lost or trained twice, no version is half there."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from adapterd.adapters.failpoints import POINTS
from adapterd.daemon.client import Client
from adapterd.daemon.errors import DaemonError
from adapterd.v1 import adapters_pb2

from .conftest import Figure, Size, Tell
from .sandbox import PATIENCE_S, Sandbox, until

pytestmark = pytest.mark.e2e

OF_UNREADABLE_FILES = tuple(point for point in POINTS if point.startswith("quarantine."))
PROMOTIONS = tuple(point for point in POINTS if point.startswith("promote."))
DELETIONS = tuple(point for point in POINTS if point.startswith("delete."))
OF_DROPS = tuple(point for point in POINTS if point not in (*OF_UNREADABLE_FILES, *PROMOTIONS, *DELETIONS))
# What a drop costs grows with its task's history, and each deletion takes a version that no alias names.
DROPS_A_TASK = 2 + len(DELETIONS)


@pytest.mark.timeout(4 * 3600)
def test_kills_at_every_failpoint_and_at_random_lose_nothing_and_do_nothing_twice(
    box: Sandbox, size: Size, figure: Figure, tell: Tell
) -> None:
    wanted = size(len(POINTS), 1000)  # at least: each task is followed to its end
    steps = size(DROPS_A_TASK, 1)  # each drop meets one in so many points
    chance, kills, task = Random(0), Counter[str](), 0
    while kills.total() < wanted or not {*kills} >= {*POINTS}:
        task += 1
        assert task < max(5, wanted), f"never reached: {POINTS.keys() - {*kills}}"
        box.drop(f"task{task}", 0, unreadable=True)
        kills += killed_on_the_way(box, OF_UNREADABLE_FILES)
        for number in range(1, DROPS_A_TASK + 1):
            box.drop(f"task{task}", 10_000 * task + 1000 * number)
            kills += killed_on_the_way(box, OF_DROPS[(number + task) % steps :: steps])
            settle(box)
            if steps == 1 or number == 1:  # one of its own: the points may have seen the other to its end
                box.drop(f"task{task}", 10_000 * task + 1000 * number + 500)
                kills += killed_at_random(box, chance)
                settle(box)
            tell(f"{kills.total()} of {wanted} kills, {len(box.dropped)} drops")
        kills += killed_in_calls(box, f"task{task}", PROMOTIONS, promote)
        kills += killed_in_calls(box, f"task{task}", DELETIONS, delete)
        settle(box)
    figure("kills: all, of which at random", f"{kills.total()}, {kills['at random']}")
    figure("kills: failpoints hit, of all", f"{len({*kills} & {*POINTS})} of {len(POINTS)}")
    figure("kills: drops, lost, trained twice", f"{len(box.dropped)}, 0, 0")


def killed_in_calls(
    box: Sandbox, task: str, points: Sequence[str], ask: Callable[[Client, str], object]
) -> Counter[str]:
    """Start a daemon to die at each point in turn while a person asks something of a version that no alias names."""
    for point in points:
        version = box.rows(_UNNAMED, task)[0]["version"]
        box.start(point)
        until(lambda: not box.running or box.serving())  # what a kill left undone may be done at the start
        with box.client() as client, suppress(DaemonError):
            ask(client, f"{task}@{version}")
        status = box.ended(PATIENCE_S)
        assert status == -signal.SIGKILL, f"a call did not come by {point}: exit status {status}"
        box.check()
    return Counter(points)


_UNNAMED = """SELECT version FROM versions WHERE task = ? AND state != 'deleted' AND version NOT IN
              (SELECT version FROM aliases WHERE task = versions.task AND version IS NOT NULL) ORDER BY version"""


def promote(client: Client, version: str) -> None:
    client.adapters.Promote(adapters_pb2.PromoteRequest(version=version))


def delete(client: Client, version: str) -> None:
    client.adapters.Delete(adapters_pb2.DeleteRequest(version=version))


def killed_on_the_way(box: Sandbox, points: Sequence[str]) -> Counter[str]:
    """Start a daemon to die at each point in turn, while there is something to do; which of them were reached."""
    reached = Counter[str]()
    for point in points:
        box.start(point)
        if died(box, point):
            reached[point] += 1
        box.kill()
        box.check()
    return reached


def died(box: Sandbox, point: str) -> bool:
    """Whether the daemon, or its training process, dies at a point; not if it has worked everything off before."""
    of_trainer = point.startswith("trainer.")
    failures = "SELECT sum(failures) AS failures FROM jobs"
    before = box.rows(failures)
    rested = 0
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if (status := box.ended(0.05)) is not None:
            assert status == -signal.SIGKILL, f"exit status {status} on the way to {point}"
            return True
        if of_trainer and before and box.rows(failures) != before:
            return True
        # The last point comes after the drop is done.
        rested = 0 if box.unfinished() or not box.serving() else rested + 1
        if rested > 20:
            return False
    raise AssertionError(f"neither died at {point} nor came to rest")


def killed_at_random(box: Sandbox, chance: Random) -> Counter[str]:
    """Kill daemons, now and then their training process first, until one has worked everything off.

    Each may live a little longer than the one before: on a slow machine a training process takes long to begin.
    """
    kills = 0
    while box.unfinished():
        box.start()
        if box.ended(chance.uniform(0.1, 6.0 * 1.2**kills)) is None:
            for process in children(box.pid) if chance.random() < 0.3 else ():
                os.kill(process, signal.SIGKILL)
            box.kill()
            kills += 1
            box.check()
    return Counter({"at random": kills})


def children(pid: int) -> list[int]:
    """The processes that a process has started, and that run."""
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def settle(box: Sandbox) -> None:
    """Without a person: a daemon that is left alone ends with registry and store in agreement, and answers."""
    box.start()
    box.work_off()
    until(box.serving)
    box.check_answers()
    assert box.kill(signal.SIGTERM) == 0
    box.check_at_rest()

"""kill -9, at every named failpoint and at random: no drop is lost or trained twice, no version is half there."""

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from adapterd.adapters.failpoints import POINTS

from .conftest import Figure, Size, Tell
from .sandbox import PATIENCE_S, Sandbox, until

pytestmark = pytest.mark.e2e

DROPS_A_TASK = 6  # what a drop costs grows with its task's history
OF_UNREADABLE_FILES = ("quarantine.moved", "quarantine.noted")
# Whether a version is promoted, and another one deleted for it, is up to the gate, which may reject it.
MUST = {point for point in POINTS if not point.startswith(("delete.", "promote."))}
# Some points exclude each other: killed at one, the daemon does not come by the other at its next start.
WALKS = (
    ("promote.noted", "delete.noted"),
    ("delete.renamed",),
    ("delete.removed",),
    tuple(
        point
        for point in POINTS
        if not point.startswith("delete.") and point not in (*OF_UNREADABLE_FILES, "promote.noted")
    ),
)


@pytest.mark.timeout(4 * 3600)
def test_kills_at_every_failpoint_and_at_random_lose_nothing_and_do_nothing_twice(
    box: Sandbox, size: Size, figure: Figure, tell: Tell
) -> None:
    wanted = size(1, 1000)  # at least: each drop is followed to its end
    chance, kills, number = Random(0), Counter[str](), 0
    while kills.total() < wanted or not {*kills} >= MUST:
        number += 1
        assert number < max(4 * len(WALKS), wanted), f"never reached: {MUST - {*kills}}"
        task = f"task{number // DROPS_A_TASK}"
        if number % DROPS_A_TASK == 3:
            box.drop(task, 1000 * number + 500, unreadable=True)
            kills += killed_on_the_way(box, OF_UNREADABLE_FILES)
        box.drop(task, 1000 * number)
        if number > 2:  # only a third version leaves one that retention may delete
            kills += killed_on_the_way(box, WALKS[number % len(WALKS)])
            kills += killed_at_random(box, chance)
        settle(box)
        tell(f"{kills.total()} of {wanted} kills, {len(box.dropped)} drops")
    figure("kills: all, of which at random", f"{kills.total()}, {kills['at random']}")
    figure("kills: failpoints hit, of all", f"{len({*kills} & {*POINTS})} of {len(POINTS)}")
    figure("kills: drops, lost, trained twice", f"{len(box.dropped)}, 0, 0")


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
        # Retention comes after a drop is done.
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

"""An hour of everything at once: no error but those that were asked for, no memory and no file that stays open."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random

import psutil
import pytest
from adapterd.daemon.client import Client
from adapterd.daemon.errors import RemoteError
from adapterd.v1 import adapters_pb2, inference_pb2, learning_pb2

from .conftest import Figure, Size, Tell
from .sandbox import WORDS, Sandbox, until

pytestmark = pytest.mark.e2e

# What a client may be told of that it brought about itself: it hung up, it had set a deadline, it asked for a version
# that retention has deleted, or it came second when an alias moved.
ASKED_FOR = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "NOT_FOUND", "FAILED_PRECONDITION", "ABORTED"})
MOST_GROWTH = 0.01  # of the memory, an hour
# The daemon returns freed memory every ten seconds; a rest is longer.
REST_EVERY_S, REST_S = 120, 12


class Traffic:
    """Clients of every kind, and a count of what they were answered."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.over = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self.counts = Counter[str]()
        self.odd = list[str]()
        self._lock = threading.Lock()

    def repeat(self, kind: str, pause_s: float, act: Callable[[Client, Random], object], asked: frozenset[str]) -> None:
        """Do something again and again; errors that were not `asked` for are kept."""
        chance = Random(kind)
        with self.box.client() as client:
            while self._going.wait() and not self.over.is_set():
                try:
                    act(client, chance)
                    told = kind
                except RemoteError as error:
                    told = f"{kind}: {error.status}"
                    if error.status not in asked:
                        with self._lock:
                            self.odd.append(f"{told} {error.message}")
                with self._lock:
                    self.counts[told] += 1
                self.over.wait(pause_s)

    def rest(self, seconds: float, held: Callable[[], int]) -> int:
        """Nobody asks for so long; returns the least that was held meanwhile.

        What runs holds what it needs, 10 MiB more or less from one second to the next, in which a growth of one percent
        an hour cannot be seen.
        """
        self._going.clear()
        ends, least = time.monotonic() + seconds, held()
        while time.monotonic() < ends:
            time.sleep(0.25)
            least = min(least, held())
        self._going.set()
        return least

    def end(self) -> None:
        """Every client ends after what it is at, resting or not."""
        self.over.set()
        self._going.set()


def ask(client: Client, chance: Random) -> None:
    request = inference_pb2.ScoreRequest(
        adapter="mood", input=inference_pb2.Input(prompt=f"good {chance.randrange(99)}"), continuations=list(WORDS)
    )
    client.inference.Score(request, timeout=30)


def write(client: Client, chance: Random) -> None:
    client.inference.Complete(generation(chance, 24), timeout=30)


def hang_up(client: Client, chance: Random) -> None:
    answers = client.inference.Generate(generation(chance, 200))
    for number, _ in enumerate(answers):
        if number >= chance.randrange(8):
            break
    answers.close()  # type: ignore[attr-defined] # a generator


def lose_patience(client: Client, chance: Random) -> None:
    client.inference.Complete(generation(chance, 200), timeout=chance.choice([0.001, 0.01, 0.05]))


def generation(chance: Random, tokens: int) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(
        adapter=chance.choice(["mood", "mood", "base"]),
        input=inference_pb2.Input(prompt=f"good {chance.randrange(99)}"),
        sampling=inference_pb2.Sampling(max_tokens=tokens),
    )


def swap(client: Client, chance: Random) -> None:
    if chance.random() < 0.5:
        client.adapters.Revert(adapters_pb2.RevertRequest(task="mood"))
    else:
        found = client.adapters.ListVersions(adapters_pb2.ListVersionsRequest(task="mood")).versions
        client.adapters.Promote(adapters_pb2.PromoteRequest(version=f"mood@{chance.choice(found).version}"))


def look(client: Client, chance: Random) -> None:
    client.learning.GetStatus(learning_pb2.GetStatusRequest())
    client.learning.GetReport(learning_pb2.GetReportRequest(task="mood"))
    list(client.learning.Events(learning_pb2.EventsRequest(after=chance.randrange(50))))


@pytest.mark.timeout(7200)
def test_a_soak_shows_no_error_no_growth_and_no_file_left_open(
    box: Sandbox, size: Size, figure: Figure, tell: Tell
) -> None:
    seconds, rest_every, rest_s = size(25, 3600), size(10, REST_EVERY_S), size(1, REST_S)
    box.set("retention = { keep_newest = 1, every_s = 0.5 }")
    box.drop("mood", 0)
    box.start()
    box.work_off()
    until(box.serving)
    traffic, process = Traffic(box), psutil.Process(box.pid)
    samples, rests = list[tuple[float, int, int]](), list[tuple[float, int]]()
    kinds: list[tuple[str, float, Callable[[Client, Random], object], frozenset[str]]] = [
        ("score", 0.0, ask, frozenset()),
        ("complete", 0.0, write, frozenset()),
        ("hang up", 0.05, hang_up, ASKED_FOR),
        ("short deadline", 0.05, lose_patience, ASKED_FOR),
        ("swap", 0.3, swap, ASKED_FOR),
        ("look", 1.0, look, frozenset()),
    ]
    with ThreadPoolExecutor(len(kinds)) as pool:
        running = [pool.submit(traffic.repeat, *kind) for kind in kinds]
        began, number = time.monotonic(), 0
        try:
            while (past := time.monotonic() - began) < seconds:
                if past > number * max(8, seconds / 40) and not box.unfinished():
                    number += 1
                    box.drop("mood", 1000 * number)
                samples.append((past, own_memory(process), process.num_fds()))
                if past > (1 + len(rests)) * rest_every:
                    rests.append((past, traffic.rest(rest_s, lambda: own_memory(process))))
                traffic.over.wait(1.0)
                tell(f"{past:.0f} of {seconds} s, {traffic.counts.total()} calls, {number} drops")
        finally:
            traffic.end()
        for one in running:
            one.result()
    box.work_off()
    until(lambda: idle(box))  # who hung up last is noticed at the engine's next step
    files = median([descriptors for past, _, descriptors in samples if past > seconds / 2])
    now = process.num_fds()
    failures = box.rows("SELECT id, error FROM jobs WHERE failures > 0")
    quarters = [samples[len(samples) * part // 4 - 1][1] >> 20 for part in (1, 2, 3, 4)]
    figure("soak: seconds, calls, drops", f"{seconds}, {traffic.counts.total()}, {number}")
    figure("soak: by kind", ", ".join(f"{count} {kind}" for kind, count in sorted(traffic.counts.items())))
    figure("soak: errors that nobody asked for, trainings that failed", f"{len(traffic.odd)}, {len(failures)}")
    figure("soak: memory after each quarter, MiB", ", ".join(map(str, quarters)))
    figure("soak: memory at each rest, MiB", ", ".join(f"{held / 2**20:.1f}" for _, held in rests))
    figure("soak: open files in the middle, at the end", f"{files}, {now}")
    assert not traffic.odd, traffic.odd[:5]
    assert not failures, failures
    assert now <= files + 4
    if seconds > 600:  # a slope over seconds says nothing
        growth = slope([(past, held) for past, held in rests if past > seconds / 2])
        figure("soak: growth of memory at rest after the first half, an hour", f"{growth:+.2%}")
        assert growth < MOST_GROWTH
    assert box.kill(15) == 0
    box.check()


def idle(box: Sandbox) -> bool:
    """Whether no request holds anything."""
    with box.client() as client:
        status = client.learning.GetStatus(learning_pb2.GetStatusRequest())
    return (status.leases, status.queued, status.running) == (0, 0, 0)


def own_memory(process: psutil.Process) -> int:
    """Bytes that are nobody else's: of pages that files back the kernel keeps as many as it likes."""
    told = process.memory_info()
    held: int = told.rss - told.shared
    return held


def slope(samples: list[tuple[float, int]]) -> float:
    """Growth of the memory an hour, as a share of it: the least squares' line through the samples."""
    times, sizes = [past for past, _ in samples], [held for _, held in samples]
    middle, mean = sum(times) / len(times), sum(sizes) / len(sizes)
    spread = sum((past - middle) ** 2 for past in times)
    rise = sum((past - middle) * (held - mean) for past, held in zip(times, sizes, strict=True)) / max(spread, 1e-9)
    return rise * 3600 / mean


def median(values: list[int]) -> int:
    return sorted(values)[len(values) // 2]

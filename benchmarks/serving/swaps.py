"""Hot swap under load: what running requests notice of it, and how long a promotion takes.

The engine and the manager are the daemon's, in this process; a swap reads the new version from disk, checks it, warms
it up, moves the alias and, once its last request has ended, takes the old one out.
"""

import statistics
import tempfile
import threading
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import psutil
from adapterd.adapters.base import load_base
from adapterd.adapters.engine import Engine
from adapterd.adapters.errors import ServingError
from adapterd.adapters.manager import Manager
from adapterd.adapters.refs import AdapterRef
from adapterd.adapters.requests import Scoring
from rich.console import Console

from benchmarks.report import Report

from .crowd import Crowd, know
from .streams import PROMPT, Asked, Clients, answer, p99, running

_SLOTS = 8
_CLIENTS, _ANSWER_TOKENS = 4, 16
_SWAPS_BESIDE, _TURNS, _WARM = 100, 10, 20
_PROMOTIONS = 30
_MANY_SWAPS, _MANY_CLIENTS, _FEW_TOKENS = 1000, 16, 6
_SETTLED = 50  # swaps after which memory has found its level


def measure(base_folder: Path, report: Report, screen: Console, *, swaps: int = _MANY_SWAPS) -> None:
    """All figures of the module."""
    base = load_base(base_folder, quantization="nf4")
    prompt: list[int] = base.tokenizer(PROMPT).input_ids
    with tempfile.TemporaryDirectory(prefix="adapterd-swaps-") as folder:
        crowd = Crowd(base, Path(folder))  # before the engine wraps the layers
        with running(base, _SLOTS) as engine:
            manager = Manager(engine, crowd.store, fingerprint=base.fingerprint, slots=_SLOTS)
            bench = _Bench(engine, manager, crowd, prompt)
            bench.latency_beside_swaps(report, screen)
            bench.time_of_promotion(report, screen)
            bench.many_swaps(report, screen, swaps)


class _Bench:
    """Tasks "steady", which nobody touches, and "moving", whose versions 1 to 3 are promoted in turn."""

    def __init__(self, engine: Engine, manager: Manager, crowd: Crowd, prompt: list[int]) -> None:
        self._engine = engine
        self._manager = manager
        self._prompt = prompt
        steady = [crowd.publish("steady", 1, seed=0)]
        self._moving = [crowd.publish("moving", number, seed=number) for number in (1, 2, 3)]
        know(manager, steady, 1)
        know(manager, self._moving, 1)
        manager.reconcile(time.time())
        self._champion = 1

    def latency_beside_swaps(self, report: Report, screen: Console) -> None:
        """Requests to "steady", while "moving" is swapped and while nothing is, in turn: a machine has better and worse
        minutes."""
        phases: list[list[float]] = [[]]

        def work(client: int) -> None:
            taken, began = phases[-1], time.perf_counter()
            self._ask("steady", f"latency-{client}-{time.monotonic_ns()}", _ANSWER_TOKENS)
            taken.append(time.perf_counter() - began)

        seconds = 0.0
        with Clients(_CLIENTS, work) as clients:
            while len(phases[0]) < _WARM and not clients.failed:
                time.sleep(0.05)
            for _ in range(_TURNS):
                phases.append([])
                began = time.perf_counter()
                for _ in range(_SWAPS_BESIDE // _TURNS):
                    self._swap()
                    time.sleep(0.2)
                took = time.perf_counter() - began
                seconds += took
                phases.append([])
                time.sleep(took)
        beside, alone = (list(chain.from_iterable(phases[first::2])) for first in (1, 2))
        screen.print(f"  {len(alone)} requests alone, {len(beside)} beside {_SWAPS_BESIDE} swaps in {seconds:.0f} s")
        report.add("swap_p99_alone_ms", "p99 of a request of 16 tokens, 4 clients, ms", 1e3 * p99(alone))
        what = f"p99 beside {_SWAPS_BESIDE} swaps of another task ÷ alone"
        report.add("swap_p99_ratio", what, p99(beside) / p99(alone), at_most=1.15)

    def time_of_promotion(self, report: Report, screen: Console) -> None:
        """From the decision to the first token of the new version, on a quiet engine, read from disk each time."""
        taken = []
        for number in range(_PROMOTIONS):
            began = time.perf_counter()
            self._swap(leave=False)
            with self._manager.lease(AdapterRef.parse("moving"), f"first-{number}") as lease:
                assert lease.version == self._champion
                answer(self._engine, Asked(lease.slot, self._prompt, 1))
            taken.append(time.perf_counter() - began)
            self._leave_others()
        screen.print(f"  promotions: {', '.join(f'{1e3 * seconds:.0f}' for seconds in taken)} ms")
        what = "from promotion to the new version's first answer, p50, ms"
        report.add("swap_promotion_p50_ms", what, 1e3 * statistics.median(taken), at_most=100.0)

    def many_swaps(self, report: Report, screen: Console, swaps: int) -> None:
        """Whether every answer is that of the version that it names, under streams that never rest.

        On a GPU the last bits of a logit depend on who else is in the batch, and a random adapter's best two tokens are
        often that near. So an answer that differs from the version's own is also asked for: is it likelier from
        another version?
        """
        alone: dict[int, tuple[int, ...]] = {}
        for member in self._moving:
            with self._manager.lease(AdapterRef.parse(f"moving@{member.version}"), f"alone-{member.version}") as lease:
                alone[member.version] = answer(self._engine, Asked(lease.slot, self._prompt, _FEW_TOKENS))
        if len(set(alone.values())) != len(alone):
            raise RuntimeError("two versions give the same answer: nothing would be noticed")
        lock = threading.Lock()
        given: Counter[tuple[int, tuple[int, ...]]] = Counter()
        failed = 0

        def work(client: int) -> None:
            nonlocal failed
            try:
                version, tokens = self._ask("moving", f"many-{client}-{time.monotonic_ns()}", _FEW_TOKENS)
            except ServingError:
                with lock:
                    failed += 1
                return
            with lock:
                given[version, tokens] += 1

        process = psutil.Process()
        settled = 0
        with Clients(_MANY_CLIENTS, work):
            for number in range(swaps):
                self._swap()
                if number + 1 == min(_SETTLED, swaps):
                    settled = process.memory_info().rss
                if (number + 1) % 100 == 0:
                    screen.print(f"  {number + 1} swaps, {given.total()} answers, {failed} failed")
            ended = process.memory_info().rss
        leases = self._manager.usage().leases
        other = {pair: count for pair, count in given.items() if pair[1] != alone[pair[0]]}
        foreign = sum(count for (version, tokens), count in other.items() if self._likeliest(tokens) != version)
        report.add("swap_many_answers", f"answers while {swaps} swaps went on", given.total())
        report.add("swap_many_failed", "failed requests among them", failed, at_most=0)
        what = "answers with other tokens than the version they name gives alone"
        report.add("swap_many_differ", what, sum(other.values()), at_most=0)
        report.add("swap_many_foreign", "of these, likelier from another version", foreign, at_most=0)
        report.add("swap_many_leases", "leases left", leases, at_most=0)
        what = f"memory at the end ÷ after {_SETTLED} swaps"
        report.add("swap_many_memory_ratio", what, ended / settled, at_most=1.02)

    def _ask(self, task: str, name: str, tokens: int) -> tuple[int, tuple[int, ...]]:
        """(version, tokens) of an answer."""
        with self._manager.lease(AdapterRef.parse(task), name) as lease:
            return lease.version, answer(self._engine, Asked(lease.slot, self._prompt, tokens))

    def _likeliest(self, tokens: tuple[int, ...]) -> int:
        """The version of "moving" that gives an answer with the largest likelihood."""
        scores = {}
        for member in self._moving:
            with self._manager.lease(AdapterRef.parse(f"moving@{member.version}"), f"score-{member.version}") as lease:
                scoring = Scoring(f"score-{member.version}-{hash(tokens)}", lease.slot, self._prompt, [list(tokens)])
                scores[member.version] = self._engine.submit(scoring).result()[0]
        return max(scores, key=scores.__getitem__)

    def _swap(self, *, leave: bool = True) -> None:
        """Promote the next version of "moving", which is not in the engine, and take the others out."""
        self._champion = self._champion % len(self._moving) + 1
        champion = self._moving[self._champion - 1]
        self._manager.ensure("moving", champion.version, champion.digest)
        know(self._manager, self._moving, champion.version)
        if leave:
            self._leave_others()

    def _leave_others(self) -> None:
        for member in self._moving:
            if member.version != self._champion:
                self._manager.forget("moving", member.version)
        know(self._manager, self._moving, self._champion)

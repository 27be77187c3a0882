"""How surely labels that contradict what was learned are noticed, and how seldom that is claimed of right ones.

    python -m benchmarks.contradictions --data DIR

A task has learned 400 rows of a set; a drop of 100 comes, 50 times each: of other rows of the set with their labels;
with its commonest label replaced by another one; with its labels shuffled; and of reviews of goods under labels of the
task at random. Beside these, for a task that tells good reviews of films from bad ones (`sst2`), reviews of goods
(`amazon`, without the neutral ones) with right labels: questions that have moved, and should be learned.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from random import Random

from adapterd.adapters.base import ensure_base, load_base
from adapterd.continual.drop_drift import drop_drift
from adapterd.continual.input_drift import Window
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import gate
from benchmarks.arguments import parser as benchmark_parser
from benchmarks.drift import SETS, Pool, read
from benchmarks.report import Report, console

REVIEWS, FILMS = "amazon", "sst2"
LEARNED, ROWS = 400, 100
SENTIMENTS: Mapping[str, str] = {
    "very positive": "Good",
    "positive": "Good",
    "negative": "Bad",
    "very negative": "Bad",
}

Drop = Callable[[Pool, list[int], Random], Window]


def clean(pool: Pool, places: list[int], _random: Random) -> Window:
    """The rows as they are."""
    return pool.window(places)


def flipped(pool: Pool, places: list[int], random: Random) -> Window:
    """The commonest label replaced by another one."""
    window = pool.window(places)
    return replace(window, labels=gate.flipped(window.labels, random))


def shuffled(pool: Pool, places: list[int], random: Random) -> Window:
    """The labels in another order."""
    window = pool.window(places)
    return replace(window, labels=random.sample(list(window.labels), len(places)))


def held(before: Window, now: Window, seed: int) -> bool:
    """Whether the daemon would hold the drop."""
    found = drop_drift(before, now, seed)
    return found is not None and found.contradiction is not None


def share_held(pool: Pool, make: Drop, repetitions: int) -> float:
    """The share of drops, made of rows that the task has not learned, that are held."""
    found = 0
    for seed in range(repetitions):
        random = Random(seed)
        places = random.sample(range(len(pool.texts)), LEARNED + ROWS)
        found += held(pool.window(places[:LEARNED]), make(pool, places[LEARNED:], random), seed)
    return found / repetitions


def of_reviews(reviews: Pool, pool: Pool, places: list[int], random: Random) -> Window:
    """Reviews under the labels that the task's own rows have, shuffled."""
    window = reviews.window(random.sample(range(len(reviews.texts)), len(places)))
    return replace(window, labels=shuffled(pool, places, random).labels)


def of_goods(reviews: Pool, _pool: Pool, places: list[int], random: Random) -> Window:
    """Reviews of goods as good or bad, as they are."""
    sided = [place for place, label in enumerate(reviews.labels) if label in SENTIMENTS]
    window = reviews.window(random.sample(sided, len(places)))
    return replace(window, labels=[SENTIMENTS[label] for label in window.labels])


def measure(pools: Mapping[str, Pool], repetitions: int, screen: Console) -> Report:
    """All of the table."""
    report = Report("contradictions")
    reviews = pools[REVIEWS]
    kinds: dict[str, Drop] = {
        "clean": clean,
        "flipped": flipped,
        "shuffled": shuffled,
        "off-domain": partial(of_reviews, reviews),
    }
    sets = [name for name in pools if name != REVIEWS]
    table = Table("drops that are held", *sets)
    for kind, make in kinds.items():
        shares = [
            share_held(pools[name], make, repetitions) for name in track(sets, kind, console=screen, transient=True)
        ]
        table.add_row(kind, *(f"{share:.2f}" for share in shares))
        key = f"contradictions_{kind.replace('-', '_')}"
        if kind == "clean":
            mean = sum(shares) / len(shares)
            report.add(key, "clean drops held, mean of the sets", mean, at_most=0.02)
        else:
            report.add(key, f"{kind} drops held, lowest of the sets", min(shares), at_least=0.8)
    moved = share_held(pools[FILMS], partial(of_goods, reviews), repetitions)
    report.add("contradictions_moved", "right labels of questions that have moved, held", moved, at_most=0.1)
    screen.print(table)
    return report


def main() -> int:
    """Entry point; returns 0 if every target is met."""
    parser = benchmark_parser("contradictions", __doc__)
    parser.add_argument("--repetitions", type=int, default=50, metavar="N", help="drops drawn of each set and kind")
    arguments = parser.parse_args()
    screen = console()
    base = load_base(ensure_base(arguments.bases, arguments.base), quantization="nf4", device="auto")
    pools = {
        name: read(arguments.data / SETS[name], base.model, base.model.model.layers, base.tokenizer)
        for name in track(SETS, "what the base makes of the rows", console=screen, transient=True)
    }
    return measure(pools, arguments.repetitions, screen).end(screen, arguments.json)


if __name__ == "__main__":
    sys.exit(main())

"""How surely drift is noticed, and how seldom it is claimed where there is none, beside frouros on the same embeddings.

    python -m benchmarks.drift --data DIR
    python -m benchmarks.drift --reference FILE --current FILE

Windows of 200 rows, 200 repetitions for each set: against 200 other rows of the same set (false alarms), of another set
(power), of the same set with another mix of labels (power), and against a window whose share of another set grows from
nothing to a half over ten drops.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random

import numpy as np
from adapterd.adapters.base import ensure_base, load_base
from adapterd.continual.input_drift import LAYERS, Window, compare
from adapterd.continual.pooled_states import pooled_states
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.spatial.distance import pdist

from benchmarks.arguments import parser as benchmark_parser
from benchmarks.report import Report, console

SETS = {
    "trec6": "trec6/train.jsonl",
    "sst2": "sst2/train.jsonl",
    "tweet_emotion": "tweet_emotion/emotion.train.jsonl",
    "agnews": "agnews/train.jsonl",
    "amazon": "amazon/train.jsonl",
}
ROWS = 200
LEVEL = 0.05
DROPS, MOST_SHARE, NOTICED_BY = 10, 0.5, 0.2
MOST_ROWS = 2000
# It computes the kernel anew for each permutation, so it is asked for fewer than the daemon's 500.
PEER_PERMUTATIONS = 100


@dataclass(frozen=True)
class Pool:
    """A set's rows and what the base makes of them."""

    texts: Sequence[str]
    labels: Sequence[str]
    states: Mapping[int, np.ndarray]
    lengths: Sequence[int]

    def window(self, places: Sequence[int]) -> Window:
        """Some of the rows."""
        return Window(
            [self.texts[place] for place in places],
            {layer: states[list(places)] for layer, states in self.states.items()},
            [self.lengths[place] for place in places],
            [self.labels[place] for place in places],
        )

    @classmethod
    def joined(cls, left: "Pool", right: "Pool") -> "Pool":
        """The rows of two sets, those of `left` first."""
        states = {layer: np.concatenate([left.states[layer], right.states[layer]]) for layer in left.states}
        return cls(
            [*left.texts, *right.texts],
            [*left.labels, *right.labels],
            states,
            [*left.lengths, *right.lengths],
        )


Test = Callable[[Window, Window, int], bool]


def ours(before: Window, now: Window, seed: int) -> bool:
    """The daemon's verdict, labels and lengths with it."""
    verdict = compare(before, now, level=LEVEL, seed=seed)
    return verdict is not None and verdict.drifted


def frouros_mmd(before: Window, now: Window, seed: int) -> bool:
    """Its MMD by permutation on the embeddings of the deeper layer, with a kernel as wide as ours.

    Its own width, 1, is far too narrow for these embeddings: every two rows would be infinitely unlike.
    """
    callbacks, detectors = import_module("frouros.callbacks"), import_module("frouros.detectors.data_drift")
    kernels = import_module("frouros.utils.kernels")
    left, right = before.states[LAYERS[-1]], now.states[LAYERS[-1]]
    width = math.sqrt(np.median(pdist(np.concatenate([left, right]), "sqeuclidean")) / 2)
    test = callbacks.PermutationTestDistanceBased(
        num_permutations=PEER_PERMUTATIONS, num_jobs=1, method="conservative", random_state=seed
    )
    detector = detectors.MMD(kernel=partial(kernels.rbf_kernel, sigma=width), callbacks=[test])
    detector.fit(X=left)
    _, logs = detector.compare(X=right)
    return bool(logs[test.name]["p_value"] <= LEVEL)


def frouros_ks(before: Window, now: Window, _seed: int) -> bool:
    """Its KS test for each dimension of the deeper layer, corrected for their number (Bonferroni)."""
    detectors = import_module("frouros.detectors.data_drift")
    left, right = before.states[LAYERS[-1]], now.states[LAYERS[-1]]
    for dimension in range(left.shape[1]):
        detector = detectors.KSTest()
        detector.fit(X=left[:, dimension])
        result, _ = detector.compare(X=right[:, dimension])
        if result.p_value * left.shape[1] <= LEVEL:
            return True
    return False


def read(path: Path, model: object, layers: object, tokenizer: object) -> Pool:
    """Up to `MOST_ROWS` rows of a JSONL file of texts, with labels if they have some."""
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    Random(0).shuffle(rows)
    rows = rows[:MOST_ROWS]
    texts = [str(row.get("text") or row.get("prompt") or row.get("instruction") or row.get("input")) for row in rows]
    states, lengths = pooled_states(model, layers, tokenizer, texts, LAYERS)  # type: ignore[arg-type]
    labels = [str(row["label"]) for row in rows] if all("label" in row for row in rows) else []
    return Pool(texts, labels, states, lengths)


def same(pool: Pool, random: Random) -> tuple[Window, Window]:
    """Two windows of the same rows' kind."""
    places = random.sample(range(len(pool.texts)), 2 * ROWS)
    return pool.window(places[:ROWS]), pool.window(places[ROWS:])


def another_mix(pool: Pool, random: Random) -> tuple[Window, Window]:
    """In the second window half of the rows of all other labels are replaced by rows of one label, drawn at random."""
    places = random.sample(range(len(pool.texts)), len(pool.texts))
    before, rest = places[:ROWS], places[ROWS:]
    shares = Counter(pool.labels[place] for place in rest)
    label = random.choice(sorted(label for label, count in shares.items() if count >= ROWS // 4))
    many = min(shares[label], round(ROWS * (1 + shares[label] / len(rest)) / 2))
    own = [place for place in rest if pool.labels[place] == label][:many]
    others = [place for place in rest if pool.labels[place] != label][: ROWS - many]
    return pool.window(before), pool.window([*own, *others])


def mixed(pool: Pool, other: Pool, share: float, random: Random) -> tuple[Window, Window]:
    """The second window has a share of another set's rows."""
    whole = Pool.joined(pool, other)
    own = random.sample(range(len(pool.texts)), 2 * ROWS)
    many = round(share * ROWS)
    foreign = random.sample(range(len(pool.texts), len(whole.texts)), many)
    return whole.window(own[:ROWS]), whole.window([*own[ROWS : 2 * ROWS - many], *foreign])


def noticed_at(pool: Pool, other: Pool, seed: int) -> float:
    """The share of foreign rows at which drift is first claimed, as it grows from drop to drop; infinity if never."""
    random = Random(seed)
    for drop in range(DROPS):
        share = MOST_SHARE * drop / (DROPS - 1)
        if ours(*mixed(pool, other, share, random), seed):
            return share
    return math.inf


def measure(pools: Mapping[str, Pool], repetitions: int, peers: int, screen: Console) -> Report:
    """All of the table; `peers`: repetitions of what the slower peers are asked."""
    report = Report("drift")
    tests: dict[str, tuple[Test, int]] = {"ours": (ours, repetitions)}
    if find_spec("frouros"):
        tests |= {"frouros MMD": (frouros_mmd, peers), "frouros KS": (frouros_ks, peers)}
    else:
        screen.print("frouros is not installed: its figures are left out")
    table = Table("", "set", *(f"{name} ({count})" for name, (_, count) in tests.items()))
    kinds: dict[str, Callable[[str, Random], tuple[Window, Window]]] = {
        "false alarms": lambda name, random: same(pools[name], random),
        "another domain": lambda name, random: mixed(pools[name], pools[_other(name, pools, random)], 1.0, random),
        "another mix of labels": lambda name, random: another_mix(pools[name], random),
    }
    for kind, draw in kinds.items():
        rates: dict[str, list[float]] = {test: [] for test in tests}
        for name in track(pools, kind, console=screen, transient=True):
            for test, (decide, count) in tests.items():
                claimed = [decide(*draw(name, Random(seed)), seed) for seed in range(count)]
                rates[test].append(sum(claimed) / count)
            table.add_row(kind, name, *(f"{rates[test][-1]:.3f}" for test in tests))
        for test in tests:
            key = f"drift_{test.replace(' ', '_').lower()}_{kind.replace(' ', '_')}"
            if kind == "false alarms":
                mean = sum(rates[test]) / len(rates[test])
                most = LEVEL if test == "ours" else None
                report.add(key, f"{test}: rate of false alarms, mean of the sets", mean, at_most=most)
            else:
                least = min(rates[test])
                target = 0.95 if test == "ours" else None
                report.add(key, f"{test}: power, {kind}, lowest of the sets", least, at_least=target)
    # The share passes a fifth in the drop after the last one that has no more.
    steps = [MOST_SHARE * drop / (DROPS - 1) for drop in range(DROPS)]
    passing = min(step for step in steps if step > NOTICED_BY)
    runs = [
        noticed_at(pools[name], pools[_other(name, pools, Random(seed))], seed) <= passing
        for name in track(pools, "gradual drift", console=screen, transient=True)
        for seed in range(max(1, repetitions // 10))
    ]
    report.add(
        "drift_ours_gradual",
        "gradual drift: runs noticed by the drop in which the share passes 20 %",
        sum(runs) / len(runs),
        at_least=0.95,
    )
    screen.print(table)
    return report


def _other(name: str, pools: Mapping[str, Pool], random: Random) -> str:
    return random.choice([other for other in pools if other != name])


def main() -> int:
    """Entry point; returns 0 if every target is met."""
    parser = benchmark_parser("drift", __doc__)
    parser.add_argument("--reference", type=Path, metavar="FILE", help="rows of your own to compare with ...")
    parser.add_argument("--current", type=Path, metavar="FILE", help="... these")
    parser.add_argument("--repetitions", type=int, default=200, metavar="N", help="windows drawn of each set and kind")
    parser.add_argument("--peers", type=int, default=20, metavar="N", help="the same for the peers")
    arguments = parser.parse_args()
    screen = console()
    base = load_base(ensure_base(arguments.bases, arguments.base), quantization="nf4", device="auto")
    embed = partial(read, model=base.model, layers=base.model.model.layers, tokenizer=base.tokenizer)
    if arguments.reference and arguments.current:
        before, now = embed(arguments.reference), embed(arguments.current)
        verdict = compare(before.window(range(len(before.texts))), now.window(range(len(now.texts))), level=LEVEL)
        if verdict is None:
            screen.print("too few rows to say anything")
            return 1
        table = Table("compared", "statistic", "p")
        for one in verdict.comparisons:
            table.add_row(one.what, f"{one.statistic:.4f}", f"{one.p_value:.3g}")
        screen.print(table)
        screen.print(verdict.reason or "no drift")
        return 0
    pools = {
        name: embed(arguments.data / SETS[name])
        for name in track(SETS, "what the base makes of the rows", console=screen, transient=True)
    }
    report = measure(pools, arguments.repetitions, arguments.peers, screen)
    return report.end(screen, arguments.json)


if __name__ == "__main__":
    sys.exit(main())

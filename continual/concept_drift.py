"""Whether a drop's labels say of its questions what earlier labels said of such questions: concept drift, or poison.

A probe, a logistic regression over the base's mean-pooled hidden states, learns the earlier rows in five folds, five
times over. How surprised it is by a label is compared between earlier rows, each asked of the folds that have not seen
it, and the drop's rows, each asked of as many: where the labels are of one kind, the two are exchangeable. A rank test
(Mann & Whitney 1947, doi:10.1214/aoms/1177730491) of each known label and of all together, their level shared
(Bonferroni), says whether the drop's labels surprise it more; and by how much, as the chance that a row of the drop
surprises it more than an earlier one does.

Where the questions have moved as well, surprise proves nothing: it is why one would learn from them. Then a drop
contradicts only if its labels do not even follow from its own questions, which the same probe of the drop alone says.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from .input_drift import Window

# At this level a contradiction is claimed where there is none; and the chance that it takes at least, against one in
# two without any difference: in a large drop the least difference is significant. A tenth of the labels that are wrong,
# and odder than all others, make it 0.55.
_LEVEL: Final = 0.01
_LEAST_CHANCE: Final = 0.55
_FOLDS: Final = 5
_REPEATS: Final = 5
# Rows of known labels, in the drop, below which nothing is said.
_LEAST_ROWS: Final = 20
# The probe's regularization, as scikit-learn counts it: 576 dimensions and some hundred rows. Chosen on rows of sst2,
# agnews, hwu64 and tweet_emotion.
_C: Final = 0.01
# Shufflings of the labels that their predictability is held against, and the share that may do as well by chance.
_SHUFFLES: Final = 999
_PREDICTABLE: Final = 0.05

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What is contradicted: `label`, empty for all together; in how many `rows` of the drop; the corrected `p_value`;
    and the `chance` that one of these surprises the probe more than an earlier row does.
    """

    label: str
    rows: int
    p_value: float
    chance: float

    @property
    def said(self) -> str:
        """As a sentence."""
        of_what = f"rows labelled {self.label!r}" if self.label else "rows with known labels"
        return (
            f"its labels contradict what was learned: {self.rows} {of_what} do not go with earlier ones "
            f"(p = {self.p_value:.1g}, a chance of {self.chance:.2f} to be odder than an earlier row)"
        )


def contradiction(reference: Window, current: Window, *, moved: bool, seed: int = 0) -> Contradiction | None:
    """The plainest contradiction between the windows' labels; None without one, and where too few rows have a label
    that both know. `moved`: whether the questions differ, as `input_drift.Verdict.moved` says.
    """
    layer = max(set(reference.states) & set(current.states), default=None)
    if layer is None or not reference.labels or not current.labels:
        return None
    earlier, now = np.array(reference.labels), np.array(current.labels)
    common = _common(reference.labels)
    known, asked = np.isin(earlier, common), np.isin(now, common)
    if len(common) < 2 or asked.sum() < _LEAST_ROWS:
        return None
    scale = StandardScaler().fit(np.concatenate([reference.states[layer], current.states[layer]]))
    before, states = (np.asarray(scale.transform(window.states[layer])) for window in (reference, current))
    found = _plainest(before[known], earlier[known], states[asked], now[asked], seed)
    if found is None or (moved and _follow(states, now, seed)):
        return None
    return found


def _plainest(before: Array, earlier: Any, states: Array, now: Any, seed: int) -> Contradiction | None:
    there, here = np.zeros(len(earlier)), np.zeros(len(now))
    for repeat in range(_REPEATS):
        fold_of = np.random.default_rng([seed, repeat]).permutation(len(now)) % _FOLDS
        for number, (seen, unseen) in enumerate(_folds(before, earlier, seed + repeat)):
            probe = _probe(before[seen], earlier[seen])
            there[unseen] += _surprise(probe, before[unseen], earlier[unseen]) / _REPEATS
            if (mine := fold_of == number).any():
                here[mine] += _surprise(probe, states[mine], now[mine]) / _REPEATS
    groups = [("", here, there)]
    groups += [(label, here[now == label], there[earlier == label]) for label in sorted(set(now.tolist()))]
    found = []
    for label, ours, theirs in groups:
        tested = stats.mannwhitneyu(ours, theirs, alternative="greater")
        chance = float(tested.statistic) / (len(ours) * len(theirs))
        p_value = min(1.0, float(tested.pvalue) * len(groups))
        if p_value < _LEVEL and chance >= _LEAST_CHANCE:
            found.append(Contradiction(label, len(ours), p_value, chance))
    return min(found, key=lambda one: one.p_value, default=None)


def _follow(states: Array, labels: Any, seed: int) -> bool:
    """Whether the labels follow from the questions: predicted of rows that a probe has not seen, more are right than
    chance explains. True as well where that cannot be tried.
    """
    common = _common(labels.tolist())
    if len(common) < 2:
        return True
    kept = np.isin(labels, common)
    states, labels = states[kept], labels[kept]
    guessed = labels.copy()
    for seen, unseen in _folds(states, labels, seed):
        guessed[unseen] = _probe(states[seen], labels[seen]).predict(states[unseen])
    generator, right = np.random.default_rng(seed), (guessed == labels).sum()
    as_good = sum((guessed == generator.permutation(labels)).sum() >= right for _ in range(_SHUFFLES))
    return bool((1 + as_good) / (1 + _SHUFFLES) <= _PREDICTABLE)


def _common(labels: Sequence[str]) -> list[str]:
    """Those of which every fold gets a row."""
    return [label for label, count in Counter(labels).items() if count >= _FOLDS]


def _folds(states: Array, labels: Any, seed: int) -> Sequence[tuple[Any, Any]]:
    return list(StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(states, labels))


def _probe(states: Array, labels: Any) -> Any:
    return LogisticRegression(C=_C, max_iter=200).fit(states, labels)


def _surprise(probe: Any, states: Array, labels: Any) -> Array:
    """-log p(label | question) of each row, in nats."""
    logs = probe.predict_log_proba(states)
    surprise: Array = -logs[np.arange(len(labels)), np.searchsorted(probe.classes_, labels)]
    return surprise

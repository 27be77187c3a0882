"""Labels that the rest of the data finds implausible, by a probe that never saw the row: confident learning.

A row's label is implausible where a classifier that was trained on other rows holds another label for eight times as
likely (after Northcutt et al. 2021, "Confident learning", arXiv:1911.00068; its thresholds by label found less here).
The probe is a logistic regression over words and pairs of words, in five folds: seconds for ten thousand rows.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import StratifiedKFold

# How much likelier another label must be than the given one: a choice between recall and precision, by eight sets with
# planted wrong labels, three of which `benchmarks/audit.py` takes too.
_EVIDENCE: Final = 8.0
_FOLDS: Final = 5
_WORD: Final = r"(?u)\b\w+\b"
# Share of the labels that may be wrong without disturbing the probe's calibration.
_MAY_BE_WRONG: Final = 0.1
# With fewer rows of a label, no fold learns it, and a probe of one label says nothing.
_LEAST_ROWS: Final = _FOLDS
# The probe's penalty, and its passes: fewer where there are many rows, for it is the steps that count.
_PENALTY = 3e-5
_PASSES, _FEWEST_PASSES, _ROWS_PASSED = 8, 2, 160_000


class Doubt(NamedTuple):
    """A row, by its place, whose label is implausible; `likelier` is the label that the probe would have given."""

    place: int
    likelier: str
    times: float


@dataclass(frozen=True)
class Probe:
    """A classifier for each fold, and which rows it has not seen.

    `scores`: (rows, labels) of the rows in `fold_of`, in its order, each by the fold that has not seen it.
    """

    words: TfidfVectorizer
    labels: NDArray[np.str_]
    folds: tuple[SGDClassifier, ...]
    fold_of: dict[int, int]
    scores: NDArray[np.float64]
    temperature: float

    def shares(self, places: Sequence[int], texts: Sequence[str]) -> NDArray[np.float64]:
        """(rows, labels): what the fold that has not seen a row gives each label, for a text in the row's place."""
        features: Any = self.words.transform(texts)
        scores = np.zeros((len(places), len(self.labels)))
        folds = np.array([self.fold_of[place] for place in places])
        for number, classifier in enumerate(self.folds):
            if (here := folds == number).any():
                scores[here] = _scores(classifier, features[here])
        return softmax(scores / self.temperature, axis=1)


def train_probe(texts: Sequence[str], labels: Sequence[str], seed: int = 0) -> Probe | None:
    """Train on rows whose label has enough of them; None where fewer than two labels have."""
    counts = Counter(labels)
    places = [place for place, label in enumerate(labels) if counts[label] >= _LEAST_ROWS]
    kept = np.array([labels[place] for place in places])
    known = np.unique(kept)
    if len(known) < 2:
        return None
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=_WORD)
    try:
        features: Any = words.fit_transform([texts[place] for place in places])
    except ValueError:  # not one word in any text
        return None
    passes = max(_FEWEST_PASSES, min(_PASSES, _ROWS_PASSED // len(kept)))
    folds: list[SGDClassifier] = []
    fold_of = dict.fromkeys(places, 0)
    scores = np.zeros((len(kept), len(known)))
    parts = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(features, kept)
    for number, (seen, unseen) in enumerate(parts):
        settings: dict[str, Any] = {"alpha": _PENALTY, "max_iter": passes, "tol": None, "random_state": seed}
        classifier = SGDClassifier(loss="log_loss", **settings)
        folds.append(classifier.fit(features[seen], kept[seen]))
        scores[unseen] = _scores(classifier, features[unseen])
        fold_of.update({places[row]: number for row in unseen})
    temperature = _temperature(scores, np.searchsorted(known, kept))
    return Probe(words, known, tuple(folds), fold_of, scores, temperature)


def doubts(probe: Probe, labels: Sequence[str], places: Sequence[int]) -> list[Doubt]:
    """The rows at `places` whose label is implausible, the most implausible first; of a rare label none is asked."""
    asked = [place for place in places if place in probe.fold_of]
    if not asked:
        return []
    row_of = {place: row for row, place in enumerate(probe.fold_of)}
    shares = softmax(probe.scores[[row_of[place] for place in asked]] / probe.temperature, axis=1)
    given = shares[np.arange(len(asked)), np.searchsorted(probe.labels, [labels[place] for place in asked])]
    best = shares.argmax(axis=1)
    times = shares.max(axis=1) / np.maximum(given, 1e-12)
    found = [
        Doubt(place, str(probe.labels[best[row]]), float(times[row]))
        for row, place in enumerate(asked)
        if times[row] > _EVIDENCE
    ]
    return sorted(found, key=lambda doubt: -doubt.times)


def _scores(classifier: SGDClassifier, features: Any) -> NDArray[np.float64]:
    """(rows, labels) decision values; of two labels scikit-learn gives one value, in favour of the second."""
    scores = classifier.decision_function(features)
    return np.stack([np.zeros_like(scores), scores], axis=1) if scores.ndim == 1 else scores


def _temperature(scores: NDArray[np.float64], given: NDArray[np.intp]) -> float:
    """What the scores of unseen rows must be divided by to be as sure as they are right: the one with the lowest loss
    (Guo et al. 2017, "On calibration of modern neural networks", arXiv:1706.04599), but at least 1. A probe that has
    learned little then finds little implausible. The rows that it is most wrong about do not count: their labels may
    be what is wrong."""
    rows = np.arange(len(given))
    believed = round((1 - _MAY_BE_WRONG) * len(given))

    def loss(log_temperature: float) -> float:
        losses = -log_softmax(scores / np.exp(log_temperature), axis=1)[rows, given]
        return float(np.partition(losses, believed - 1)[:believed].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(0.0, 5.0), method="bounded").x))

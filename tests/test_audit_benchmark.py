"""What the audit's benchmark plants, and what it counts."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
from adapterd.continual.audit.findings import Concern
from adapterd.continual.audit.sensitive import sensitive

from benchmarks import contradictions
from benchmarks.audit import scores
from benchmarks.drift import Pool, another_mix, mixed, same
from benchmarks.malformed import KINDS, malformed
from benchmarks.planting import Row, card, email, perturbed, plant, secret

WORDS = [
    f"{first}{second}" for first in ("bar", "cel", "dor", "fen", "gil") for second in ("ta", "mo", "ri", "sun", "pel")
]


def rows(count: int) -> list[Row]:
    """Rows whose label follows from their words, no two alike."""
    random = Random(1)
    found = []
    for _ in range(count):
        label = random.randrange(3)
        words = random.sample(WORDS[8 * label : 8 * label + 8], 6)
        found.append({"text": " ".join([*words, *random.sample(WORDS, 2)]), "label": "abc"[label]})
    return found


def test_every_fault_is_planted_in_rows_of_its_own() -> None:
    planted = plant(rows(400), seed=0)
    places = [place for places in planted.places.values() for place in places]
    assert len(places) == len(set(places))
    assert {concern: len(found) for concern, found in planted.places.items()} == {
        Concern.DUPLICATE: 16,
        Concern.NEAR_DUPLICATE: 16,
        Concern.CONTRADICTION: 16,
        Concern.LEAK: 16,
        Concern.PERSONAL: 32,
        Concern.SECRET: 16,
        Concern.LABEL_NOISE: 16,
    }
    for place in planted.places[Concern.DUPLICATE]:
        assert planted.rows[place - 1] == planted.clean[planted.sources[place] - 1]
    for place in planted.places[Concern.CONTRADICTION] | planted.places[Concern.LABEL_NOISE]:
        source = planted.sources.get(place, place)
        assert planted.rows[place - 1]["label"] != planted.clean[source - 1]["label"]
        assert place in planted.relabelled


def test_what_is_planted_is_what_it_is_called() -> None:
    random = Random(0)
    assert perturbed("is there a reason", random) != "is there a reason"
    for _ in range(50):
        assert [span.concern for span in sensitive(f"x {email(random)} x")] == [Concern.PERSONAL]
        assert [span.what for span in sensitive(f"x {card(random)} x")] == ["card"]
        assert {span.concern for span in sensitive(f"x {secret(random)} x")} == {Concern.SECRET}


def test_recall_and_precision_come_from_the_daemons_own_audit(tmp_path: Path) -> None:
    found = scores(plant(rows(400), seed=0), tmp_path)
    assert found[Concern.DUPLICATE] == (1.0, 1.0)
    assert found[Concern.SECRET] == (1.0, 1.0)
    assert all(0 <= value <= 1 for pair in found.values() for value in pair)


def test_malformed_files_are_seeded_and_of_every_kind() -> None:
    some = list(malformed(len(KINDS), 3))
    assert {file.kind for file in some} == set(KINDS)
    assert [file.name for file in some] == [file.name for file in malformed(len(KINDS), 3)]


def pool(seed: int) -> Pool:
    random = Random(seed)
    states = {0: [[random.random()] for _ in range(1000)]}
    return Pool(
        [f"{seed} {number}" for number in range(1000)],
        ["ab"[number % 2] for number in range(1000)],
        {layer: np.array(values) for layer, values in states.items()},
        [1] * 1000,
    )


def test_windows_of_the_drift_benchmark_are_of_what_they_say() -> None:
    before, now = same(pool(1), Random(0))
    assert set(before.texts).isdisjoint(now.texts)
    assert (len(before.texts), len(now.texts)) == (200, 200)
    _, now = mixed(pool(1), pool(2), 0.25, Random(0))
    assert sum(text.startswith("2 ") for text in now.texts) == 50
    _, now = another_mix(pool(1), Random(0))
    assert max(now.labels.count(label) for label in "ab") == pytest.approx(150, abs=2)


def test_drops_of_the_benchmark_of_contradictions_are_of_what_they_say() -> None:
    task, places = pool(1), list(range(100, 200))
    right = task.window(places).labels
    assert contradictions.clean(task, places, Random(0)).labels == right
    assert len(set(contradictions.flipped(task, places, Random(0)).labels)) == 1
    mixed_up = contradictions.shuffled(task, places, Random(0)).labels
    assert mixed_up != right
    assert sorted(mixed_up) == sorted(right)
    off_domain = contradictions.of_reviews(pool(2), task, places, Random(0))
    assert all(text.startswith("2 ") for text in off_domain.texts)
    assert sorted(off_domain.labels) == sorted(right)

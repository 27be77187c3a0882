"""Whether labels say of questions what earlier labels said of such questions."""

import numpy as np
import pytest
from adapterd.continual.concept_drift import contradiction
from adapterd.continual.input_drift import Window
from scipy import stats

LABELS = "abcd"
MIDDLES = np.random.default_rng(0).normal(size=(len(LABELS), 32))


def window(rows: int, seed: int, shift: float = 0.0, clarity: float = 1.0) -> Window:
    """Questions about four things, each with its label; `clarity`: how far apart the four are."""
    generator = np.random.default_rng(seed)
    things = generator.integers(0, len(LABELS), rows)
    states = clarity * MIDDLES[things] + generator.normal(size=(rows, 32)) + shift
    return Window(["text"] * rows, {8: states}, [10] * rows, [LABELS[thing] for thing in things])


def labelled(one: Window, labels: list[str]) -> Window:
    return Window(one.texts, one.states, one.lengths, labels)


def shuffled(one: Window) -> Window:
    return labelled(one, np.random.default_rng(9).permutation(one.labels).tolist())


def test_labels_that_go_with_earlier_ones_are_no_contradiction_however_unclear() -> None:
    alarms = [
        contradiction(window(200, seed, clarity=clarity), window(80, seed + 1000, clarity=clarity), moved=False)
        for seed in range(20)
        for clarity in (0.0, 0.4, 1.0)
    ]
    assert sum(alarm is not None for alarm in alarms) <= stats.binom(60, 0.01).ppf(0.99)


def test_one_label_in_the_place_of_another_is_named() -> None:
    now = window(100, 1)
    flipped = labelled(now, ["b" if label == "a" else label for label in now.labels])
    found = contradiction(window(400, 0), flipped, moved=False)
    assert found is not None
    assert (found.label, found.rows) == ("b", flipped.labels.count("b"))
    assert found.p_value < 0.001
    assert "rows labelled 'b' do not go with earlier ones" in found.said


def test_labels_at_random_contradict() -> None:
    found = contradiction(window(400, 0), shuffled(window(100, 1)), moved=False)
    assert found is not None
    assert found.rows in (100, *(shuffled(window(100, 1)).labels.count(label) for label in LABELS))


def test_new_questions_contradict_only_where_their_labels_do_not_even_follow_from_them() -> None:
    elsewhere = window(100, 1, shift=2.0)
    turned = labelled(elsewhere, [{"a": "b", "b": "c", "c": "d", "d": "a"}[label] for label in elsewhere.labels])
    assert contradiction(window(400, 0), turned, moved=False) is not None
    assert contradiction(window(400, 0), turned, moved=True) is None
    assert contradiction(window(400, 0), shuffled(elsewhere), moved=True) is not None


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        (window(400, 0), shuffled(window(19, 1))),
        (window(400, 0), labelled(window(100, 1), ["new"] * 100)),
        (window(400, 0), labelled(window(100, 1), [])),
        (labelled(window(400, 0), ["a"] * 400), shuffled(window(100, 1))),
        (window(8, 0), shuffled(window(100, 1))),
    ],
    ids=["few rows", "labels that nobody knows", "no labels", "one label", "few rows before"],
)
def test_where_too_little_is_known_nothing_is_said(reference: Window, current: Window) -> None:
    assert contradiction(reference, current, moved=False) is None


def test_the_verdict_is_seeded() -> None:
    now = shuffled(window(100, 1))
    assert contradiction(window(400, 0), now, moved=False) == contradiction(window(400, 0), now, moved=False)

"""A drop beside the rows that its champion has learned."""

import numpy as np
from adapterd.adapters.base import Base
from adapterd.continual.drop_drift import drop_drift, windows_of
from adapterd.continual.examples import Example, Kind
from adapterd.continual.input_drift import Window
from peft import PeftModel


def rows(drop: int, count: int) -> list[Example]:
    return [Example(Kind.LABEL, f"word {n} of {drop}", "good" if n % 2 else "bad") for n in range(count)]


def window(count: int, *, turned: bool = False) -> Window:
    """Two clouds, a label each, and other labels where `turned`."""
    states = np.random.default_rng(0).normal(size=(count, 4))
    states[::2] += 8
    labels = ["ab"[n % 2 ^ turned] for n in range(count)]
    return Window([f"text {n}" for n in range(count)], {1: states}, [5] * count, labels)


def test_questions_that_stay_and_labels_that_do_not_are_told_apart() -> None:
    same, turned = drop_drift(window(100), window(100), 0), drop_drift(window(100), window(100, turned=True), 0)
    assert same is not None
    assert turned is not None
    assert (same.moved.drifted, same.contradiction) == (False, None)
    assert not turned.moved.moved
    assert turned.contradiction is not None


def test_a_few_rows_say_nothing() -> None:
    assert drop_drift(window(100), window(5), 0) is None


def test_a_first_drop_has_nothing_to_be_held_against(tiny_base: Base, tiny_lora: PeftModel) -> None:
    assert windows_of(tiny_lora, tiny_base.tokenizer, {}, 1, rows(1, 30), 0) is None


def test_windows_are_of_the_history_and_of_the_drop(tiny_base: Base, tiny_lora: PeftModel) -> None:
    found = windows_of(tiny_lora, tiny_base.tokenizer, {1: rows(1, 30), 2: rows(2, 20)}, 3, rows(3, 25), 0)
    assert found is not None
    assert (len(found.before.texts), len(found.now.texts)) == (50, 25)
    assert list(found.now.texts) == [row.prompt for row in found.drawn]
    assert sorted(found.now.texts) == sorted(row.prompt for row in rows(3, 25))

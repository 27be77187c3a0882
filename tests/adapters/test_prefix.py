"""Behind a prefix that was read once, rows are judged as if it stood before each of them."""

import random

import pytest
from adapterd.adapters.base import Base
from adapterd.adapters.likeliest import Item, judge_right
from adapterd.adapters.prefix import Prefixed
from adapterd.adapters.scoring import score_choices

PREFIX = [7, 30, 81, 9, 112]


def items(seed: int) -> list[Item]:
    rng = random.Random(seed)

    def text(most: int) -> list[int]:
        return [rng.randrange(5, 200) for _ in range(rng.randint(1, most))]

    return [(text(9), text(4), [text(4) for _ in range(5)]) for _ in range(12)]


def test_judges_as_if_the_prefix_stood_before_every_row(tiny_base: Base) -> None:
    rows = items(1)
    whole = judge_right(tiny_base.model, [([*PREFIX, *prompt], right, others) for prompt, right, others in rows])
    behind = judge_right(Prefixed(tiny_base.model, PREFIX), rows)
    assert [one.best for one in behind] == [one.best for one in whole]
    assert [one.exact for one in behind] == [one.exact for one in whole]
    assert [one.score for one in behind] == pytest.approx([one.score for one in whole], abs=1e-4)


def test_scores_choices_as_if_the_prefix_stood_before_every_row(tiny_base: Base) -> None:
    rows = [(prompt, [right, *others]) for prompt, right, others in items(2)]
    whole = score_choices(tiny_base.model, [([*PREFIX, *prompt], choices) for prompt, choices in rows])
    behind = score_choices(Prefixed(tiny_base.model, PREFIX), rows)
    for found, wanted in zip(behind, whole, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)


def test_an_empty_prefix_is_refused(tiny_base: Base) -> None:
    with pytest.raises(ValueError, match="one token"):
        Prefixed(tiny_base.model, [])

"""Which rows a step takes, and what they count for."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from adapterd.continual.lessons import Curriculum, Rows, fitting_batch
from adapterd.continual.teacher import Soft, Taught
from adapterd.continual.template import Encoded
from hypothesis import given, settings
from hypothesis import strategies as st

NO_SOFT = Soft(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1))


def encoded(count: int, first: int) -> list[Encoded]:
    return [Encoded([first, index], [2]) for index in range(count)]


def taught(count: int, first: int) -> list[Taught]:
    return [Taught(row, NO_SOFT) for row in encoded(count, first)]


def plan(rows: Rows, **changes: Any) -> Curriculum:
    values: dict[str, Any] = {
        "batch_size": 16,
        "epochs": 3,
        "replay_share": 0.25,
        "replay_weight": 0.5,
        "distillation": 0.5,
        "anchor_rows": 1,
        "anchor_weight": 0.3,
        "seed": 0,
    }
    return Curriculum.plan(rows, **(values | changes))


@given(
    new=st.integers(1, 300), replay=st.integers(0, 80), general=st.integers(0, 10), share=st.sampled_from([0, 0.1, 0.5])
)
def test_an_epoch_takes_every_new_row_once_and_weights_sum_to_one_in_the_mean(
    new: int, replay: int, general: int, share: float
) -> None:
    rows = Rows(encoded(new, 1), taught(replay, 2), taught(general, 3))
    curriculum = plan(rows, replay_share=share)
    seen: Counter[int] = Counter()
    replayed = 0.0
    for step in range(curriculum.steps_per_epoch):
        lessons = curriculum.of_step(step)
        kinds = Counter(lesson.row.prompt_ids[0] for lesson in lessons)
        # Whole rows are taken, as many as are due by now.
        assert math.floor(curriculum.replayed) <= kinds[2] <= math.ceil(curriculum.replayed)
        assert math.floor(curriculum.general) <= kinds[3] <= math.ceil(curriculum.general) <= 1
        weight = {kind: sum(one.weight for one in lessons if one.row.prompt_ids[0] == kind) for kind in (1, 2)}
        assert weight[1] == pytest.approx(0.5 if replay and share else 1.0)
        replayed += weight[2]
        seen.update(lesson.row.prompt_ids[1] for lesson in lessons if lesson.row.prompt_ids[0] == 1)
    if replay and share:
        of_one_row = 0.5 / curriculum.replayed
        assert replayed == pytest.approx(0.5 * curriculum.steps_per_epoch, abs=of_one_row)
    else:
        assert not replayed
    assert seen == Counter(range(new))


def test_replayed_rows_are_all_met_before_any_is_met_twice() -> None:
    rows = Rows(encoded(300, 1), taught(100, 2))
    curriculum = plan(rows)
    met = [
        lesson.row.prompt_ids[1] for step in range(25) for lesson in curriculum.of_step(step) if lesson.soft is NO_SOFT
    ]
    assert sorted(met) == list(range(100))


def test_the_weights_are_rho_beta_and_eta() -> None:
    rows = Rows(encoded(300, 1), taught(40, 2), taught(9, 3))
    lessons = plan(rows, replay_weight=0.4, distillation=2.0, anchor_weight=0.3).of_step(0)
    new, replayed, general = lessons[:12], lessons[12:16], lessons[16:]
    assert [lesson.weight for lesson in new] == pytest.approx([0.6 / 12] * 12)
    assert [lesson.weight for lesson in replayed] == pytest.approx([0.1] * 4)
    assert [lesson.soft_weight for lesson in replayed] == pytest.approx([0.2] * 4)
    assert [lesson.weight for lesson in general] == [0.0]
    assert [lesson.soft_weight for lesson in general] == pytest.approx([0.3])


@pytest.mark.parametrize(("earlier", "rho"), [(1, 0.5), (2, 2 / 3), (3, 0.75), (9, 0.8)])
def test_each_earlier_drop_counts_as_much_as_the_new_one_up_to_a_bound(earlier: int, rho: float) -> None:
    rows = Rows(encoded(300, 1), taught(40, 2), earlier=earlier)
    lessons = plan(rows, replay_weight=0.8).of_step(0)
    weight = {kind: sum(one.weight for one in lessons if one.row.prompt_ids[0] == kind) for kind in (1, 2)}
    assert weight == pytest.approx({1: 1 - rho, 2: rho})


def test_steps_follow_from_the_seed_and_the_step_alone() -> None:
    rows = Rows(encoded(60, 1), taught(20, 2), taught(5, 3))
    assert plan(rows).of_step(5) == plan(rows).of_step(5)
    assert plan(rows).of_step(5) != replace(plan(rows), seed=1).of_step(5)


@pytest.mark.parametrize(("rows", "batch"), [(10_000, 16), (171, 16), (55, 5), (8, 4)])
def test_a_small_drop_has_smaller_batches(rows: int, batch: int) -> None:
    assert fitting_batch(rows, 16, 3) == batch
    assert fitting_batch(rows, 2, 3) == 2


def long(count: int, first: int, length: int) -> list[Taught]:
    return [Taught(Encoded([first, *range(length - 2)], [2]), NO_SOFT) for _ in range(count)]


@settings(deadline=None, max_examples=40)
@given(
    new=st.integers(60, 400),
    length=st.integers(3, 60),
    replayed=st.integers(3, 60),
    general=st.integers(2, 40),
)
def test_a_drop_costs_less_than_twice_its_own_tokens(new: int, length: int, replayed: int, general: int) -> None:
    rows = Rows([taught.row for taught in long(new, 1, length)], long(200, 2, replayed), long(64, 3, general))
    curriculum = plan(rows, replay_share=0.4)
    tokens: Counter[int] = Counter()
    for step in range(curriculum.steps_per_epoch):
        for lesson in curriculum.of_step(step):
            tokens[lesson.row.prompt_ids[0]] += len(lesson.row)
    room = Curriculum.tokens_for_replay(rows.new, 1, 0.4)
    # Rows are whole, so an epoch has one of them more or less; and the last batch of new rows is not full.
    assert room - replayed <= tokens[2] <= room + 10 * length + replayed
    assert sum(tokens.values()) < 2 * tokens[1] + 15 * length + replayed + general


def test_general_text_that_is_not_in_every_step_counts_for_all() -> None:
    rows = Rows(encoded(300, 1), general=long(9, 3, 40))
    curriculum = plan(rows)
    assert 0 < curriculum.general < 1
    weights = [lesson.soft_weight for step in range(18) for lesson in curriculum.of_step(step)]
    assert sum(weights) == pytest.approx(0.3 * 18, abs=0.3 / curriculum.general)


def test_a_share_that_is_no_whole_number_of_rows_holds_over_the_steps() -> None:
    rows = Rows(encoded(300, 1), taught(100, 2))
    curriculum = plan(rows, batch_size=8, replay_share=0.35)
    counts = [len(curriculum.of_step(step)) - 5 for step in range(60)]
    assert set(counts) == {2, 3}
    assert sum(counts) == math.ceil(60 * 5 * 0.35 / 0.65)

"""Which rows a step takes, and what they count for."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from adapterd.continual.batches import epoch_order
from adapterd.continual.lessons import Curriculum, Portions, Rows, fitting_batch
from adapterd.continual.teacher import Soft, Taught
from adapterd.continual.template import Encoded
from hypothesis import example, given, settings
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
        "replay_share": 0.5,
        "replay_cost": 0.5,
        "distillation": 0.5,
        "anchor_rows": 1,
        "anchor_weight": 0.3,
        "seed": 0,
    }
    return Curriculum.plan(rows, **(values | changes))


@given(
    new=st.integers(1, 300),
    replay=st.integers(0, 80),
    general=st.integers(0, 10),
    share=st.sampled_from([0, 0.1, 0.5, 0.8]),
    cost=st.sampled_from([0, 0.5, 1]),
)
@example(new=65, replay=1, general=0, share=0.8, cost=1)
def test_new_rows_are_met_in_turn_and_weights_sum_to_one_in_the_mean(
    new: int, replay: int, general: int, share: float, cost: float
) -> None:
    rows = Rows(encoded(new, 1), taught(replay, 2), taught(general, 3), earlier=4)
    curriculum = plan(rows, replay_share=share, replay_cost=cost)
    rho = share if replay else 0.0
    seen: Counter[int] = Counter()
    weights = {1: 0.0, 2: 0.0}
    for step in range(curriculum.steps):
        lessons = curriculum.of_step(step)
        kinds = Counter(lesson.row.prompt_ids[0] for lesson in lessons)
        # Whole rows are taken, as many as are due by now.
        for kind, due in ((1, curriculum.new), (2, curriculum.replayed), (3, curriculum.general)):
            assert math.floor(due) <= kinds[kind] <= math.ceil(due)
        for kind in weights:
            weights[kind] += sum(one.weight for one in lessons if one.row.prompt_ids[0] == kind)
        seen.update(lesson.row.prompt_ids[1] for lesson in lessons if lesson.row.prompt_ids[0] == 1)
    # A row more may be due at the very end, by the last bit of how many are a step.
    assert weights[1] == pytest.approx((1 - rho) * curriculum.steps, abs=1.0001 * (1 - rho) / curriculum.new)
    if rho:
        assert weights[2] == pytest.approx(rho * curriculum.steps, abs=1.0001 * rho / curriculum.replayed)
    else:
        assert not weights[2]
    assert set(seen) == set(range(new))  # each once at least
    assert max(seen.values()) - min(seen.values()) <= 1


@given(earlier=st.integers(0, 30), epochs=st.integers(1, 5), share=st.floats(0, 0.99), cost=st.floats(0, 2))
def test_a_drop_takes_the_same_tokens_however_long_the_history(
    earlier: int, epochs: int, share: float, cost: float
) -> None:
    portions = Portions.of(earlier, epochs=epochs, replay_share=share, replay_cost=cost)
    assert portions.passes >= 1
    assert portions.replayed >= 0
    replaying = earlier and share
    assert portions.passes + portions.replayed == pytest.approx(epochs * (1 + cost) if replaying else epochs)


@pytest.mark.parametrize(("earlier", "passes"), [(0, 3), (1, 2.34), (2, 1.56), (3, 1.17), (9, 1.17)])
def test_the_longer_the_history_the_fewer_passes_over_the_new_rows(earlier: int, passes: float) -> None:
    portions = Portions.of(earlier, epochs=3, replay_share=0.75, replay_cost=0.56)
    assert portions.passes == pytest.approx(passes)
    assert portions.rho == pytest.approx(portions.replayed / (portions.passes + portions.replayed))


def test_new_rows_are_met_once_where_that_leaves_less_for_replay_than_its_share() -> None:
    assert Portions.of(9, epochs=1, replay_share=0.75, replay_cost=0.5) == (1.0, 0.75, 0.5)


def test_replayed_rows_are_all_met_before_any_is_met_twice() -> None:
    rows = Rows(encoded(300, 1), taught(100, 2))
    curriculum = plan(rows, replay_share=0.25)
    met = [
        lesson.row.prompt_ids[1] for step in range(25) for lesson in curriculum.of_step(step) if lesson.soft is NO_SOFT
    ]
    assert sorted(met) == list(range(100))


def test_the_weights_are_rho_beta_and_eta() -> None:
    rows = Rows(encoded(300, 1), taught(40, 2), taught(9, 3))
    lessons = plan(rows, replay_share=0.25, distillation=2.0, anchor_weight=0.3).of_step(0)
    new, replayed, general = lessons[:12], lessons[12:16], lessons[16:]
    assert [lesson.weight for lesson in new] == pytest.approx([0.75 / 12] * 12)
    assert [lesson.weight for lesson in replayed] == pytest.approx([0.25 / 4] * 4)
    assert [lesson.soft_weight for lesson in replayed] == pytest.approx([0.5 / 4] * 4)
    assert [lesson.weight for lesson in general] == [0.0]
    assert [lesson.soft_weight for lesson in general] == pytest.approx([0.3])


def test_a_teacher_is_followed_as_far_as_it_is_right() -> None:
    sure, unsure = (
        Taught(Encoded([2, 0], [2]), NO_SOFT, loss=0.0),
        Taught(Encoded([2, 1], [2]), NO_SOFT, loss=math.log(4)),
    )
    curriculum = plan(Rows(encoded(300, 1), [sure, unsure] * 20), replay_share=0.25, distillation=2.0)
    replayed = curriculum.of_step(0)[12:16]
    weights = {lesson.row.prompt_ids[1]: (lesson.weight, lesson.soft_weight) for lesson in replayed}
    assert weights == {0: pytest.approx((0.25 / 4, 0.5 / 4)), 1: pytest.approx((0.25 / 4, 0.125 / 4))}


@pytest.mark.parametrize(("earlier", "rho"), [(1, 0.5), (2, 2 / 3), (3, 0.75), (9, 0.8)])
def test_each_earlier_drop_counts_as_much_as_the_new_one_up_to_a_bound(earlier: int, rho: float) -> None:
    rows = Rows(encoded(300, 1), taught(40, 2), earlier=earlier)
    curriculum = plan(rows, replay_share=0.8, replay_cost=1.0)
    assert curriculum.rho == pytest.approx(rho)
    assert curriculum.new == pytest.approx((1 - rho) * 16)
    assert curriculum.replayed == pytest.approx(rho * 16)


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
def test_a_drop_costs_less_than_twice_what_its_own_rows_alone_cost(
    new: int, length: int, replayed: int, general: int
) -> None:
    rows = Rows([taught.row for taught in long(new, 1, length)], long(200, 2, replayed), long(64, 3, general))
    curriculum = plan(rows, replay_share=0.75, replay_cost=0.56)
    tokens: Counter[int] = Counter()
    for step in range(curriculum.steps):
        for lesson in curriculum.of_step(step):
            tokens[lesson.row.prompt_ids[0]] += len(lesson.row)
    alone = 3 * new * length
    # Rows are whole, so there is one more or less, and the last step is full.
    assert tokens[1] + tokens[2] == pytest.approx(1.56 * alone, abs=17 * length + replayed)
    assert tokens[3] <= 0.1 * alone + 2 * (length + general)


def test_general_text_that_is_not_in_every_step_counts_for_all() -> None:
    rows = Rows(encoded(300, 1), general=long(9, 3, 40))
    curriculum = plan(rows)
    assert 0 < curriculum.general < 1
    weights = [lesson.soft_weight for step in range(18) for lesson in curriculum.of_step(step)]
    assert sum(weights) == pytest.approx(0.3 * 18, abs=0.3 / curriculum.general)


def test_a_share_that_is_no_whole_number_of_rows_holds_over_the_steps() -> None:
    rows = Rows(encoded(300, 1), taught(100, 2))
    curriculum = plan(rows, batch_size=8, replay_share=0.35)
    counts = [sum(lesson.soft is not None for lesson in curriculum.of_step(step)) for step in range(60)]
    assert set(counts) == {2, 3}
    assert sum(counts) == 60 * 8 * 0.35


def test_a_large_drop_is_shuffled_once_a_pass_and_not_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled: list[int] = []

    def order(rows: Sequence[Encoded], size: int, seed: int) -> list[list[int]]:
        shuffled.append(seed)
        return epoch_order(rows, size, seed)

    monkeypatch.setattr("adapterd.continual.lessons.epoch_order", order)
    curriculum = plan(Rows(encoded(400, 1), taught(200, 2), earlier=1))
    in_turn = [curriculum.of_step(step) for step in range(curriculum.steps)]
    passes = curriculum.steps * (curriculum.new / 400 + curriculum.replayed / 200)
    assert len(shuffled) == len(set(shuffled)) <= passes + 2
    # And a training that begins in the middle takes the same steps.
    again = plan(curriculum.rows)
    assert [again.of_step(step) for step in range(40, 50)] == in_turn[40:50]
    assert again.of_step(3) == in_turn[3]

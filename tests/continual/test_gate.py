"""The gate decides by figures alone."""

from dataclasses import replace
from random import Random

import pytest
from adapterd.continual.answers import OFF_TASK, Diversity, Written
from adapterd.continual.evaluate import Figures
from adapterd.continual.gate import Decision, Margins, decide
from hypothesis import given
from hypothesis import strategies as st

MARGINS = Margins(margin_accuracy=0.05, margin_loss=0.1, min_gain=0.0)


def figures(losses: list[float], right: int | None = None, labels: str = "") -> Figures:
    """`right` rows of a classification are right, or the rows are none; a letter of `labels` for each row."""
    correct = [None] * len(losses) if right is None else [index < right for index in range(len(losses))]
    ids = tuple(str(index) for index in range(len(losses)))
    unasked = (None,) * len(losses)
    return Figures(ids, tuple(losses), tuple(correct), tuple(labels) or ("",) * len(losses), unasked)


def test_promotes_when_the_new_drop_improves_and_there_is_no_earlier_one() -> None:
    verdict = decide(1, {1: figures([0.5] * 10, 9)}, {1: figures([2.0] * 10, 3)}, MARGINS)
    assert verdict.decision is Decision.PROMOTE
    assert "0.300 → 0.900" in verdict.reason


def test_rejects_when_the_new_drop_does_not_improve() -> None:
    verdict = decide(1, {1: figures([2.1] * 10, 3)}, {1: figures([2.0] * 10, 3)}, MARGINS)
    assert verdict.decision is Decision.REJECT
    assert "does not improve" in verdict.reason


def test_a_candidate_that_is_the_champion_is_told_from_one_that_is_worse() -> None:
    verdict = decide(1, {1: figures([2.0] * 10, 3)}, {1: figures([2.0] * 10, 3)}, MARGINS)
    assert verdict.decision is Decision.REJECT
    assert "new drop 1 has taught nothing: no weights were better on validation rows" in verdict.reason


def test_a_rise_by_chance_on_few_rows_of_known_labels_is_outweighed_by_all_held_out_rows_together() -> None:
    waver = [0.3, -0.2] * 5  # 0.05 in the mean, and a standard error of 0.08
    new, new_before = figures([1.0 + change for change in waver], 8, "ab" * 5), figures([1.0] * 10, 8, "ab" * 5)
    theirs = {1: figures([1.0] * 60, 50, "ab" * 30), 2: new_before}
    better, same = figures([0.9] * 60, 50, "ab" * 30), theirs[1]
    verdict = decide(2, {1: better, 2: new}, theirs, MARGINS)
    assert verdict.decision is Decision.PROMOTE
    assert "loss 1.000 → 1.050; 1.000 → 0.921 over all held-out rows" in verdict.reason
    assert decide(2, {1: same, 2: new}, theirs, MARGINS).decision is Decision.REJECT
    surely = figures([1.05, 1.06] * 5, 8, "ab" * 5)
    assert decide(2, {1: better, 2: surely}, theirs, MARGINS).decision is Decision.REJECT
    others = [replace(one, labels=tuple("ac" * 5)) for one in (new, new_before)]
    assert decide(2, {1: better, 2: others[0]}, {1: same, 2: others[1]}, MARGINS).decision is Decision.REJECT


def test_a_rise_on_rows_without_labels_is_outweighed_by_nothing() -> None:
    waver = [0.3, -0.2] * 5
    ours = {1: figures([0.9] * 60), 2: figures([1.0 + change for change in waver])}
    theirs = {1: figures([1.0] * 60), 2: figures([1.0] * 10)}
    verdict = decide(2, ours, theirs, MARGINS)
    assert verdict.decision is Decision.REJECT
    assert "new drop 2 does not improve (loss 1.000 → 1.050)" in verdict.reason


def test_rejects_a_better_loss_with_much_worse_accuracy() -> None:
    verdict = decide(1, {1: figures([1.0] * 20, 10)}, {1: figures([2.0] * 20, 15)}, MARGINS)
    assert verdict.decision is Decision.REJECT


def test_rejects_when_an_earlier_drop_loses_accuracy_beyond_the_margin_and_names_it() -> None:
    ours = {1: figures([0.5] * 20, 14), 2: figures([0.5] * 20, 18)}
    theirs = {1: figures([0.5] * 20, 18), 2: figures([1.5] * 20, 8)}
    verdict = decide(2, ours, theirs, MARGINS)
    assert verdict.decision is Decision.REJECT
    assert "drop 1 is forgotten (accuracy 0.900 → 0.700" in verdict.reason
    assert [check.passed for check in verdict.checks] == [False, True]


def test_one_lost_row_of_a_small_drop_is_no_evidence_of_forgetting() -> None:
    ours = {1: figures([0.5] * 8, 6), 2: figures([0.5] * 8, 8)}
    theirs = {1: figures([0.5] * 8, 7), 2: figures([1.5] * 8, 3)}
    assert decide(2, ours, theirs, MARGINS).decision is Decision.PROMOTE


def test_three_lost_rows_of_ten_are_no_evidence_where_the_loss_has_fallen_and_are_where_it_has_risen() -> None:
    new = {2: figures([0.5] * 10, 10)}, {2: figures([1.5] * 10, 3)}
    theirs = {1: figures([0.5] * 10, 9), **new[1]}
    kept = decide(2, {1: figures([0.4] * 10, 6), **new[0]}, theirs, MARGINS)
    lost = decide(2, {1: figures([0.51] * 10, 6), **new[0]}, theirs, MARGINS)
    assert (kept.decision, lost.decision) == (Decision.PROMOTE, Decision.REJECT)


def test_generation_is_kept_by_its_loss() -> None:
    new = {2: figures([1.0] * 10)}, {2: figures([2.0] * 10)}
    kept = decide(2, {1: figures([1.09] * 10), **new[0]}, {1: figures([1.0] * 10), **new[1]}, MARGINS)
    lost = decide(2, {1: figures([1.11] * 10), **new[0]}, {1: figures([1.0] * 10), **new[1]}, MARGINS)
    assert (kept.decision, lost.decision) == (Decision.PROMOTE, Decision.REJECT)


def test_refuses_to_compare_different_rows() -> None:
    other = Figures(("a", "b"), (1.0, 1.0), (None, None), ("", ""), (None, None))
    with pytest.raises(ValueError, match="not judged on the same rows"):
        decide(1, {1: figures([1.0, 1.0])}, {1: other}, MARGINS)


def test_rejects_without_held_out_rows() -> None:
    verdict = decide(1, {1: figures([])}, {1: figures([])}, MARGINS)
    assert verdict.decision is Decision.REJECT
    assert "no held-out rows" in verdict.reason


@given(st.integers(2, 60), st.data())
def test_a_fall_beyond_the_margin_rejects_if_it_is_large_or_beyond_chance(rows: int, data: st.DataObject) -> None:
    before = data.draw(st.integers(0, rows))
    after = data.draw(st.integers(0, rows))
    rise = data.draw(st.sampled_from([-0.01, 0.0, 0.01]))
    ours = {1: figures([0.5 + rise] * rows, after), 2: figures([0.5] * rows, rows)}
    theirs = {1: figures([0.5] * rows, before), 2: figures([1.0] * rows, 0)}
    lost = before - after
    fall = lost / rows - 1e-9
    # Seven rows lost and none won have a probability of 1/128, the first below one in a hundred; four one of 1/16.
    large = fall > 0.15 and lost >= (2 if rise > 0 and rows > 2 else 4)
    expected = fall > 0.05 and (large or lost >= 7)
    assert (decide(2, ours, theirs, MARGINS).decision is Decision.REJECT) is expected


def answers(correct: list[bool]) -> Figures:
    """A drop of two labels in turn, each row answered as given."""
    rows = len(correct)
    ids, unasked = tuple(str(index) for index in range(rows)), (None,) * rows
    return Figures(ids, (0.5,) * rows, tuple(correct), tuple("ab"[index % 2] for index in range(rows)), unasked)


def noisy(correct: list[bool], rise: float, random: Random) -> Figures:
    """The same with losses that come and go from row to row, and `rise` more in the mean."""
    one = answers(correct)
    return replace(one, losses=tuple(0.5 + rise + random.gauss(0.0, 0.3) for _ in correct))


def test_earlier_drops_that_together_lose_too_much_reject_though_each_alone_may_be_chance() -> None:
    before = [True] * 50
    after = [False] * 4 + [True] * 46  # 4 of 50: a fall of 8 %, p = 1/16
    new = answers([True] * 50), figures([1.5] * 50, 0)
    one = decide(9, {1: answers(after), 9: new[0]}, {1: answers(before), 9: new[1]}, MARGINS)
    assert one.decision is Decision.PROMOTE
    ours = {**{drop: answers(after) for drop in (1, 2, 3)}, 9: new[0]}
    theirs = {**{drop: answers(before) for drop in (1, 2, 3)}, 9: new[1]}
    verdict = decide(9, ours, theirs, MARGINS)
    assert verdict.decision is Decision.REJECT
    assert "earlier drops together are forgotten (accuracy 1.000 → 0.920 of 150 rows)" in verdict.reason
    assert all(check.passed for check in verdict.checks)


@pytest.mark.parametrize(("rows", "right", "changed"), [(50, 0.9, 0.05), (25, 0.8, 0.15), (10, 0.8, 0.15)])
def test_a_candidate_that_is_as_good_is_seldom_rejected_over_many_drops_that_waver(
    rows: int, right: float, changed: float
) -> None:
    """Of the right answers of each of six drops a share is lost by chance, and as many are won."""
    random, rejected = Random(0), 0
    new = answers([True] * 50), figures([1.5] * 50, 0)
    won = changed * right / (1 - right)
    for _ in range(200):
        before = {drop: [random.random() < right for _ in range(rows)] for drop in range(1, 7)}
        after = {
            drop: [not was if random.random() < (changed if was else won) else was for was in each]
            for drop, each in before.items()
        }
        ours = {**{drop: noisy(each, 0.0, random) for drop, each in after.items()}, 9: new[0]}
        theirs = {**{drop: noisy(each, 0.0, random) for drop, each in before.items()}, 9: new[1]}
        rejected += decide(9, ours, theirs, MARGINS).decision is Decision.REJECT
    assert rejected <= 14


def test_a_candidate_that_forgets_a_third_of_one_drop_of_six_is_mostly_rejected() -> None:
    random, rejected = Random(0), 0
    new = answers([True] * 50), figures([1.5] * 50, 0)
    for _ in range(200):
        before = {drop: [random.random() < 0.8 for _ in range(25)] for drop in range(1, 7)}
        after = {**before, 3: [was and random.random() > 0.45 for was in before[3]]}
        ours = {**{drop: noisy(each, 0.3 * (drop == 3), random) for drop, each in after.items()}, 9: new[0]}
        theirs = {**{drop: noisy(each, 0.0, random) for drop, each in before.items()}, 9: new[1]}
        rejected += decide(9, ours, theirs, MARGINS).decision is Decision.REJECT
    assert rejected >= 180


def test_a_rise_of_the_loss_that_chance_explains_is_no_forgetting_and_one_that_it_does_not_is() -> None:
    new = {2: figures([1.0] * 20, 20)}, {2: figures([2.0] * 20, 5)}
    before = [0.2 + 0.01 * index for index in range(20)]
    one_row = [*before[:-1], before[-1] + 4.0]  # a mean rise of 0.2, all of it in one row
    every_row = [loss + 0.2 + 0.001 * index for index, loss in enumerate(before)]
    theirs = {1: figures(before, 20), **new[1]}
    assert decide(2, {1: figures(one_row, 20), **new[0]}, theirs, MARGINS).decision is Decision.PROMOTE
    verdict = decide(2, {1: figures(every_row, 20), **new[0]}, theirs, MARGINS)
    assert verdict.decision is Decision.REJECT
    assert "drop 1 is forgotten" in verdict.reason


def test_one_label_that_is_lost_rejects_where_the_drops_as_a_whole_are_kept() -> None:
    # Four drops of 50 rows, two of label x each: a fall of 4 % in each drop, within the margin.
    labels = "x" * 2 + "y" * 48
    reversed_labels = "".join(reversed(labels))
    ours, theirs = {}, {}
    for drop in range(1, 9):
        theirs[drop] = figures([0.5] * 50, 50, reversed_labels)
        ours[drop] = figures([0.5] * 50, 48, reversed_labels)
    ours[9], theirs[9] = figures([0.5] * 20, 20, "z" * 20), figures([1.0] * 20, 5, "z" * 20)
    verdict = decide(9, ours, theirs, MARGINS)
    assert verdict.decision is Decision.REJECT
    assert verdict.reason == verdict.objections[0]
    assert "label 'x' is forgotten (16 → 0 of 16" in verdict.reason


def test_a_drop_whose_known_labels_stay_unlearnable_contradicts_what_is_known() -> None:
    labels = "ab" * 20
    theirs = {1: figures([0.5] * 40, 38, labels), 2: figures([3.0] * 40, 8, labels)}
    shuffled = {1: figures([0.5] * 40, 38, labels), 2: figures([1.5] * 40, 18, labels)}
    learned = {1: figures([0.5] * 40, 38, labels), 2: figures([0.6] * 40, 37, labels)}
    verdict = decide(2, shuffled, theirs, MARGINS)
    assert verdict.decision is Decision.REJECT
    assert "contradicts what is known: even after learning it, 18 of 40" in verdict.reason
    assert decide(2, learned, theirs, MARGINS).decision is Decision.PROMOTE


def test_new_labels_that_are_hard_contradict_nothing() -> None:
    theirs = {1: figures([0.5] * 40, 40, "ab" * 20), 2: figures([6.0] * 40, 0, "cd" * 20)}
    ours = {1: figures([0.5] * 40, 40, "ab" * 20), 2: figures([1.0] * 40, 20, "cd" * 20)}
    assert decide(2, ours, theirs, MARGINS).decision is Decision.PROMOTE


def test_a_candidate_that_has_lost_general_language_is_rejected() -> None:
    new = {1: figures([0.5] * 10, 9)}, {1: figures([2.0] * 10, 3)}
    base = [3.0 + 0.1 * n for n in range(40)]
    kept = figures([loss + 0.1 + 0.001 * n for n, loss in enumerate(base)])
    lost = figures([loss + 0.5 + 0.001 * n for n, loss in enumerate(base)])
    assert decide(1, *new, MARGINS, general=(kept, figures(base))).decision is Decision.PROMOTE
    verdict = decide(1, *new, MARGINS, general=(lost, figures(base)))
    assert verdict.decision is Decision.REJECT
    assert "general language is lost" in verdict.reason


def test_what_only_went_too_far_is_told_from_what_speaks_against_the_drop_itself() -> None:
    new, new_before = figures([0.5] * 20, 18, "cd" * 10), figures([2.0] * 20, 0, "cd" * 10)
    rise = [0.5 + 0.3 + 0.001 * n for n in range(40)]
    theirs = {1: figures([0.5] * 40, 40, "ab" * 20), 2: new_before}
    forgets = decide(2, {1: figures(rise, 40, "ab" * 20), 2: new}, theirs, MARGINS)
    assert (forgets.decision, forgets.went_too_far) == (Decision.REJECT, True)
    label_lost = replace(figures(rise, 40, "ab" * 20), correct=tuple(n % 2 == 0 for n in range(40)))
    assert not decide(2, {1: label_lost, 2: new}, theirs, MARGINS).went_too_far
    learns_nothing = decide(2, {1: figures(rise, 40, "ab" * 20), 2: new_before}, theirs, MARGINS)
    assert not learns_nothing.went_too_far
    assert not decide(2, {1: theirs[1], 2: new}, theirs, MARGINS).went_too_far


BETTER = {1: figures([0.5] * 40, 36)}, {1: figures([2.0] * 40, 10)}


def test_the_golden_set_is_kept_like_an_earlier_drop_and_called_by_its_name() -> None:
    ours, theirs = ({**one, 7: figures([1.0] * 40, right)} for one, right in zip(BETTER, (20, 30), strict=True))
    verdict = decide(1, ours, theirs, MARGINS, golden=7)
    assert verdict.decision is Decision.REJECT
    assert "the golden set is forgotten (accuracy 0.750 → 0.500" in verdict.reason
    kept = decide(1, ours, {**theirs, 7: ours[7]}, MARGINS, golden=7)
    assert kept.decision is Decision.PROMOTE
    assert kept.reason.endswith("golden set kept")


def test_a_base_with_examples_that_does_as_well_is_told_of_and_rejects_nothing() -> None:
    verdict = decide(1, *BETTER, MARGINS, few_shot=figures([0.6] * 20, 19))
    assert verdict.decision is Decision.PROMOTE
    (note,) = verdict.notes
    assert "accuracy 0.950 → 1.000" in note
    assert "on 20 rows" in note
    assert "has not proved worth it" in verdict.reason


def test_nothing_is_said_of_a_base_with_examples_that_does_clearly_worse() -> None:
    assert decide(1, *BETTER, MARGINS, few_shot=figures([2.0] * 40, 20)).notes == ()


def test_generation_is_held_against_examples_in_the_prompt_by_its_loss() -> None:
    better = {1: figures([1.0 + n / 10 for n in range(8)])}, {1: figures([2.0] * 8)}
    as_well, worse = figures([0.9 + n / 10 for n in range(8)]), figures([2.0 + n / 8 for n in range(8)])
    assert decide(1, *better, MARGINS, few_shot=as_well).notes
    assert not decide(1, *better, MARGINS, few_shot=worse).notes


def wrote(distinct: float | None, off_task_answers: int = 0) -> Written:
    return Written(distinct, 0.9, off_task_answers)


def test_answers_that_repeat_themselves_are_rejected() -> None:
    verdict = decide(1, *BETTER, MARGINS, diversity=Diversity(wrote(0.2), wrote(0.7), 0.8))
    assert verdict.decision is Decision.REJECT
    assert "repeat themselves" in verdict.reason


@pytest.mark.parametrize(("base", "right"), [(0.3, 0.8), (0.9, 0.3), (0.9, None), (None, 0.8)])
def test_answers_may_be_as_uniform_as_right_ones_or_the_bases(base: float | None, right: float | None) -> None:
    verdict = decide(1, *BETTER, MARGINS, diversity=Diversity(wrote(0.2), wrote(base), right))
    assert verdict.decision is Decision.PROMOTE


def test_a_base_that_was_not_asked_is_no_evidence() -> None:
    verdict = decide(1, *BETTER, MARGINS, diversity=Diversity(wrote(0.6), None, 0.8))
    assert (verdict.decision, verdict.notes) == (Decision.PROMOTE, ())


def test_task_answers_to_questions_off_the_task_are_told_of() -> None:
    confused = Diversity(wrote(None, len(OFF_TASK)), wrote(None), None)
    verdict = decide(1, *BETTER, MARGINS, diversity=confused)
    assert verdict.decision is Decision.PROMOTE
    assert "questions off the task" in verdict.notes[0]

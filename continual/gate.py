"""Whether a candidate becomes champion: a pure function of what both reach on the same held-out rows.

Six questions, each of which can reject:

1. *Is the new drop learned?* Its loss must fall, and its accuracy not fall by more than a margin. Of few rows it may
   rise by chance: where all have labels that earlier drops have, and chance explains a rise (1 in 20, paired t-test),
   the loss must fall over all held-out rows together.
2. *Is every earlier drop kept?* Not worse by more than a margin, in a way that chance does not explain: accuracy, by an
   exact McNemar test, each drop for itself and all together; and the loss, by a paired t-test. Few rows prove little,
   so a fall of accuracy by three margins, and two rows at least, needs less proof: 1 in 10, of answers or of the loss.
3. *Is every label kept?* Over the earlier drops together, no label may lose answers by an exact McNemar test: a drop
   in which one label is wrong spoils little of the whole and all of that label.
4. *Does the drop go with what is known?* On rows of labels that earlier drops had, the candidate, which has learned
   this drop, must not be right less often than on earlier rows (Fisher's exact test): what cannot be learned beside the
   rest contradicts it, or its labels are noise.
5. *Does the base still speak?* On the probe of general text, the candidate's loss must not be above the base's by more
   than a margin, in a way that a paired t-test does not put down to chance.
6. *Has it still something to say?* Answers that it writes must not repeat themselves (distinct-2, see `answers.py`)
   over twice as much as right answers do and as the base's do.

A golden set is judged like an earlier drop. Two more things are said and reject nothing: that a base with examples in
its prompt does as well, so that training is not worth it, and that questions off the task get the task's answers.

Tests of many labels or drops share their level (Bonferroni): a task with much history is not rejected by chance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from .answers import Diversity
from .evaluate import Figures
from .objections import collapsed, compared, confused, contradicts_earlier, general_lost, labels_lost, not_worth_it
from .paired import p_answers_lost, p_losses_rose

# The chance from which on a rise of the new drop's loss is put down to it: so many of the drops that neither teach nor
# harm are rejected for it.
_RISE_BY_CHANCE = 0.05
# Rows that a fall of accuracy has to lose at least; and the margins from which on it is large, and the level then.
_MIN_ROWS_LOST, _LARGE_FALL, _LARGE_FALL_LEVEL = 2, 3, 0.1


class Decision(StrEnum):
    """What happens to a candidate."""

    PROMOTE = "promote"
    REJECT = "reject"


@dataclass(frozen=True)
class Margins:
    """As `[gate]` in the settings: shares of rows, nats per token, and the level of each question's tests."""

    margin_accuracy: float = 0.05
    margin_loss: float = 0.10
    margin_general: float = 0.30
    min_gain: float = 0.0
    level: float = 0.01


@dataclass(frozen=True)
class Check:
    """One drop's part of the verdict. Changes are candidate minus reference: nats per token, and a share of rows.

    `p_value`: that the loss rose by so much by chance.
    """

    drop: int
    new: bool
    passed: bool
    loss_change: float
    accuracy_change: float | None
    p_value: float
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """The decision, one sentence why, what each drop contributed, what else was found against the candidate, and what
    a person should know though it decides nothing.

    `went_too_far`: it is rejected for nothing but what it has forgotten of other drops, each as a whole, or of general
    text: a smaller step in the same direction may do (`rescue.py`).
    """

    decision: Decision
    reason: str
    checks: tuple[Check, ...]
    objections: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    went_too_far: bool = False


def decide(
    new_drop: int,
    candidate: Mapping[int, Figures],
    reference: Mapping[int, Figures],
    margins: Margins,
    *,
    golden: int | None = None,
    general: tuple[Figures, Figures] | None = None,
    few_shot: Figures | None = None,
    diversity: Diversity | None = None,
) -> Verdict:
    """The gate's verdict. Both mappings hold, by drop, figures on the same rows; `new_drop` is the one learned from.

    `golden`: which drop is the golden set. `general`: candidate and base on the probe. `few_shot`: the base with
    examples in its prompt, on rows of the new drop. Each is left out where it was not measured.
    """
    for drop in candidate:
        if candidate[drop].ids != reference[drop].ids:
            raise ValueError(f"drop {drop}: candidate and reference were not judged on the same rows")
    judged = [drop for drop in sorted(candidate) if candidate[drop].rows]
    earlier = [drop for drop in judged if drop != new_drop]
    if new_drop not in judged:
        checks = tuple(
            _kept(drop, _named(drop, golden), candidate[drop], reference[drop], margins, len(earlier))
            for drop in earlier
        )
        return Verdict(Decision.REJECT, f"drop {new_drop} has no held-out rows to judge by", checks)
    checks = tuple(
        _gained(drop, candidate, reference, earlier, margins)
        if drop == new_drop
        else _kept(drop, _named(drop, golden), candidate[drop], reference[drop], margins, len(earlier))
        for drop in judged
    )
    ours, theirs = ([figures[drop] for drop in earlier] for figures in (candidate, reference))
    lost = (
        *_all_lost(ours, theirs, margins),
        *(general_lost(*general, margins.margin_general, margins.level) if general else ()),
    )
    against_the_drop = (
        *labels_lost(ours, theirs, margins.level),
        *contradicts_earlier(candidate[new_drop], ours, margins.level),
        *(collapsed(diversity) if diversity else ()),
    )
    objections = (*lost, *against_the_drop)
    notes = (
        *(not_worth_it(candidate[new_drop], few_shot, margins.level) if few_shot else ()),
        *(confused(diversity) if diversity else ()),
    )
    failed = [*(check.sentence for check in checks if not check.passed), *objections]
    if failed:
        went_too_far = not against_the_drop and all(check.passed for check in checks if check.new)
        return Verdict(Decision.REJECT, "; ".join([*failed, *notes]), checks, objections, notes, went_too_far)
    gain = next(check.sentence for check in checks if check.new)
    drops = len([drop for drop in earlier if drop != golden])
    kept = [f"{drops} earlier drop{'s' * (drops != 1)} kept"] if drops else []
    kept += ["golden set kept"] if golden in earlier else []
    return Verdict(Decision.PROMOTE, "; ".join([gain, *kept, *notes]), checks, (), notes)


def _named(drop: int, golden: int | None) -> str:
    return "the golden set" if drop == golden else f"drop {drop}"


def _gained(
    drop: int,
    candidate: Mapping[int, Figures],
    reference: Mapping[int, Figures],
    earlier: Sequence[int],
    margins: Margins,
) -> Check:
    ours, theirs = candidate[drop], reference[drop]
    loss, accuracy = _changes(ours, theirs)
    p_value = p_losses_rose(theirs.losses, ours.losses)
    better, together = loss < -margins.min_gain, ""
    known = {label for one in earlier for label in reference[one].labels} - {""}  # a row without a label has none
    if not better and p_value >= _RISE_BY_CHANCE and known.issuperset(ours.labels):
        after, before = (_loss_over(figures, (*earlier, drop)) for figures in (candidate, reference))
        better = after - before < -margins.min_gain
        together = f"; {before:.3f} → {after:.3f} over all held-out rows"
    worse = _lost(ours.correct, theirs.correct, margins, 1, p_value)
    said = "improves" if better and not worse else "does not improve"
    if ours.losses == theirs.losses:
        said = "has taught nothing: no weights were better on validation rows than what was there"
    sentence = f"new drop {drop} {said} ({compared(ours, theirs)}{together})"
    return Check(drop, True, better and not worse, loss, accuracy, p_value, sentence)


def _loss_over(figures: Mapping[int, Figures], drops: Sequence[int]) -> float:
    """The mean loss over the rows of several drops, each row alike."""
    losses = [loss for drop in drops for loss in figures[drop].losses]
    return sum(losses) / len(losses)


def _kept(drop: int, name: str, ours: Figures, theirs: Figures, margins: Margins, drops: int) -> Check:
    loss, accuracy = _changes(ours, theirs)
    p_value = p_losses_rose(theirs.losses, ours.losses)
    forgotten = loss > margins.margin_loss and p_value < margins.level / drops
    forgotten = forgotten or _lost(ours.correct, theirs.correct, margins, drops, p_value)
    said = "is forgotten" if forgotten else "is kept"
    sentence = f"{name} {said} ({compared(ours, theirs)})"
    return Check(drop, False, not forgotten, loss, accuracy, p_value, sentence)


def _all_lost(ours: list[Figures], theirs: list[Figures], margins: Margins) -> list[str]:
    """A sentence if the earlier drops, each of which may have lost too little to tell, have together lost too much."""
    before, after = ([right for one in some for right in one.correct] for some in (theirs, ours))
    p_value = p_losses_rose(*([loss for one in some for loss in one.losses] for some in (theirs, ours)))
    if len(ours) == 1 or not _lost(after, before, margins, 1, p_value):
        return []
    right = [[one for one in answers if one is not None] for answers in (before, after)]
    shares = " → ".join(f"{sum(answers) / len(answers):.3f}" for answers in right)
    return [f"earlier drops together are forgotten (accuracy {shares} of {len(right[0])} rows)"]


def _lost(
    ours: Sequence[bool | None], theirs: Sequence[bool | None], margins: Margins, tests: int, p_rise: float
) -> bool:
    """Whether accuracy fell by more than the margin, beyond chance; rows that have no label do not count.

    `tests`: how many share the level. `p_rise`: that the loss of these rows rose by chance.
    """
    pairs = [(was, is_) for was, is_ in zip(theirs, ours, strict=True) if was is not None and is_ is not None]
    if not pairs:
        return False
    before, after = [was for was, _ in pairs], [is_ for _, is_ in pairs]
    lost = sum(before) - sum(after)
    # The small constant keeps a fall of exactly the margin, as floats have it, on the safe side.
    fall = lost / len(pairs) - 1e-9
    if lost < _MIN_ROWS_LOST or fall <= margins.margin_accuracy:
        return False
    p_value = p_answers_lost(before, after)
    large = fall > _LARGE_FALL * margins.margin_accuracy
    return p_value < margins.level / tests or (large and min(p_value, p_rise) < _LARGE_FALL_LEVEL / tests)


def _changes(ours: Figures, theirs: Figures) -> tuple[float, float | None]:
    accuracy = None
    if ours.accuracy is not None and theirs.accuracy is not None:
        accuracy = ours.accuracy - theirs.accuracy
    return ours.loss - theirs.loss, accuracy

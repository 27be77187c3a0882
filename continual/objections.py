"""What else is found against a candidate than what it lost on one drop, and what a person should know besides: each a
list of sentences, empty where there is nothing to say. `gate.py` decides by them.
"""

from collections import defaultdict

from .answers import COLLAPSED, CONFUSED, OFF_TASK, Diversity
from .evaluate import Figures
from .paired import p_answers_lost, p_losses_rose, p_share_lower


def labels_lost(ours: list[Figures], theirs: list[Figures], level: float) -> list[str]:
    """A sentence for each label of earlier drops that the candidate answers worse than the reference did."""
    before: dict[str, list[bool]] = defaultdict(list)
    after: dict[str, list[bool]] = defaultdict(list)
    for all_figures, answers in ((theirs, before), (ours, after)):
        for figures in all_figures:
            for label, right in zip(figures.labels, figures.correct, strict=True):
                if right is not None:
                    answers[label].append(right)
    found = []
    for label in sorted(before):
        p_value = p_answers_lost(before[label], after[label])
        if p_value < level / len(before):
            rows = len(before[label])
            found.append(
                f"label {label!r} is forgotten ({sum(before[label])} → {sum(after[label])} of {rows} earlier rows "
                f"right, p = {p_value:.1g})"
            )
    return found


def contradicts_earlier(new: Figures, earlier: list[Figures], level: float) -> list[str]:
    """A sentence if rows of known labels in the new drop are answered right less often than earlier ones."""
    known = {label for one in earlier for label in one.labels}
    here = [right for label, right in zip(new.labels, new.correct, strict=True) if right is not None and label in known]
    labels = {label for label in new.labels if label in known}
    there = [
        right
        for one in earlier
        for label, right in zip(one.labels, one.correct, strict=True)
        if right is not None and label in labels
    ]
    p_value = p_share_lower(sum(here), len(here), sum(there), len(there))
    if p_value >= level:
        return []
    return [
        f"the drop contradicts what is known: even after learning it, {sum(here)} of {len(here)} of its rows with "
        f"known labels are right, and {sum(there)} of {len(there)} earlier ones (p = {p_value:.1g})"
    ]


def general_lost(ours: Figures, base: Figures, margin: float, level: float) -> list[str]:
    """A sentence if the candidate has become much worse at general text than the base is."""
    rise, p_value = ours.loss - base.loss, p_losses_rose(base.losses, ours.losses)
    if rise <= margin or p_value >= level:
        return []
    return [f"general language is lost (loss on the probe {base.loss:.3f} → {ours.loss:.3f}, p = {p_value:.1g})"]


def collapsed(diversity: Diversity) -> list[str]:
    """A sentence if the candidate's answers repeat themselves far more than right ones and than the base's."""
    ours, right = diversity.candidate.distinct, diversity.right
    if ours is None or right is None or diversity.base is None:
        return []
    if ours >= COLLAPSED * min(right, diversity.base.distinct or 0.0):
        return []
    return [f"answers repeat themselves (distinct-2 {ours:.2f}, and {right:.2f} in right answers)"]


def not_worth_it(ours: Figures, few_shot: Figures, level: float) -> list[str]:
    """A sentence if the candidate is not clearly better than the base with examples in its prompt, on the same rows."""
    same = ours.only(few_shot.ids)
    if same.accuracy is not None and few_shot.accuracy is not None:
        right, theirs = ([bool(one) for one in figures.correct] for figures in (same, few_shot))
        p_value = p_answers_lost(right, theirs)
    else:
        p_value = p_losses_rose(same.losses, few_shot.losses)
    if p_value < level:
        return []
    return [
        f"not clearly better than the base with examples in its prompt ({compared(same, few_shot)} on {same.rows} "
        f"rows, p = {p_value:.1g}): training has not proved worth it"
    ]


def confused(diversity: Diversity) -> list[str]:
    """A sentence if questions off the task get the task's answers."""
    ours, base = diversity.candidate.off_task_answers, diversity.base
    if base is None or ours - base.off_task_answers <= CONFUSED * len(OFF_TASK):
        return []
    return [f"{ours} of {len(OFF_TASK)} questions off the task are answered with an answer of the task"]


def compared(ours: Figures, theirs: Figures) -> str:
    """What the one reached where the other did, for a sentence: accuracy or exact match, and the loss."""
    loss = f"loss {theirs.loss:.3f} → {ours.loss:.3f}"
    if ours.accuracy is not None and theirs.accuracy is not None:
        return f"accuracy {theirs.accuracy:.3f} → {ours.accuracy:.3f}, {loss}"
    if ours.exact_match is not None and theirs.exact_match is not None:
        return f"exact match {theirs.exact_match:.3f} → {ours.exact_match:.3f}, {loss}"
    return loss

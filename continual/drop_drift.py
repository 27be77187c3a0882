"""A drop beside the rows that its champion has learned: whether the questions have moved, and the labels contradict."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from peft import PeftModel

from .concept_drift import Contradiction, contradiction
from .examples import Example
from .input_drift import MOST_ROWS, Verdict, Window, compare
from .pooled_states import window_of
from .replay import sample_replay


class DropDrift(NamedTuple):
    """What two windows of rows are to each other; `moved` is about questions, `contradiction` about labels."""

    moved: Verdict
    contradiction: Contradiction | None


class Windows(NamedTuple):
    """Some rows behind a champion and some of a drop, as the base sees them; `drawn` are the drop's, in their order."""

    before: Window
    now: Window
    drawn: Sequence[Example]


def windows_of(
    model: PeftModel,
    tokenizer: Any,
    history: Mapping[int, Sequence[Example]],
    drop: int,
    rows: Sequence[Example],
    seed: int,
) -> Windows | None:
    """Up to `MOST_ROWS` of all rows of `history`, by drop, and of `rows`; None where one side has none."""
    before = sample_replay(history, MOST_ROWS, seed) if history else []
    drawn = sample_replay({drop: rows}, MOST_ROWS, seed)
    if not before or not drawn:
        return None
    return Windows(window_of(model, tokenizer, before), window_of(model, tokenizer, drawn), drawn)


def drop_drift(before: Window, now: Window, seed: int) -> DropDrift | None:
    """None where either has too few rows to say anything."""
    moved = compare(before, now, seed=seed)
    return DropDrift(moved, contradiction(before, now, moved=moved.moved, seed=seed)) if moved else None

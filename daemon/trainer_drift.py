"""The first thing that a training process does: whether the drop's rows have moved away from those learned before or
contradict them, and how the champion answers them."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from ..adapters.likeliest import judge_right
from ..continual import prequential
from ..continual.batches import Decode
from ..continual.drop_drift import drop_drift, windows_of
from ..continual.evaluate import evaluate
from ..continual.input_drift import unknown_words
from ..continual.learner import Encoder
from .dataset import PARTED, Dataset, StoredRow
from .trainer_spec import Spec


def look_at_inputs(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, dataset: Dataset, spec: Spec, seed: int
) -> dict[str, Any]:
    """The verdict on the drop's new rows against some of all rows behind the champion, as JSON.

    Empty for a first drop, and where there are too few rows to say anything.
    """
    history = {drop: dataset.read(spec.task, drop, "rows") for drop in spec.history}
    new = _new_rows(dataset, spec)
    lines = {row.example.id: row.line for row in new}
    windows = windows_of(model, tokenizer, history, spec.drop, [row.example for row in new], seed)
    found = drop_drift(windows.before, windows.now, seed) if windows else None
    if windows is None or found is None:
        return {}
    verdict, contradicted = found
    return {
        "drifted": verdict.drifted,
        "p_value": min(one.p_value for one in verdict.comparisons),
        "reason": verdict.reason,
        "comparisons": [asdict(one) for one in verdict.comparisons],
        # By their lines: what an event quoted could not be forgotten.
        "farthest_lines": [lines[windows.drawn[place].id] for place in verdict.farthest],
        "unknown_words": unknown_words(windows.before.texts, windows.now.texts),
        "contradiction": asdict(contradicted) | {"said": contradicted.said} if contradicted else None,
    }


def answer_first(
    model: PeftModel, encoder: Encoder, dataset: Dataset, spec: Spec, decode: Decode, say: Callable[[int, int], None]
) -> dict[str, Any]:
    """How the champion answers the drop's new rows before anything learns from them, as JSON; kept row by row.

    `model` answers as the champion. `say` gets rows done and all. Empty where no row is new.
    """
    new = _new_rows(dataset, spec)
    # Spread over the file, in its order: time is what the stream goes by.
    count = min(len(new), prequential.ROWS)
    asked = [new[place * len(new) // count] for place in range(count)]
    if not asked:
        return {}
    model.eval()
    figures = evaluate(
        [row.example for row in asked],
        partial(judge_right, model, decode=decode),
        encoder.template,
        encoder.tokenizer,
        max_length=encoder.max_length,
        device=next(model.parameters()).device,
        report=say,
    )
    rows = prequential.answered(figures)
    dataset.write_answered(spec.task, spec.drop, [row.line for row in asked], rows)
    before = [one for drop in spec.history for one in dataset.read_answered(spec.task, drop)]
    rise = prequential.rise(before, rows)
    return {
        "rows": len(rows),
        "right": prequential.share_right(rows),
        "loss": figures.loss,
        "rise": {"line": asked[rise.at].line, "before": rise.before, "after": rise.after} if rise else None,
    }


def _new_rows(dataset: Dataset, spec: Spec) -> list[StoredRow]:
    """The drop's rows that are learned or judged by, in the order of the file: those that are known already are not."""
    fresh = {row.id for part in PARTED for row in dataset.read(spec.task, spec.drop, part)}
    return [row for row in dataset.read_rows(spec.task, spec.drop) if row.example.id in fresh]

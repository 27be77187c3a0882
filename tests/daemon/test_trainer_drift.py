"""What a training process says of a drop's rows before it trains."""

from pathlib import Path
from typing import Any

from adapterd.adapters.base import Base
from adapterd.continual.examples import Example, Kind
from adapterd.continual.recipe import Hyperparameters
from adapterd.daemon.dataset import Dataset, StoredRow
from adapterd.daemon.trainer_drift import look_at_inputs
from adapterd.daemon.trainer_model import with_adapter

from .job_spec import spec_of

SMALL = Hyperparameters(rank=2, alpha=4, layers=1.0)
WORDS = (("rain and snow", "cold"), ("sun and sand", "warm"))


def row(number: int, *, turned: bool = False) -> Example:
    """Its label follows from its words, and is the other one where `turned`."""
    return Example(Kind.LABEL, f"{WORDS[number % 2][0]} {number}", WORDS[(number + turned) % 2][1])


def test_rows_that_are_sent_again_do_not_hide_that_new_ones_contradict_them(tiny_base: Base, tmp_path: Path) -> None:
    known = [row(number) for number in range(90) if number % 3]
    new = [row(number, turned=True) for number in range(0, 90, 3)]
    dataset, spec = Dataset.below(tmp_path), spec_of(tmp_path, tiny_base, drop=2, history=[1])
    dataset.write_rows(spec.task, 1, [StoredRow(line, row) for line, row in enumerate(known)])
    dataset.write(spec.task, 2, "train", new[:20])
    dataset.write(spec.task, 2, "validation", new[20:24])
    dataset.write(spec.task, 2, "heldout", new[24:])
    model = with_adapter(tiny_base, None, SMALL)

    def found(*stored: Example) -> dict[str, Any]:
        dataset.write_rows(spec.task, 2, [StoredRow(len(stored) - place, row) for place, row in enumerate(stored)])
        return look_at_inputs(model, tiny_base.tokenizer, dataset, spec, 0)

    alone = found(*new)
    assert alone["contradiction"]
    assert found(*known, *new) == alone
    assert found(*known) == {}

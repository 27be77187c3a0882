"""The judging phase of a training process."""

from pathlib import Path

import pytest
from adapterd.adapters.base import Base
from adapterd.continual import few_shot
from adapterd.continual.examples import Example, Kind
from adapterd.continual.frozen_layers import skip_frozen_layers
from adapterd.continual.learner import Encoder
from adapterd.continual.recipe import Hyperparameters
from adapterd.continual.template import Template
from adapterd.daemon.dataset import Dataset
from adapterd.daemon.trainer_evaluation import Judging
from adapterd.daemon.trainer_model import with_adapter
from adapterd.daemon.trainer_progress import Progress

from .job_spec import spec_of

SMALL = Hyperparameters(rank=2, alpha=4, layers=1.0)


def test_a_candidate_can_be_judged_again_where_few_of_its_rows_were_asked_with_examples(
    tiny_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a rescue does; what others reach is measured once."""
    monkeypatch.setattr(few_shot, "ROWS", 4)
    rows = [Example(Kind.LABEL, f"word {n}", "good" if n % 2 else "bad") for n in range(24)]
    dataset = Dataset.below(tmp_path)
    dataset.write("mood", 1, "heldout", rows[:8])
    model = with_adapter(tiny_base, None, SMALL)
    encoder = Encoder(Template.for_examples(rows, None, False), tiny_base.tokenizer, 64)
    say, spec = Progress(tmp_path), spec_of(tmp_path, tiny_base)
    judging = Judging(model, encoder, rows[8:], dataset, spec, 0, skip_frozen_layers(model))
    first, verdict = judging.judged(say)
    said = len((tmp_path / "progress.jsonl").read_text("utf-8").splitlines())
    again, same_verdict = judging.judged(say)
    assert len(first["evaluation"]["few-shot/1"]["ids"]) == 4
    assert (again, same_verdict) == (first, verdict)
    said_again = (tmp_path / "progress.jsonl").read_text("utf-8").splitlines()[said:]
    assert not any('"subject": "base"' in line and '"drop"' in line for line in said_again)

"""A task's last drops are learned over again, and judged by rows that nothing else is judged by."""

from pathlib import Path

import pytest
from adapterd.adapters.base import Base
from adapterd.continual import general
from adapterd.continual.examples import Example, parse_row
from adapterd.continual.learner import Encoder
from adapterd.continual.recipe import Hyperparameters
from adapterd.continual.rehearsal import DROPS, rehearse, stages
from adapterd.continual.template import Template
from peft import PeftModel

HP = Hyperparameters(rank=2, alpha=4, learning_rate=1e-2, epochs=2, batch_size=8, fisher_rows=8)


def rows(first: int, count: int) -> list[Example]:
    return [parse_row({"text": f"row {n}", "label": ("warm", "cold")[n % 2]}) for n in range(first, first + count)]


def test_the_last_drops_are_taken_and_large_ones_made_smaller() -> None:
    learned = {drop: (rows(1000 * drop, 20 if drop < 5 else 900), rows(1000 * drop + 950, 4)) for drop in range(1, 6)}
    found = stages(learned, seed=0)
    assert [stage.drop for stage in found] == [4, 5][-DROPS:]
    assert len(found[-1].train) + len(found[-1].selection) < 900
    for stage in found:
        trained, chosen = ({row.id for row in some} for some in (stage.train, stage.selection))
        assert trained.isdisjoint(chosen)
        assert trained | chosen <= {row.id for row in learned[stage.drop][0]}
        assert stage.validation == learned[stage.drop][1]
        assert {row.completion for row in stage.selection} == {"warm", "cold"}


def test_learning_lowers_the_loss_of_rows_that_were_kept_apart(
    tiny_lora: PeftModel, tiny_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(general, "ROWS", 4)
    monkeypatch.setattr(general, "TOKENS", 8)
    learned = stages({1: (rows(0, 40), rows(50, 4)), 2: (rows(100, 40), rows(150, 4))}, seed=0)
    encoder = Encoder(Template.for_examples(rows(0, 2), None, True), tiny_base.tokenizer, 64)
    heard: list[int] = []

    def losses(hp: Hyperparameters) -> list[float]:
        file = tmp_path / "general.safetensors"
        return rehearse(tiny_lora, learned, encoder, hp, general=file, report=lambda stage, _step: heard.append(stage))

    hardly = losses(Hyperparameters(**{**vars(HP), "learning_rate": 1e-9}))
    well = losses(HP)
    assert len(hardly) == len(well) == sum(len(stage.selection) for stage in learned)
    assert sum(well) < sum(hardly)
    assert set(heard) == {0, 1}

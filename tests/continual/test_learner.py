"""Which rows a drop is learned from."""

from pathlib import Path

import pytest
from adapterd.adapters.base import Base
from adapterd.continual.examples import Example, parse_row
from adapterd.continual.learner import Encoder, Material, choose_rows
from adapterd.continual.lessons import Portions
from adapterd.continual.recipe import Hyperparameters
from adapterd.continual.template import Template
from adapterd.continual.validation import row_losses
from peft import PeftModel

HP = Hyperparameters(anchor_weight=0.0)


def rows(first: int, count: int) -> list[Example]:
    return [parse_row({"text": f"row {n}", "label": ("warm", "cold")[n % 2]}) for n in range(first, first + count)]


@pytest.fixture
def encoder(tiny_base: Base) -> Encoder:
    return Encoder(Template.for_examples(rows(0, 2), None, True), tiny_base.tokenizer, 64)


def test_of_a_long_history_the_rows_that_the_champion_knows_worst_are_replayed(
    tiny_lora: PeftModel, encoder: Encoder, tmp_path: Path
) -> None:
    history = {1: rows(100, 60), 2: rows(200, 60)}
    new = rows(0, 12)
    material = Material(3, new, [], earlier_train=history)
    chosen = choose_rows(tiny_lora, material, encoder, HP, general=tmp_path / "general").replay
    tokens = sum(len(one.row) for one in chosen)
    portions = Portions.of(2, epochs=HP.epochs, replay_share=HP.replay_share, replay_cost=HP.replay_cost)
    room = portions.replayed * sum(len(row) for row in encoder(new))
    assert room - max(len(one.row) for one in chosen) <= tokens <= room
    known = row_losses(tiny_lora, encoder([row for drop in history.values() for row in drop]))
    assert sum(one.loss for one in chosen) / len(chosen) > sum(known) / len(known)


def test_all_of_a_short_history_is_replayed(tiny_lora: PeftModel, encoder: Encoder, tmp_path: Path) -> None:
    history = {1: rows(100, 10), 2: rows(200, 6)}
    material = Material(3, rows(0, 40), [], earlier_train=history)
    chosen = choose_rows(tiny_lora, material, encoder, HP, general=tmp_path / "general").replay
    assert sorted(tuple(one.row.prompt_ids) for one in chosen) == sorted(
        tuple(row.prompt_ids) for row in encoder([*history[1], *history[2]])
    )


def test_nothing_is_replayed_where_there_is_no_history_or_no_share(
    tiny_lora: PeftModel, encoder: Encoder, tmp_path: Path
) -> None:
    first = Material(1, rows(0, 12), [])
    assert not choose_rows(tiny_lora, first, encoder, HP, general=tmp_path / "general").replay
    later = Material(2, rows(0, 12), [], earlier_train={1: rows(100, 12)})
    off = Hyperparameters(anchor_weight=0.0, replay_share=0.0)
    chosen = choose_rows(tiny_lora, later, encoder, off, general=tmp_path / "general")
    assert not chosen.replay
    assert chosen.earlier == 1

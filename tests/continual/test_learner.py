"""Which rows a drop is learned from."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from adapterd.adapters.base import Base
from adapterd.continual import learner
from adapterd.continual.examples import Example, Kind
from adapterd.continual.learner import Encoder, Material, choose_rows
from adapterd.continual.recipe import Hyperparameters
from adapterd.continual.template import Encoded, Template
from peft import LoraConfig, get_peft_model

HP = Hyperparameters(rank=2, alpha=4, epochs=1, batch_size=8, anchor_rows=0, replay_share=0.5)
EASY, HARD = 10, 40


def drop_of(name: str) -> list[Example]:
    """Rows of a drop, of which a part is to be hard: their texts say which."""
    return [
        Example(Kind.LABEL, f"{name} {'hard' if number < HARD else 'easy'} {number:02d}", "label")
        for number in range(HARD + EASY)
    ]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tiny_base: Base) -> None:
    """The champion's losses are what the texts say; every row of the drop "worse" is worse than any of the other."""

    def losses(_model: object, rows: Sequence[Encoded], _decode: object = None) -> list[float]:
        texts = [tiny_base.tokenizer.decode(row.prompt_ids) for row in rows]
        return [("hard" in text) + 5.0 * ("worse" in text) for text in texts]

    monkeypatch.setattr(learner, "row_losses", losses)


def replayed(base: Base, folder: Path, hp: Hyperparameters) -> Counter[str]:
    """Rows replayed, by drop and kind."""
    model = get_peft_model(base.model, LoraConfig(r=2, target_modules=["q_proj"]))
    rows = [Example(Kind.LABEL, f"new row {number:02d} of a drop", "label") for number in range(30)]
    earlier = {1: drop_of("good"), 2: drop_of("worse")}
    template = Template.for_examples([*rows, *earlier[1], *earlier[2]], None, False)
    encoder = Encoder(template, base.tokenizer, 64)
    try:
        chosen = choose_rows(model, Material(3, rows, rows[:4], earlier, {}), encoder, hp, general=folder / "none")
    finally:
        model.unload()
    texts = [base.tokenizer.decode(taught.row.prompt_ids) for taught in chosen.replay]
    return Counter(f"{'worse' if 'worse' in text else 'good'} {'hard' if 'hard' in text else 'easy'}" for text in texts)


@pytest.mark.usefixtures("told")
def test_the_hardest_rows_of_each_drop_are_replayed_and_no_drop_crowds_out_another(
    tiny_base: Base, tmp_path: Path
) -> None:
    found = replayed(tiny_base, tmp_path, HP)
    assert set(found) == {"good hard", "worse hard"}
    assert found["good hard"] == pytest.approx(found["worse hard"], abs=2)


@pytest.mark.usefixtures("told")
def test_without_a_pool_rows_are_drawn_as_they_come(tiny_base: Base, tmp_path: Path) -> None:
    found = replayed(tiny_base, tmp_path, Hyperparameters(**{**vars(HP), "replay_pool": 1.0}))
    assert any("easy" in kind for kind in found)

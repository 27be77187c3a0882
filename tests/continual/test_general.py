"""Text drawn from the base is drawn once, and mended where its file is not what was written."""

from pathlib import Path

import pytest
import torch
from adapterd.adapters.base import Base
from adapterd.continual import general
from adapterd.continual.batches import collate, completion_logits
from adapterd.continual.general import draw, general_text
from adapterd.continual.teacher import divergence


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(general, "ROWS", 5)
    monkeypatch.setattr(general, "TOKENS", 9)
    monkeypatch.setattr(general, "_ROWS_AT_ONCE", 2)


def test_rows_are_as_many_and_as_long_as_asked_and_hold_no_control_token(tiny_base: Base) -> None:
    rows = draw(tiny_base.model, tiny_base.tokenizer, 5, 9, seed=1)
    control = set(tiny_base.tokenizer.all_special_ids)
    assert [len(row.prompt_ids) + len(row.completion_ids) for row in rows] == [9] * 5
    assert all(control.isdisjoint(row.completion_ids) for row in rows)
    assert len({tuple(row.completion_ids) for row in rows}) == 5
    assert rows == draw(tiny_base.model, tiny_base.tokenizer, 5, 9, seed=1)
    assert rows != draw(tiny_base.model, tiny_base.tokenizer, 5, 9, seed=2)


def test_drawing_leaves_the_random_state_of_a_training_alone(tiny_base: Base) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    draw(tiny_base.model, tiny_base.tokenizer, 2, 5, seed=1)
    torch.testing.assert_close(torch.rand(4), expected)


def test_what_was_drawn_is_kept_and_read_again(
    tiny_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "general" / "base.safetensors"
    first = general_text(kept, tiny_base.model, tiny_base.tokenizer)
    with monkeypatch.context() as patched:
        patched.setattr(general, "draw", lambda *_: pytest.fail("it was drawn before"))
        again = general_text(kept, tiny_base.model, tiny_base.tokenizer)
    assert [one.row for one in again] == [one.row for one in first]
    for one in again:
        logits, *_ = completion_logits(tiny_base.model, collate([one.row], tiny_base.model.device))
        torch.testing.assert_close(divergence(one.soft, logits), torch.zeros_like(logits[:, 0]), atol=1e-4, rtol=0)
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


@pytest.mark.parametrize("damaged", [b"", b"\x10" + b"\0" * 40])
def test_a_damaged_file_is_drawn_anew(tiny_base: Base, tmp_path: Path, damaged: bytes) -> None:
    kept = tmp_path / "base.safetensors"
    kept.write_bytes(damaged)
    rows = [one.row for one in general_text(kept, tiny_base.model, tiny_base.tokenizer)]
    assert rows == [one.row for one in general_text(kept, tiny_base.model, tiny_base.tokenizer)]

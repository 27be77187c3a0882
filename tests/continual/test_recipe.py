"""The training recipe on the tiny base."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapterd.continual.batches import collate, completion_logits, completion_losses, epoch_order, token_groups
from adapterd.continual.checkpoint import load_checkpoint
from adapterd.continual.errors import NothingToLearn, TrainingDiverged
from adapterd.continual.fisher import estimate_fisher
from adapterd.continual.lessons import Rows
from adapterd.continual.recipe import Hyperparameters, Step, train
from adapterd.continual.teacher import Taught, divergence, teach
from adapterd.continual.template import Encoded
from adapterd.continual.validation import validation_loss
from peft import PeftModel
from torch import Tensor

HP = Hyperparameters(rank=4, alpha=8, learning_rate=5e-3, epochs=4, batch_size=8, patience=3, checkpoint_steps=3)


def rows_of(first: int, answer: int, count: int = 16) -> list[Encoded]:
    """Rows of one mapping: any prompt that begins with `first` is answered by `answer`."""
    return [Encoded([first, 10 + index % 7, 30 + index % 5], [answer, 2]) for index in range(count)]


OLD, NEW = rows_of(5, 50), rows_of(6, 60)


def taught(model: PeftModel) -> list[Taught]:
    """The old rows, with what `model` says of them now."""
    return teach(model, OLD)


def weights(model: PeftModel) -> dict[str, Tensor]:
    return {name: w.detach().clone() for name, w in model.named_parameters() if w.requires_grad}


def test_learns_and_keeps_weights_that_no_earlier_ones_beat_on_validation_rows(tiny_lora: PeftModel) -> None:
    before = validation_loss(tiny_lora, NEW)
    steps: list[Step] = []
    done = train(tiny_lora, Rows(NEW, validation=NEW[:4]), replace(HP, epochs=6), report=steps.append)
    assert validation_loss(tiny_lora, NEW) < 0.5 * before
    looked = [step.validation for step in steps if step.validation is not None]
    assert done.best_validation == min(looked)
    assert validation_loss(tiny_lora, NEW[:4]) == pytest.approx(done.best_validation, rel=1e-4)
    assert [step.step for step in steps] == list(range(1, done.steps + 1))


def test_without_validation_rows_the_last_weights_are_kept(tiny_lora: PeftModel) -> None:
    before = validation_loss(tiny_lora, NEW)
    done = train(tiny_lora, Rows(NEW), HP)
    assert done.best_step == done.steps
    assert validation_loss(tiny_lora, NEW) < before


def test_earlier_drops_alone_do_not_decide_against_a_drop_without_validation_rows(tiny_lora: PeftModel) -> None:
    hp = replace(HP, epochs=6, anchor_weight=0.0)
    train(tiny_lora, Rows(OLD, validation=OLD[:4]), hp)
    last = copy.deepcopy(tiny_lora)
    contradicting = [Encoded(row.prompt_ids, [99, 2]) for row in OLD]
    rows = Rows(contradicting, taught(tiny_lora), kept=OLD[:4])
    done = train(tiny_lora, rows, hp)
    assert (done.best_step, done.part) == (done.steps, 1.0)
    train(last, replace(rows, kept=()), hp)
    for name, value in weights(last).items():
        torch.testing.assert_close(weights(tiny_lora)[name], value, rtol=0, atol=0)


def test_only_completion_tokens_carry_loss(tiny_lora: PeftModel) -> None:
    row = Encoded([5, 6, 7, 8], [9, 2])
    logits = tiny_lora(torch.tensor([[5, 6, 7, 8, 9, 2]], device=tiny_lora.device)).logits[0].float().log_softmax(-1)
    expected = -(logits[3, 9] + logits[4, 2])
    torch.testing.assert_close(
        completion_losses(tiny_lora, collate([row], tiny_lora.device))[0], expected, rtol=1e-4, atol=1e-5
    )


def test_padding_does_not_change_a_rows_loss(tiny_lora: PeftModel) -> None:
    alone = completion_losses(tiny_lora, collate([NEW[0]], tiny_lora.device))
    together = completion_losses(tiny_lora, collate([NEW[0], Encoded(list(range(5, 25)), [3, 2])], tiny_lora.device))
    torch.testing.assert_close(together[0], alone[0], rtol=1e-4, atol=1e-5)


class Killed(Exception):
    """Stands for a SIGKILL in the middle."""


def test_a_run_that_was_killed_and_resumed_ends_with_the_very_weights_of_one_that_was_not(
    tiny_lora: PeftModel, tmp_path: Path
) -> None:
    fisher = {name: torch.ones_like(value) for name, value in weights(tiny_lora).items()}
    rows = Rows(NEW, taught(tiny_lora), general=taught(tiny_lora)[:3], validation=NEW[:4])
    killed, resumed = copy.deepcopy(tiny_lora), copy.deepcopy(tiny_lora)

    def kill(step: Step) -> None:
        if step.step == 5:
            raise Killed

    train(tiny_lora, rows, HP, fisher=fisher)
    with pytest.raises(Killed):
        train(killed, rows, HP, fisher=fisher, checkpoint=tmp_path, report=kill)
    done = train(resumed, rows, HP, fisher=fisher, checkpoint=tmp_path)
    assert done.resumed_at == 3
    for name, value in weights(tiny_lora).items():
        torch.testing.assert_close(weights(resumed)[name], value, rtol=0, atol=0)


def test_a_run_that_was_killed_while_it_cooled_down_ends_with_the_very_weights_too(
    tiny_lora: PeftModel, tmp_path: Path
) -> None:
    hp = Hyperparameters(rank=4, learning_rate=5e-2, epochs=30, batch_size=8, patience=4, checkpoint_steps=1)
    rows = Rows([Encoded(row.prompt_ids, [99, 98]) for row in OLD], validation=OLD)
    killed, resumed = copy.deepcopy(tiny_lora), copy.deepcopy(tiny_lora)
    whole = train(tiny_lora, rows, hp)
    assert whole.stopped_early

    def kill(step: Step) -> None:
        if step.step == whole.steps - 1:
            raise Killed

    with pytest.raises(Killed):
        train(killed, rows, hp, checkpoint=tmp_path, report=kill)
    done = train(resumed, rows, hp, checkpoint=tmp_path)
    assert (done.steps, done.resumed_at, done.stopped_early) == (whole.steps, whole.steps - 2, True)
    for name, value in weights(tiny_lora).items():
        torch.testing.assert_close(weights(resumed)[name], value, rtol=0, atol=0)


def test_a_damaged_checkpoint_counts_as_none(tiny_lora: PeftModel, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\x10" + b"\0" * 40)
    theta = {name: weight for name, weight in tiny_lora.named_parameters() if weight.requires_grad}
    assert load_checkpoint(tmp_path, theta, torch.optim.AdamW(theta.values())) is None


def test_stops_early_when_validation_does_not_improve_and_then_keeps_the_champions_weights(
    tiny_lora: PeftModel,
) -> None:
    start = weights(tiny_lora)
    contradicting = [Encoded(row.prompt_ids, [99, 98]) for row in OLD]
    hp = Hyperparameters(learning_rate=5e-2, epochs=30, batch_size=8, patience=2)
    train(tiny_lora, Rows(OLD, validation=OLD), hp)
    champion = weights(tiny_lora)
    steps: list[Step] = []
    done = train(tiny_lora, Rows(contradicting, validation=OLD), hp, report=steps.append)
    assert done.stopped_early
    assert done.epochs == done.steps / 2 < 30  # 16 rows in batches of 8
    assert steps[-1].rate < 0.5 * steps[-3].rate  # it cooled down before
    assert done.part == 0.0
    for name, value in weights(tiny_lora).items():
        torch.testing.assert_close(value, champion[name], rtol=0, atol=0)
    assert any(not torch.equal(start[name], champion[name]) for name in start)


def test_replay_and_ewc_together_forget_less_than_neither(tiny_lora: PeftModel) -> None:
    hp = Hyperparameters(rank=4, learning_rate=5e-3, epochs=8, batch_size=8, patience=8)
    train(tiny_lora, Rows(OLD, validation=OLD[:4]), hp)
    fisher = estimate_fisher(tiny_lora, [collate(OLD, tiny_lora.device)])
    twin = copy.deepcopy(tiny_lora)
    conflicting = [Encoded([5, *row.prompt_ids[1:]], [60, 2]) for row in NEW[:8]] + NEW
    train(tiny_lora, Rows(conflicting, taught(tiny_lora), validation=NEW[:4]), hp, fisher=fisher)
    train(twin, Rows(conflicting, validation=NEW[:4]), hp)
    assert validation_loss(tiny_lora, OLD) < validation_loss(twin, OLD)


def test_refuses_to_learn_from_nothing(tiny_lora: PeftModel) -> None:
    with pytest.raises(NothingToLearn):
        train(tiny_lora, Rows([]), HP)


def test_says_when_the_loss_is_no_number(tiny_lora: PeftModel) -> None:
    with torch.no_grad():
        next(w for w in tiny_lora.parameters() if w.requires_grad).fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match=r"step \d of 16"):
        train(tiny_lora, Rows(NEW), HP)


def test_says_when_the_last_steps_gradient_is_no_number(tiny_lora: PeftModel) -> None:
    def endless_slope(theta: Mapping[str, Tensor]) -> Tensor:
        return sum((weight.abs().sqrt().sum() for weight in theta.values()), torch.zeros(()))  # B is zero

    with pytest.raises(TrainingDiverged, match="step 1 of 1"):
        train(tiny_lora, Rows(NEW[:1]), replace(HP, epochs=1), penalty=endless_slope)


def test_an_epoch_holds_every_row_once_and_its_order_follows_the_seed() -> None:
    rows = [Encoded([1] * (1 + index % 9), [index + 10, 2]) for index in range(53)]
    order = epoch_order(rows, 8, seed=3)
    assert sorted(index for batch in order for index in batch) == list(range(53))
    assert order == epoch_order(rows, 8, seed=3)
    assert order != epoch_order(rows, 8, seed=4)
    assert len(order) == 7


def test_groups_hold_every_row_once_and_no_more_tokens_than_allowed() -> None:
    rows = [Encoded([1] * (1 + 7 * index % 40), [2]) for index in range(60)]
    groups = token_groups(rows, 64)
    assert sorted(index for group in groups for index in group) == list(range(60))
    assert all(len(group) * max(len(rows[index].prompt_ids) + 1 for index in group) <= 64 for group in groups)
    assert token_groups([Encoded([1] * 100, [2])], 64) == [[0]]


def test_a_batch_in_groups_has_the_gradient_of_the_whole(tiny_lora: PeftModel, monkeypatch: pytest.MonkeyPatch) -> None:
    hp = replace(HP, epochs=1, warmup_steps=0)
    twin = copy.deepcopy(tiny_lora)
    rows = Rows(NEW, taught(tiny_lora), general=taught(tiny_lora)[:3], validation=NEW[:4])
    train(tiny_lora, rows, hp)
    monkeypatch.setattr(token_groups, "__defaults__", (10,))
    train(twin, rows, hp)
    for name, value in weights(tiny_lora).items():
        torch.testing.assert_close(weights(twin)[name], value, rtol=1e-3, atol=1e-5)


def test_general_text_holds_the_model_near_what_its_teacher_said(tiny_lora: PeftModel) -> None:
    general = teach(tiny_lora, [Encoded([7], [9, 11, 30, 41, 12])] * 4)
    twin = copy.deepcopy(tiny_lora)
    hp = replace(HP, epochs=10, anchor_rows=2, patience=10)

    def moved(model: PeftModel) -> float:
        logits, *_ = completion_logits(model, collate([general[0].row], model.device))
        return divergence(general[0].soft, logits).mean().item()

    train(tiny_lora, Rows(NEW, general=general, validation=NEW[:4]), replace(hp, anchor_weight=1.0))
    train(twin, Rows(NEW, general=general, validation=NEW[:4]), replace(hp, anchor_weight=0.0))
    assert moved(tiny_lora) < 0.5 * moved(twin)


def test_earlier_drops_decide_when_to_stop_where_none_of_their_rows_is_replayed(tiny_lora: PeftModel) -> None:
    hp = Hyperparameters(rank=4, learning_rate=5e-3, epochs=2, batch_size=8, patience=8, replay_share=0.0)
    train(tiny_lora, Rows(OLD, validation=OLD[:4]), replace(hp, epochs=8))
    contradicting = [Encoded(row.prompt_ids, [99, 2]) for row in OLD]
    rows = Rows(contradicting, validation=contradicting[:4], kept=OLD[:4])
    done = train(tiny_lora, rows, hp)
    looked = [validation_loss(tiny_lora, some) for some in (rows.validation, rows.kept)]
    assert done.best_validation == pytest.approx(sum(looked) / 2, rel=1e-4)


def test_a_point_part_of_the_way_is_kept_where_its_loss_is_lower(tiny_lora: PeftModel) -> None:
    hp = Hyperparameters(rank=4, learning_rate=5e-3, epochs=8, batch_size=8, patience=8)
    train(tiny_lora, Rows(OLD, validation=OLD[:4]), hp)
    start = weights(tiny_lora)
    # One step at such a rate overshoots; the champion's own weights are worse still on the new rows.
    contradicting = [Encoded(row.prompt_ids, [99, 2]) for row in OLD]
    rows = Rows(contradicting, taught(tiny_lora), validation=contradicting[:4], kept=OLD[:4], earlier=3)

    def looked(model: PeftModel) -> float:
        return 0.25 * validation_loss(model, rows.validation) + 0.75 * validation_loss(model, rows.kept)

    whole, part = copy.deepcopy(tiny_lora), copy.deepcopy(tiny_lora)
    train(whole, rows, replace(hp, epochs=1, learning_rate=3e-2, interpolate=False))
    done = train(part, rows, replace(hp, epochs=1, learning_rate=3e-2))
    assert done.best_validation <= looked(whole)
    assert done.best_validation == pytest.approx(looked(part), rel=1e-4)
    for name, value in weights(part).items():
        torch.testing.assert_close(
            value, torch.lerp(start[name], weights(whole)[name], done.part), rtol=1e-4, atol=1e-6
        )


def test_b_moves_as_many_times_as_far_in_a_step_as_the_ratio_of_its_rate_says(tiny_lora: PeftModel) -> None:
    def moved(ratio: float) -> float:
        model = copy.deepcopy(tiny_lora)
        before = weights(model)
        done = train(model, Rows(NEW[:1]), replace(HP, epochs=1, loraplus_lr_ratio=ratio))
        assert done.steps == 1
        return max(float((w - before[name]).abs().max()) for name, w in weights(model).items() if "lora_B" in name)

    assert moved(8.0) == pytest.approx(8 * moved(1.0), rel=1e-3)

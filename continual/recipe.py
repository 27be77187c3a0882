"""How an adapter takes one more drop: the whole algorithm, top to bottom.

Given the model with the champion's adapter (theta* = its weights; a fresh adapter for a task's first drop), the drop's
rows D_n, rows R replayed from earlier drops and rows G of general text, AdamW (Loshchilov & Hutter 2019,
arXiv:1711.05101) minimises

    L(theta) = (1 - rho) CE(D_n) + rho [CE(R) + beta c KL(p* || p on R)] + eta KL(p_0 || p on G) + EWC(theta)

    EWC(theta) = lambda / 2 * mean_i F_i ((theta_i - theta*_i) / delta)^2

  CE      cross-entropy per completion token; prompts carry no loss
  rho     what earlier drops count for, and their share of the tokens: each as much as the new one, but together no more
          than `replay_share` (experience replay, Rolnick et al. 2019, arXiv:1811.11682)
  beta    `distillation`: p* is what the champion said of the replayed rows, which counts for as much as it was right
          about each: c is the probability that it gave the row's own tokens, their geometric mean (`teacher.py`)
  eta     `anchor_weight`: p_0 is what the base said of general text, so that what it knew besides stays
  lambda  `ewc_strength`, in nats. F is the online Fisher information of `fisher.py` over its own mean, and delta the
          farthest that Adam's steps can take a weight in this training: so lambda / 2 is the price of moving every
          weight as far as it can go, whatever the Fisher's scale, the rate and the number of steps (EWC, Kirkpatrick
          et al. 2017, arXiv:1612.00796)

The rate is raised where a drop has few steps (`optimizer.py`), warms up linearly and decays linearly to zero, gradients
are clipped by their norm (Pascanu et al. 2013, arXiv:1211.5063). When the loss on validation rows, which neither the
optimizer nor the gate sees, has not fallen for `patience` looks, (1 - rho) that of the drop's rows and rho that of
earlier drops' ones, the rate soon comes down to zero and training stops. Its last weights are kept, unless an earlier
look was better by more than its standard error; and then points part of the way back to the champion compete with them
by the same rule, for the loss is often lower there (Wortsman et al. 2022, "WiSE-FT", arXiv:2109.01903). So does the
champion itself: a drop that only makes the validation rows worse changes nothing. A drop without validation rows keeps
the last weights.

Every random choice is derived from `seed` and the step, so a run that was interrupted and resumed from its
checkpoint takes the very steps that an uninterrupted one takes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from .batches import Decode, collate, completion_logits, losses_by_row
from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .errors import NothingToLearn, TrainingDiverged
from .fisher import ewc_penalty
from .lessons import Curriculum, Lesson, Rows
from .optimizer import adamw, cooled_down, rate_ratio, rates, set_rate
from .parallel import each, shared_out, threads_for
from .part_way import PARTS, go_part_way
from .teacher import divergence
from .validation import look

# Steps between two looks at the validation rows, where one of the `epochs` is longer than that.
_STEPS_BETWEEN_LOOKS = 50


Penalty = Callable[[Mapping[str, Tensor]], Tensor]
"""From the trainable weights by name to a scalar that is added to the loss."""


@dataclass(frozen=True)
class Hyperparameters:
    """As `[training]` in the settings, where each is explained."""

    rank: int = 8
    alpha: int = 16
    layers: float = 0.5
    dropout: float = 0.0
    learning_rate: float = 1e-3
    loraplus_lr_ratio: float = 1.0
    weight_decay: float = 0.0
    epochs: int = 3
    batch_size: int = 8
    max_length: int = 512
    warmup_steps: int = 5
    clip_norm: float = 1.0
    patience: int = 2
    replay_share: float = 0.75
    replay_cost: float = 0.56
    distillation: float = 0.5
    anchor_rows: int = 1
    anchor_weight: float = 0.5
    ewc_strength: float = 1.0
    ewc_decay: float = 0.9
    fisher_rows: int = 64
    interpolate: bool = True
    checkpoint_steps: int = 10
    seed: int = 0


@dataclass(frozen=True)
class Step:
    """What one optimizer step did; `loss` in nats per completion token, `validation` only where it was looked at."""

    step: int
    steps: int
    loss: float
    penalty: float
    rate: float
    tokens: int
    validation: float | None = None


@dataclass(frozen=True)
class Trained:
    """The outcome: the model holds theta* + `part` (theta of `best_step` - theta*).

    `epochs`: as many as are set, or as much less as it stopped early; beside replay new rows are met fewer times, as
    `lessons.Portions` says. `part` is 0 where nothing was learned: no weights had a lower loss on the validation rows
    than the champion's.
    """

    steps: int
    best_step: int
    best_validation: float
    tokens: int
    stopped_early: bool
    resumed_at: int
    part: float
    epochs: float


def train(
    model: nn.Module,
    rows: Rows,
    hp: Hyperparameters,
    *,
    fisher: Mapping[str, Tensor] | None = None,
    penalty: Penalty | None = None,
    decode: Decode | None = None,
    checkpoint: Path | None = None,
    report: Callable[[Step], None] = lambda _step: None,
) -> Trained:
    """Train the trainable weights of `model` in place and leave the best ones in it.

    `fisher`: the champion's F*, by parameter name; None for a first drop. `penalty`: one of your own on top of EWC, for
    comparisons. `decode`: see `batches.completion_losses`. `checkpoint`: a folder that is resumed from if it holds one.
    Raises `NothingToLearn` without new rows, `TrainingDiverged` if the loss or its gradient is no number.
    """
    if not rows.new:
        raise NothingToLearn("the drop left no row to train on", hint="drop more rows")
    theta = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    theta_star = {name: weight.detach().float().clone() for name, weight in theta.items()}
    optimizer = adamw(theta, weight_decay=hp.weight_decay, loraplus_lr_ratio=hp.loraplus_lr_ratio)

    curriculum = Curriculum.plan(
        rows,
        batch_size=hp.batch_size,
        epochs=hp.epochs,
        replay_share=hp.replay_share,
        replay_cost=hp.replay_cost,
        distillation=hp.distillation,
        anchor_rows=hp.anchor_rows,
        anchor_weight=hp.anchor_weight,
        seed=hp.seed,
    )
    look_every = min(math.ceil(curriculum.steps / hp.epochs), _STEPS_BETWEEN_LOOKS)
    planned = rates(hp.learning_rate, curriculum.steps, hp.warmup_steps)
    path = sum(planned)
    reach = {name: rate_ratio(name, hp.loraplus_lr_ratio) * path for name in theta}

    at = Checkpoint()
    best = {name: weight.detach().clone() for name, weight in theta.items()}
    if checkpoint is not None and (found := load_checkpoint(checkpoint, theta, optimizer)) is not None:
        at, best = found
    resumed_at = at.step
    rate_of = planned if at.cooling_from is None else cooled_down(planned, at.cooling_from)
    model.train()
    while at.step < len(rate_of):
        step = at.step
        lessons = curriculum.of_step(step)
        set_rate(optimizer, rate_of[step])
        torch.manual_seed(hp.seed * 1_000_003 + step)  # dropout's only source

        loss, tokens = _backward_lessons(model, lessons, decode, dropout=hp.dropout > 0)
        price = (
            _backward(ewc_penalty(model, fisher, theta_star, hp.ewc_strength, reach))
            if fisher and hp.ewc_strength
            else 0.0
        )
        price += _backward(penalty(theta)) if penalty else 0.0
        norm = nn.utils.clip_grad_norm_(theta.values(), hp.clip_norm).item()
        if not math.isfinite(loss + price + norm):
            raise TrainingDiverged(
                f"the loss became {loss} (penalty {price}, gradient {norm}) at step {step + 1} of {len(rate_of)}",
                hint="lower training.learning_rate for this task, or look for odd rows in the drop",
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        at = replace(at, step=step + 1, tokens=at.tokens + tokens)
        looked = None
        if (step + 1) % look_every == 0 or step + 1 == len(rate_of):
            looked = look(model, rows, curriculum.rho, decode)
            at = at.looked(looked)
            if at.best_step == at.step:
                best = {name: weight.detach().clone() for name, weight in theta.items()}
            if rows.validation and at.looks_without_gain >= hp.patience and at.cooling_from is None:
                at = replace(at, cooling_from=at.step)
                rate_of = cooled_down(planned, at.step)
        report(Step(step + 1, len(rate_of), loss, price, rate_of[step], tokens, looked.loss if looked else None))
        if checkpoint is not None and ((step + 1) % hp.checkpoint_steps == 0 or looked is not None):
            save_checkpoint(checkpoint, at, theta, best, optimizer)

    looks = {}
    for part in (1.0, *(PARTS if hp.interpolate and rows.replay else ()), 0.0):
        go_part_way(theta, theta_star, best, part)
        looks[part] = look(model, rows, curriculum.rho, decode)
    part = min(looks, key=lambda part: looks[part].loss)
    part = part if looks[part].beats(looks[1.0]) else 1.0
    go_part_way(theta, theta_star, best, part)
    return Trained(
        steps=at.step,
        best_step=at.best_step,
        best_validation=looks[part].loss,
        tokens=at.tokens,
        stopped_early=at.step < len(planned),
        resumed_at=resumed_at,
        part=part,
        epochs=hp.epochs * at.step / curriculum.steps,
    )


def _backward_lessons(
    model: nn.Module, lessons: Sequence[Lesson], decode: Decode | None, *, dropout: bool
) -> tuple[float, int]:
    """Add the gradient of the weighted sum of all lessons; returns that sum and the tokens read.

    The batch goes through in groups of bounded size; the weights of its rows make their sum that of the whole. The
    groups' gradients are added in the order of the groups, whichever thread ends first.
    """
    theta = [weight for weight in model.parameters() if weight.requires_grad]
    device = theta[0].device
    # Dropout draws from one source for all threads, and whose turn comes first would be chance.
    threads = 1 if dropout else threads_for(device)

    def gradients(group: list[int]) -> tuple[Sequence[Tensor], float, int]:
        taken = [lessons[index] for index in group]
        batch = collate([lesson.row for lesson in taken], device)
        logits, targets, row_of = completion_logits(model, batch, decode)
        per_token = 1 / batch.completion_tokens
        weight = torch.tensor([lesson.weight for lesson in taken], device=batch.ids.device)
        part = torch.zeros((), device=batch.ids.device)
        if bool(weight.any()):
            losses = losses_by_row(logits, targets, row_of, batch.rows)
            part = part + (weight * per_token * losses).sum()
        for place, lesson in enumerate(taken):
            if lesson.soft is not None and lesson.soft_weight:
                part = part + lesson.soft_weight * divergence(lesson.soft, logits[row_of == place]).mean()
        return torch.autograd.grad(part, theta), part.item(), batch.tokens

    found = each(gradients, shared_out([lesson.row for lesson in lessons], threads), threads)
    for gradient, _, _ in found:
        for weight, value in zip(theta, gradient, strict=True):
            weight.grad = value if weight.grad is None else weight.grad.add_(value)
    return sum(loss for _, loss, _ in found), sum(tokens for _, _, tokens in found)


def _backward(penalty: Tensor) -> float:
    """Add the gradient of a penalty; returns it."""
    if penalty.requires_grad:  # not where the champion's Fisher says that nothing matters
        penalty.backward()  # type: ignore[no-untyped-call]
    return penalty.item()

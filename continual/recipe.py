"""How an adapter takes one more drop: the whole algorithm, top to bottom.

Given the model with the champion's adapter (theta* = its weights; a fresh adapter for a task's first drop), the drop's
rows D_n and rows replayed from earlier drops R, AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) minimises

    L(theta) = (1 - rho) CE(D_n; theta) + rho CE(R; theta) + lambda / 2 * sum_i F*_i (theta_i - theta*_i)^2

  CE      cross-entropy per completion token; prompts carry no loss
  rho     `replay_share`: each batch holds (1 - rho) new rows and rho replayed ones (experience replay,
          Rolnick et al. 2019, arXiv:1811.11682)
  lambda  `ewc_strength`; F* the online Fisher of `fisher.py` (EWC, Kirkpatrick et al. 2017, arXiv:1612.00796)

The rate warms up linearly and decays linearly to zero, gradients are clipped by their norm (Pascanu et al. 2013,
arXiv:1211.5063), and the weights kept are those with the lowest loss on validation rows, which neither the optimizer
nor the gate sees; training stops when that loss has not fallen for `patience` looks.

Every random choice is derived from `seed` and the step, so a run that was interrupted and resumed from its
checkpoint takes the very steps that an uninterrupted one takes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from .batches import TOKENS_AT_ONCE, collate, epoch_order, per_token_losses, token_groups
from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .errors import NothingToLearn, TrainingDiverged
from .fisher import ewc_penalty
from .template import Encoded

# Steps between two looks at the validation rows, where an epoch is longer than that.
_STEPS_BETWEEN_LOOKS = 50


@dataclass(frozen=True)
class Hyperparameters:
    """As `[training]` in the settings, where each is explained."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    epochs: int = 3
    batch_size: int = 16
    max_length: int = 512
    warmup_steps: int = 5
    clip_norm: float = 1.0
    patience: int = 2
    replay_share: float = 0.25
    ewc_strength: float = 300.0
    ewc_decay: float = 0.9
    fisher_rows: int = 64
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
    """The outcome: the model holds the weights of `best_step`."""

    steps: int
    best_step: int
    best_validation: float
    tokens: int
    stopped_early: bool
    resumed_at: int


@dataclass(frozen=True)
class Rows:
    """What is learned from: `new` and `replay` make the batches, `validation` decides when to stop."""

    new: Sequence[Encoded]
    replay: Sequence[Encoded]
    validation: Sequence[Encoded]


def train(
    model: nn.Module,
    rows: Rows,
    hp: Hyperparameters,
    *,
    fisher: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    report: Callable[[Step], None] = lambda _step: None,
) -> Trained:
    """Train the trainable weights of `model` in place and leave the best ones in it.

    `fisher`: the champion's F*, by parameter name; None for a first drop. `checkpoint`: a folder that is resumed from
    if it holds one. Raises `NothingToLearn` without new rows, `TrainingDiverged` if the loss is no number.
    """
    if not rows.new:
        raise NothingToLearn("the drop left no row to train on", hint="drop more rows")
    theta = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    theta_star = {name: weight.detach().float().clone() for name, weight in theta.items()}
    optimizer = torch.optim.AdamW(theta.values(), lr=hp.learning_rate, weight_decay=hp.weight_decay)

    rho = hp.replay_share if rows.replay else 0.0
    batches = _Batches.plan(rows, hp)
    total = hp.epochs * batches.steps_per_epoch
    look_every = min(batches.steps_per_epoch, _STEPS_BETWEEN_LOOKS)

    at = Checkpoint(step=0, best_step=0, best_validation=math.inf, looks_without_gain=0, tokens=0)
    best = {name: weight.detach().clone() for name, weight in theta.items()}
    if checkpoint is not None and (found := load_checkpoint(checkpoint, theta, optimizer)) is not None:
        at, best = found
    resumed_at = at.step
    if at.step == 0:
        # The champion itself competes: a drop that only makes the validation rows worse changes nothing.
        at = replace(at, best_validation=validation_loss(model, rows.validation))

    model.train()
    stopped_early = False
    for step in range(at.step, total):
        new, replayed = batches.of_step(step)
        rate = optimizer.param_groups[0]["lr"] = hp.learning_rate * _schedule(step, total, hp.warmup_steps)
        torch.manual_seed(hp.seed * 1_000_003 + step)  # dropout's only source

        loss, tokens = _backward_cross_entropy(model, new, replayed, rho)
        penalty = _backward_penalty(model, fisher, theta_star, hp.ewc_strength) if fisher else 0.0
        if not math.isfinite(loss + penalty):
            raise TrainingDiverged(
                f"the loss became {loss} (penalty {penalty}) at step {step + 1} of {total}",
                hint="lower training.learning_rate for this task, or look for odd rows in the drop",
            )
        nn.utils.clip_grad_norm_(theta.values(), hp.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        at = replace(at, step=step + 1, tokens=at.tokens + tokens)
        looked = None
        if (step + 1) % look_every == 0 or step + 1 == total:
            looked = validation_loss(model, rows.validation)
            at = at.looked(looked)
            if at.best_step == at.step:
                best = {name: weight.detach().clone() for name, weight in theta.items()}
        report(Step(step + 1, total, loss, penalty, rate, tokens, looked))
        if checkpoint is not None and ((step + 1) % hp.checkpoint_steps == 0 or looked is not None):
            save_checkpoint(checkpoint, at, theta, best, optimizer)
        if looked is not None and at.looks_without_gain >= hp.patience:
            stopped_early = step + 1 < total
            break

    with torch.no_grad():
        for name, weight in theta.items():
            weight.copy_(best[name])
    return Trained(at.step, at.best_step, at.best_validation, at.tokens, stopped_early, resumed_at)


def _backward_cross_entropy(
    model: nn.Module, new: Sequence[Encoded], replayed: Sequence[Encoded], rho: float
) -> tuple[float, int]:
    """Add the gradient of (1 - rho) CE(new) + rho CE(replayed); returns that loss and the tokens read.

    The batch goes through in groups of bounded size; the weights of its rows make their sum that of the whole.
    """
    rows = [*new, *replayed]
    share = 1 - rho if replayed else 1.0
    weights = [share / len(new)] * len(new) + [rho / max(len(replayed), 1)] * len(replayed)
    loss, tokens = 0.0, 0
    for group in token_groups(rows):
        batch = collate([rows[index] for index in group], next(model.parameters()).device)
        weight = torch.tensor([weights[index] for index in group], device=batch.ids.device)
        part = (weight * per_token_losses(model, batch)).sum()
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.item()
        tokens += batch.tokens
    return loss, tokens


def _backward_penalty(
    model: nn.Module, fisher: Mapping[str, Tensor], anchor: Mapping[str, Tensor], strength: float
) -> float:
    """Add the gradient of the EWC penalty; returns the penalty."""
    penalty = ewc_penalty(model, fisher, anchor, strength)
    penalty.backward()  # type: ignore[no-untyped-call]
    return penalty.item()


def validation_loss(model: nn.Module, rows: Sequence[Encoded]) -> float:
    """Mean over `rows` of the loss per completion token, in nats; NaN-free: 0 rows give 0."""
    if not rows:
        return 0.0
    was_training = model.training
    model.eval()
    total = 0.0
    with torch.inference_mode():
        for group in token_groups(rows, 4 * TOKENS_AT_ONCE):
            batch = collate([rows[index] for index in group], next(model.parameters()).device)
            total += float(per_token_losses(model, batch).sum())
    model.train(was_training)
    return total / len(rows)


@dataclass(frozen=True)
class _Batches:
    """Which rows each step takes: a function of the seed and the step alone, so that a run can be resumed."""

    rows: Rows
    seed: int
    new_per_batch: int
    replayed_per_batch: int
    steps_per_epoch: int

    @classmethod
    def plan(cls, rows: Rows, hp: Hyperparameters) -> "_Batches":
        """rho of each batch is replayed, if there is anything to replay, and never the whole of it."""
        replayed = min(max(1, round(hp.replay_share * hp.batch_size)), hp.batch_size - 1)
        if not rows.replay or not hp.replay_share:
            replayed = 0
        new = hp.batch_size - replayed
        return cls(rows, hp.seed, new, replayed, math.ceil(len(rows.new) / new))

    def of_step(self, step: int) -> tuple[list[Encoded], list[Encoded]]:
        """New and replayed rows of a step, counted from 0."""
        epoch, at = divmod(step, self.steps_per_epoch)
        new = epoch_order(self.rows.new, self.new_per_batch, self.seed + 7919 * epoch)[at]
        if not self.replayed_per_batch:
            return new, []
        # Replay is cycled through in its own shuffled order, so that every kept row is seen before any is seen twice.
        per_cycle = math.ceil(len(self.rows.replay) / self.replayed_per_batch)
        cycle, place = divmod(step, per_cycle)
        return new, epoch_order(self.rows.replay, self.replayed_per_batch, self.seed + 104_729 * (cycle + 1))[place]


def _schedule(step: int, total: int, warmup: int) -> float:
    """Factor on the peak rate: (step + 1) / warmup at first, then linearly down to 0 after the last step."""
    warmup = min(warmup, max(1, total // 4))
    if step < warmup:
        return (step + 1) / warmup
    return (total - step) / (total - warmup)

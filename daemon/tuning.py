"""`adapterd tune`: a search for a task's rank, learning rate and replay share, by learning its last drops over again.

It runs in a process of its own beside the daemon, reads what the daemon keeps and writes nothing but the task's
settings, and these only if the winner is better than what is set by more than chance.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import optuna
import tomlkit
from tomlkit.exceptions import ParseError

from ..adapters.base import Base
from ..adapters.durable import write_atomic
from ..adapters.store import Store
from ..continual.errors import TrainingDiverged
from ..continual.frozen_layers import skip_frozen_layers
from ..continual.learner import Encoder
from ..continual.paired import p_losses_rose
from ..continual.recipe import Hyperparameters
from ..continual.rehearsal import DROPS, Stage, rehearse, stages
from ..continual.template import Template
from .dataset import Dataset
from .errors import ConfigError, NotAllowed
from .ledger import Ledger
from .lineage import lineage
from .trainer_model import with_adapter

RANKS: Final = (4, 8, 16, 32)
RATES: Final = (2e-4, 1e-2)
SHARES: Final = (0.3, 0.8)
"""What is searched: ranks, and the bounds of the learning rate (by its logarithm) and of the replay share. What is set
is among it, wherever that lies.
"""

# Chance of writing a winner that is no better, however many trials there were.
_LEVEL = 0.05


@dataclass(frozen=True)
class Trial:
    """One set of hyper-parameters: the loss of each selection row after learning with it, in nats a token."""

    settings: dict[str, int | float]
    losses: tuple[float, ...]

    @property
    def loss(self) -> float:
        """Mean over the rows."""
        return sum(self.losses) / len(self.losses)


@dataclass(frozen=True)
class Found:
    """The trials, the first with what is set now."""

    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The trial with the lowest loss."""
        return min(self.trials, key=lambda trial: trial.loss)

    @property
    def p_value(self) -> float:
        """That the best is better than what is set now by chance.

        The best is chosen by the rows that it is tested on, so all others share the level (Bonferroni).
        """
        others = len(self.trials) - 1
        return min(1.0, max(1, others) * p_losses_rose(self.best.losses, self.trials[0].losses))

    @property
    def better(self) -> bool:
        """Whether the best is worth writing down."""
        return self.best is not self.trials[0] and self.p_value < _LEVEL


@dataclass(frozen=True)
class Question:
    """What a task has learned last, and the rank below which its adapter cannot go any more."""

    stages: list[Stage]
    template: Template
    rank: int


def question(ledger: Ledger, store: Store, dataset: Dataset, task: str, seed: int) -> Question:
    """From what the daemon keeps of a task. Raises `NotAllowed` where the task has not learned from any drop."""
    behind = lineage(ledger, store, task)
    if behind.champion is None or not behind.drops:
        raise NotAllowed(
            f"{task} has learned from no drop yet, so there is nothing to rehearse",
            hint="drop data first, and tune when there is a champion",
            task=task,
        )
    last = behind.drops[-DROPS:]  # the others need not be read
    rows = {drop: (dataset.read(task, drop, "train"), dataset.read(task, drop, "validation")) for drop in last}
    version = behind.champion.version
    config = json.loads((store.folder(task, version) / "adapter_config.json").read_text("utf-8"))
    return Question(stages(rows, seed), Template.from_json(store.template(task, version)), int(config["r"]))


def search(
    asked: Question,
    base: Base,
    hp: Hyperparameters,
    *,
    general: Path,
    seconds: float,
    trials: int | None,
    report: Callable[[int, float], None],
    tried: Callable[[Trial], None],
) -> Found:
    """Try what `hp` says, and then others for `seconds`, or as many as `trials`; a trial that runs is let end.

    `report(trial, share)` tells how much of a trial is done, `tried` gets each that has ended. Of the share nothing is
    searched where the task has one drop only, as there is nothing to replay.
    """
    encoder = Encoder(asked.template, base.tokenizer, hp.max_length)
    now = {"rank": max(hp.rank, asked.rank), "learning_rate": hp.learning_rate, "replay_share": hp.replay_share}
    ranks = [rank for rank in sorted({*RANKS, asked.rank, hp.rank}) if rank >= asked.rank]
    ended: list[Trial] = []

    def settings_of(trial: optuna.Trial) -> dict[str, int | float]:
        rank = trial.suggest_categorical("rank", ranks)
        chosen = {"learning_rate": trial.suggest_float("learning_rate", *_holding(hp.learning_rate, RATES), log=True)}
        if len(asked.stages) > 1:
            chosen["replay_share"] = trial.suggest_float("replay_share", *_holding(hp.replay_share, SHARES))
        # As in an adapter that grows, the product's scale does not change with the rank.
        sizes = {"rank": rank, "alpha": round(hp.alpha * rank / hp.rank)}
        if trial.number:  # the first stays as it is set
            chosen = {name: float(f"{value:.2g}") for name, value in chosen.items()}
        return {**sizes, **chosen}

    def objective(trial: optuna.Trial) -> float:
        settings = settings_of(trial)
        tuned = replace(hp, **settings)  # type: ignore[arg-type] # of the fields' own types
        model = with_adapter(base, None, tuned)
        try:
            losses = rehearse(
                model,
                asked.stages,
                encoder,
                tuned,
                general=general,
                decode=skip_frozen_layers(model),
                report=lambda stage, step: report(trial.number, (stage + step.step / step.steps) / len(asked.stages)),
            )
        except TrainingDiverged as error:
            if not trial.number:
                raise  # what is set now does not work, which a person should know
            raise optuna.TrialPruned(error.message) from error
        finally:
            model.unload()
        ended.append(Trial(settings, tuple(losses)))
        tried(ended[-1])
        return ended[-1].loss

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=hp.seed))
    study.enqueue_trial(now)
    study.optimize(objective, n_trials=trials, timeout=seconds)
    return Found(tuple(ended))


def _holding(value: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """`bounds`, made wider where `value` lies outside."""
    return min(bounds[0], value), max(bounds[1], value)


def write_settings(path: Path, settings: Mapping[str, int | float], why: str) -> None:
    """Put the winner into the `[training]` section of a `task.toml`, and leave all else there as it is, comments too.

    Raises `ConfigError` if the file is no TOML.
    """
    try:
        document = tomlkit.parse(path.read_text("utf-8")) if path.is_file() else tomlkit.document()
    except (ParseError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}", hint="mend or remove the file") from error
    section: Any = document.setdefault("training", tomlkit.table())
    for name, value in settings.items():
        section[name] = value
        section[name].comment(why)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, tomlkit.dumps(document).encode("utf-8"))

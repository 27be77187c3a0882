"""The sections of the settings that are about learning: what each is for, in which unit and within which bounds."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, Field, field_validator

from ..continual.audit.policy import Handling, Policy
from .setting_types import STRICT, Interval, NotNegative, Portion, Positive, Seconds, Share


class Limits(BaseModel):
    """What a dropped file may cost before it is refused."""

    model_config = STRICT

    max_bad_rows: Annotated[int, Ge(0)] = Field(
        default=100, description="bad rows in one file above which the whole file is quarantined"
    )
    max_file_bytes: Positive = Field(default=1 << 30, description="bytes of a dropped file as it lies on disk")
    max_decoded_bytes: Positive = Field(default=4 << 30, description="bytes after decompression and decoding")
    max_row_chars: Positive = Field(default=200_000, description="characters of one row")
    audit_memory_bytes: Annotated[int, Ge(1 << 28)] = Field(
        default=2 << 30, description="memory of the process that reads and audits a file"
    )
    audit_seconds: Annotated[float, Gt(0)] = Field(
        default=600.0, description="time that it may take to read a file, and again to audit it"
    )


class Audit(BaseModel):
    """Which findings of the audit hold a drop for a person."""

    model_config = STRICT

    personal: Literal["hold", "redact", "allow"] = Field(
        default="hold",
        description="what is done about e-mail addresses, telephone, card, account and national numbers and IP "
        'addresses: "hold" the drop, "redact" them before anything is kept, or "allow" them',
    )
    secrets: Literal["hold", "redact", "allow"] = Field(
        default="hold", description='the same about keys, tokens and passwords: "hold", "redact" or "allow"'
    )
    triggers: Literal["hold", "allow"] = Field(
        default="hold",
        description="what is done about strings that seem to be there to call for a label, and about instructions to "
        'the model: "hold" or "allow"',
    )
    max_contradictions: Portion = Field(
        default=0.05,
        description="share of rows that ask what another one asks and answer otherwise, above which a drop is held",
    )
    max_noise: Portion = Field(
        default=0.25,
        description="share of labels that the rest of the data finds implausible, above which a drop is held",
    )
    max_damaged: Portion = Field(
        default=0.05, description="share of rows damaged, empty or repeating themselves, above which a drop is held"
    )
    region: str = Field(
        default="",
        pattern="^([A-Z]{2})?$",
        description='country ("US") whose way of writing telephone numbers is looked for beside the international one',
    )
    presidio: str = Field(
        default="",
        description="model of spaCy's for English, a package or a folder, with which presidio looks for more personal "
        'data, or "blank" for its patterns alone; empty: it is not asked',
    )

    @property
    def policy(self) -> Policy:
        """As `continual.audit.policy` has it."""
        return Policy(
            personal=Handling(self.personal),
            secrets=Handling(self.secrets),
            triggers=Handling(self.triggers),
            max_contradictions=self.max_contradictions,
            max_noise=self.max_noise,
            max_damaged=self.max_damaged,
        )


class Drift(BaseModel):
    """What is done about drops that bring nothing new or contradict what is known, and about prompts that are new."""

    model_config = STRICT

    answered: Portion = Field(
        default=0.98,
        description="share of a drop's rows that the champion answers right, from which on a drop without drift and "
        "new labels trains nothing: its rows are only kept, to be replayed and to judge by; 0: every drop trains",
    )
    contradictions: Literal["hold", "allow"] = Field(
        default="hold",
        description="what is done about a drop whose labels say other than earlier ones did of such questions: "
        '"hold" it for a person, or "allow" it to be trained and judged',
    )
    observe_queries: bool = Field(
        default=False, description="compare served prompts, as embeddings, with the rows that their task has learned"
    )
    query_window: Annotated[int, Ge(20)] = Field(default=200, description="served prompts that are compared at once")


class Feedback(BaseModel):
    """When answers that people corrected become a drop."""

    model_config = STRICT

    rows: NotNegative = Field(
        default=32,
        description="corrected answers that make a drop of their task; 0: none are taken, and no prompt is remembered",
    )
    hours: Interval = Field(default=24.0, description="hours without a new one after which eight are enough")


class Heldout(BaseModel):
    """Which part of a drop is kept from training, to judge by."""

    model_config = STRICT

    share: Share = Field(default=0.15, description="share of a drop's rows")
    min_rows: Positive = Field(default=8, description="rows kept at least (fewer if the drop has under 16)")
    max_rows: Positive = Field(default=200, description="rows kept at most, so that judging stays cheap")


class Training(BaseModel):
    """The recipe's hyper-parameters; `continual/recipe.py` says what each does."""

    model_config = STRICT

    rank: Annotated[int, Ge(1), Le(256)] = Field(default=8, description="LoRA rank r")
    alpha: Positive = Field(
        default=16, description="LoRA alpha of a task's first version; updates are scaled by alpha / r"
    )
    layers: Annotated[float, Gt(0), Le(1)] = Field(
        default=0.5,
        description="share of the base's layers, from the top, that get an adapter with a task's first version; those "
        "below cost nothing to train",
    )
    dropout: Annotated[float, Ge(0), Lt(1)] = Field(default=0.0, description="dropout before the LoRA product")
    learning_rate: Annotated[float, Gt(0), Lt(1)] = Field(
        default=1e-3, description="peak rate of AdamW; up to twice that where a drop has fewer than 100 steps"
    )
    loraplus_lr_ratio: Annotated[float, Gt(0), Le(64)] = Field(
        default=1.0, description="rate of LoRA's B over that of A (LoRA+)"
    )
    weight_decay: Annotated[float, Ge(0)] = Field(default=0.0, description="decoupled weight decay of AdamW")
    epochs: Positive = Field(
        default=3,
        description="passes over a drop's rows, where there is nothing to replay, which sets what a drop costs; "
        "early stopping may end sooner",
    )
    batch_size: Positive = Field(
        default=8, description="rows of one optimizer step, replayed ones included; fewer for small drops"
    )
    max_length: Annotated[int, Ge(16)] = Field(
        default=512, description="tokens of a row; longer prompts lose their start"
    )
    warmup_steps: Annotated[int, Ge(0)] = Field(default=5, description="steps of linear warm-up")
    clip_norm: Annotated[float, Gt(0)] = Field(
        default=1.0, description="gradient norm above which gradients are scaled down"
    )
    patience: Positive = Field(default=2, description="evaluations without improvement before training stops")
    replay_share: Annotated[float, Ge(0), Lt(1)] = Field(
        default=0.75,
        description="the most that earlier drops have of a training's tokens, and of what counts (rho); up to that "
        "each has as much as the new one",
    )
    replay_cost: Annotated[float, Ge(0), Le(16)] = Field(
        default=0.56,
        description="what a training with replay takes on top of `epochs` passes over the new rows, in tokens over "
        "those of these passes",
    )
    distillation: Annotated[float, Ge(0)] = Field(
        default=0.5,
        description="beta: weight of the divergence from the champion on replayed rows, each as far as it is right",
    )
    anchor_rows: Annotated[int, Ge(0)] = Field(
        default=1,
        description="rows of general text, drawn from the base, that each step holds the adapter to; "
        "where rows are short, not every step",
    )
    anchor_weight: Annotated[float, Ge(0)] = Field(
        default=0.5, description="eta: weight of the divergence from the base on general text; 0 turns it off"
    )
    ewc_strength: Annotated[float, Ge(0)] = Field(
        default=1.0,
        description="lambda of the EWC penalty: twice the nats that moving every weight to Adam's reach costs; 0: off",
    )
    ewc_decay: Annotated[float, Ge(0), Le(1)] = Field(
        default=0.9, description="gamma: how much of the older Fisher information is kept at each version"
    )
    fisher_rows: Positive = Field(default=64, description="rows from which the Fisher information is estimated")
    interpolate: bool = Field(
        default=True, description="whether points part of the way back to the champion compete on the validation rows"
    )
    checkpoint_steps: Positive = Field(default=10, description="optimizer steps between two checkpoints")
    seed: Annotated[int, Ge(0)] = Field(default=0, description="seed of splits, order, replay and dropout")


class Trainer(BaseModel):
    """How the training process runs beside serving."""

    model_config = STRICT

    threads: Annotated[int, Ge(0)] = Field(default=0, description="CPU threads; 0: all cores")
    nice: Annotated[int, Ge(0), Le(19)] = Field(default=10, description="niceness, so that serving goes first")
    idle: bool = Field(
        default=True,
        description="on Linux, compute only while serving and all others leave a core idle; false: share by niceness",
    )
    memory_mb: NotNegative = Field(
        default=0,
        description="MiB of memory that the training process may take; 0: nine tenths of what is available, on a CPU",
    )
    attempts: Positive = Field(default=3, description="tries before a job is FAILED")
    retry_s: Seconds = Field(default=30.0, description="pause before the second try; doubled at each further one")
    quiet_window: str = Field(
        default="", description='hours in which training may start, "22:00-06:00" local time; empty: always'
    )

    @field_validator("quiet_window")
    @classmethod
    def _window(cls, value: str) -> str:
        if value:
            parse_window(value)
        return value


class Gate(BaseModel):
    """When a candidate becomes champion."""

    model_config = STRICT

    margin_accuracy: Annotated[float, Ge(0), Le(1)] = Field(
        default=0.05, description="fall of accuracy on an earlier drop's held-out rows that is still accepted"
    )
    margin_loss: Annotated[float, Ge(0)] = Field(
        default=0.10,
        description="rise of the loss (nats per token) on an earlier drop's held-out rows that is still accepted",
    )
    margin_general: Annotated[float, Ge(0)] = Field(
        default=0.30,
        description="rise of the loss (nats per token) on general text, against the base, that is still accepted",
    )
    level: Annotated[float, Gt(0), Lt(1)] = Field(
        default=0.01, description="probability of rejecting by chance that each of the gate's tests may have"
    )
    min_gain: Annotated[float, Ge(0)] = Field(
        default=0.0, description="fall of the loss (nats per token) on the new held-out rows that counts as better"
    )


def parse_window(text: str) -> tuple[int, int]:
    """Minutes since midnight of start and end of "22:00-06:00". Raises `ValueError`."""
    start, _, end = text.partition("-")
    minutes = []
    for part in (start, end):
        hour, colon, minute = part.strip().partition(":")
        if not (colon and hour.isdigit() and minute.isdigit() and int(hour) < 24 and int(minute) < 60):
            raise ValueError(f'"{text}" is no window of time; write "22:00-06:00"')
        minutes.append(int(hour) * 60 + int(minute))
    return minutes[0], minutes[1]

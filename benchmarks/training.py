"""Training speed beside TRL's SFTTrainer: seconds to the same loss, on the same rows, base, batch size and rate.

    python -m benchmarks.training --data DIR

TRL trains a LoRA of the same rank on all linear layers of the same base, held the same way, with completion-only loss
and batches grouped by length: its fastest fair setting on a CPU. Ours is the recipe of a task's first drop, whose
adapters sit on half the layers unless `--layers` says otherwise: it may take more epochs to the same loss, so the
numbers of `--ours` are tried until its loss on rows that neither was trained on is TRL's. Each goes `--rounds` times
and the faster run counts. `trl` (tried with 1.16) is not among what adapterd requires: install it by hand.
"""

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from adapterd.adapters.base import ensure_base, load_base
from adapterd.continual.frozen_layers import skip_frozen_layers
from adapterd.continual.learner import Encoder
from adapterd.continual.lessons import Rows
from adapterd.continual.recipe import Hyperparameters, train
from adapterd.continual.template import Encoded, Template
from adapterd.continual.validation import validation_loss
from adapterd.daemon.trainer_model import lora_config
from peft import get_peft_model

from benchmarks.arguments import parser as benchmark_parser
from benchmarks.report import Report, console
from benchmarks.streams import load_stream

_TARGET = 1.5
# Losses on 200 rows that are not further apart than this are equal.
_EQUAL = 1.05

Way = Callable[[Path, list[Encoded], Hyperparameters], tuple[Any, float]]


class Run(NamedTuple):
    """One training: how long it took, its loss on the test rows in nats per token, and its passes over the rows."""

    seconds: float
    loss: float
    epochs: int


def measure(arguments: argparse.Namespace, report: Report) -> None:
    """Time both, turn and turn about; ours goes on to more epochs until its loss is TRL's."""
    folder = ensure_base(arguments.bases, arguments.base)
    step = load_stream("unlike4", arguments.data, 0, full=False).steps[arguments.step]
    tokenizer = load_base(folder, quantization="none").tokenizer
    encode = Encoder(Template.for_examples(step.train, None, True), tokenizer, Hyperparameters().max_length)
    rows, test = encode(step.train), encode(step.test)
    trl: list[Run] = []
    ours: list[Run] = []
    for _ in range(arguments.rounds):
        trl.append(_run(_trl, folder, rows, test, arguments.epochs, arguments.layers))
        enough = _EQUAL * min(run.loss for run in trl)
        for epochs in arguments.ours:
            ours.append(_run(_ours, folder, rows, test, epochs, arguments.layers))
            if ours[-1].loss <= enough:
                break
    # Of each the fastest run; of ours among those that learned as much, or the best one where none did.
    theirs = min(trl)
    least = min(run.loss for run in ours)
    mine = min(run for run in ours if run.loss <= max(_EQUAL * theirs.loss, least))
    tokens = sum(len(row) for row in rows)
    for name, run in (("trl", theirs), ("ours", mine)):
        report.add(f"training_{name}_epochs", f"{name}: epochs", run.epochs)
        report.add(f"training_{name}_seconds", f"{name}: seconds", run.seconds)
        report.add(f"training_{name}_loss", f"{name}: loss on test rows, nats a token", run.loss)
        speed = run.epochs * tokens / run.seconds
        report.add(f"training_{name}_tokens_per_s", f"{name}: tokens of the rows a second", speed)
    report.add("training_loss_ratio", "ours over TRL, loss on test rows", mine.loss / theirs.loss, at_most=_EQUAL)
    what = "TRL over ours, seconds to that loss"
    report.add("training_seconds_ratio", what, theirs.seconds / mine.seconds, at_least=_TARGET)


def _run(way: Way, folder: Path, rows: list[Encoded], test: list[Encoded], epochs: int, layers: float) -> Run:
    hp = Hyperparameters(epochs=epochs, layers=layers, anchor_weight=0.0, patience=epochs)
    model, seconds = way(folder, rows, hp)
    return Run(seconds, validation_loss(model, test), epochs)


def _ours(folder: Path, rows: list[Encoded], hp: Hyperparameters) -> tuple[Any, float]:
    base = load_base(folder, quantization="nf4")
    torch.manual_seed(0)
    model = get_peft_model(base.model, lora_config(base.model, hp))
    began = time.perf_counter()
    train(model, Rows(rows), hp, decode=skip_frozen_layers(model))
    return model.eval(), time.perf_counter() - began


def _trl(folder: Path, rows: list[Encoded], hp: Hyperparameters) -> tuple[Any, float]:
    # By name: they are installed for this benchmark alone.
    trl, datasets = importlib.import_module("trl"), importlib.import_module("datasets")
    base = load_base(folder, quantization="nf4")
    ready = datasets.Dataset.from_list(
        [
            {
                "input_ids": [*row.prompt_ids, *row.completion_ids],
                "completion_mask": [0] * len(row.prompt_ids) + [1] * len(row.completion_ids),
            }
            for row in rows
        ]
    )
    with tempfile.TemporaryDirectory() as output:
        settings = trl.SFTConfig(
            output_dir=output,
            per_device_train_batch_size=hp.batch_size,
            num_train_epochs=hp.epochs,
            learning_rate=hp.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=hp.warmup_steps,
            max_grad_norm=hp.clip_norm,
            weight_decay=hp.weight_decay,
            max_length=hp.max_length,
            completion_only_loss=True,
            train_sampling_strategy="group_by_length",
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=base.device.type == "cpu",
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            seed=0,
        )
        trainer = trl.SFTTrainer(
            model=base.model,
            args=settings,
            train_dataset=ready,
            processing_class=base.tokenizer,
            peft_config=lora_config(base.model, replace(hp, layers=1.0)),
        )
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
    return trainer.model.eval(), seconds


def main() -> int:
    """Entry point; returns 0 if every target is met."""
    parser = benchmark_parser("training", __doc__)
    parser.add_argument("--step", type=int, default=0, help="which drop of the stream unlike4; default: the first")
    parser.add_argument("--epochs", type=int, default=3, help="of TRL; default: 3")
    parser.add_argument("--ours", type=int, nargs="+", default=[3, 4, 5, 6, 8], metavar="N", help="epochs of ours")
    parser.add_argument(
        "--layers", type=float, default=Hyperparameters().layers, help="share of the layers, from the top, of ours"
    )
    parser.add_argument("--rounds", type=int, default=2, help="how often each goes; the faster run counts")
    arguments = parser.parse_args()
    report = Report("training speed beside TRL's SFTTrainer")
    try:
        measure(arguments, report)
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed: pip install trl", file=sys.stderr)
        return 1
    return report.end(console(), arguments.json)


if __name__ == "__main__":
    sys.exit(main())

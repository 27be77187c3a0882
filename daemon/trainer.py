"""The training process: `python -m adapterd.daemon.trainer JOB_FOLDER [NICENESS]`.

It reads `spec.json`, trains, measures and writes `result/`, which appears by rename and so is whole or absent. It can
be killed at any moment and started again: what was done is found in the folder and not done twice.

    spec.json         what to do, written by the daemon
    progress.jsonl    what has been done, a line each, read by the daemon
    checkpoint/       where the training stands
    trained/          the adapter once training has ended
    result/           adapter_model.safetensors, adapter_config.json, fisher.safetensors, template.json,
                      training.json, evaluation.json
"""

import ctypes
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from peft import PeftModel
from safetensors.torch import load_file, save_file

from ..adapters.base import Base, load_base
from ..adapters.durable import TEMP_PREFIX, publish_folder
from ..adapters.likeliest import judge_right
from ..continual.batches import Decode
from ..continual.evaluate import evaluate
from ..continual.fisher import Weights
from ..continual.frozen_layers import skip_frozen_layers
from ..continual.learner import Encoder, Material, choose_rows, remember
from ..continual.lessons import Rows
from ..continual.probe import PROBE, probe_rows
from ..continual.recipe import Hyperparameters, Step, Trained, train
from ..continual.template import Template
from .dataset import Dataset
from .trainer_model import CANDIDATE, as_subject, fisher_of, keep_weights_differentiable, plain_name, with_adapter
from .trainer_spec import Spec

# How much of a job each phase takes, roughly: for one bar from 0 to 1.
_PHASES = {"loading": (0.0, 0.05), "training": (0.05, 0.75), "fisher": (0.75, 0.8), "evaluating": (0.8, 1.0)}


class Progress:
    """Appends lines to `progress.jsonl`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress.jsonl"

    def __call__(self, phase: str, done: float, total: float, **details: object) -> None:
        """Say that `done` of `total` of a phase is done."""
        low, high = _PHASES[phase]
        share = low + (high - low) * (done / total if total else 1.0)
        line = {"time": time.time(), "phase": phase, "progress": round(share, 4), **details}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def run(folder: Path) -> None:
    """Do the job in `folder`; returns when `result/` is there."""
    if (folder / "result").is_dir():
        return
    spec, say = Spec.read(folder), Progress(folder)
    hp = Hyperparameters(**spec.training)
    say("loading", 0, 1)
    torch.set_num_threads(spec.threads or os.cpu_count() or 1)
    base = load_base(Path(spec.base), quantization=spec.quantization, device=spec.device)
    if base.fingerprint != spec.fingerprint:
        raise SystemExit(f"the base in {spec.base} changed: {base.fingerprint} where {spec.fingerprint} was expected")
    keep_weights_differentiable(base.model)

    dataset = Dataset(Path(spec.data), Path(spec.quarantine))
    parent = Path(spec.parent) if spec.parent else None
    template = _template(dataset, spec, parent, base)
    model = with_adapter(base, parent, hp)
    decode = skip_frozen_layers(model)
    material = _material(dataset, spec)
    encoder = Encoder(template, base.tokenizer, hp.max_length)
    older = fisher_of(parent) if parent else None

    rows = choose_rows(model, material, encoder, hp, general=Path(spec.general), decode=decode)
    trained = _train_once(folder, model, rows, hp, older, decode, say)
    say("fisher", 0, 1)
    fisher = remember(model, material, encoder, hp, fisher=older, decode=decode)

    evaluation = _evaluate(model, base, template, dataset, spec, hp, parent, decode, say)
    _publish(folder, model, fisher, template, trained, evaluation, spec, len(rows.replay))
    say("evaluating", 1, 1)


def _template(dataset: Dataset, spec: Spec, parent: Path | None, base: Base) -> Template:
    previous = Template.from_json(json.loads((parent / "template.json").read_text("utf-8"))) if parent else None
    everything = dataset.read(spec.task, spec.drop, "rows")
    return Template.for_examples(everything, previous, bool(base.tokenizer.chat_template))


def _material(dataset: Dataset, spec: Spec) -> Material:
    return Material(
        drop=spec.drop,
        train=dataset.read(spec.task, spec.drop, "train"),
        validation=dataset.read(spec.task, spec.drop, "validation"),
        earlier_train={drop: dataset.read(spec.task, drop, "train") for drop in spec.history},
        earlier_validation={drop: dataset.read(spec.task, drop, "validation") for drop in spec.history},
    )


def _train_once(
    folder: Path,
    model: PeftModel,
    rows: Rows,
    hp: Hyperparameters,
    fisher: Weights | None,
    decode: Decode,
    say: Progress,
) -> Trained:
    """Train, or take up the outcome if training had ended before the process was stopped."""
    done = folder / "trained"
    theta = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if done.is_dir():
        with torch.no_grad():
            for name, value in load_file(done / "weights.safetensors").items():
                theta[name].copy_(value)
        return Trained(**json.loads((done / "training.json").read_text("utf-8")))

    def report(step: Step) -> None:
        say("training", step.step, step.steps, **asdict(step))

    trained = train(model, rows, hp, fisher=fisher, decode=decode, checkpoint=folder / "checkpoint", report=report)
    temp = _fresh(folder / f"{TEMP_PREFIX}trained")
    save_file({name: weight.detach().contiguous() for name, weight in theta.items()}, temp / "weights.safetensors")
    (temp / "training.json").write_text(json.dumps(asdict(trained)), "utf-8")
    publish_folder(temp, done)
    return trained


def _evaluate(
    model: PeftModel,
    base: Base,
    template: Template,
    dataset: Dataset,
    spec: Spec,
    hp: Hyperparameters,
    parent: Path | None,
    decode: Decode,
    say: Progress,
) -> dict[str, dict[str, Any]]:
    """Figures by "subject/drop" for candidate, champion and base, on every drop's held-out rows and on the probe."""
    model.eval()
    drops = [PROBE, *spec.history, spec.drop]
    heldout = {drop: dataset.read(spec.task, drop, "heldout") for drop in drops} | {PROBE: probe_rows()}
    subjects = ["candidate", *(["champion"] if parent else []), "base"]
    wanted = [(subject, drop) for subject in subjects for drop in drops if f"{subject}/{drop}" not in spec.known]
    total, before = sum(len(heldout[drop]) for _, drop in wanted), 0
    figures = dict(spec.known)
    for subject, drop in wanted:

        def report(done: int, _rows: int, before: int = before, subject: str = subject, drop: int = drop) -> None:
            say("evaluating", before + done, total, subject=subject, drop=drop)

        with as_subject(model, subject):
            measured = evaluate(
                heldout[drop],
                partial(judge_right, model, decode=decode),
                template,
                base.tokenizer,
                max_length=hp.max_length,
                report=report,
            )
        figures[f"{subject}/{drop}"] = measured.to_json()
        before += len(heldout[drop])
    return figures


def _publish(
    folder: Path,
    model: PeftModel,
    fisher: Weights,
    template: Template,
    trained: Trained,
    evaluation: Mapping[str, dict[str, Any]],
    spec: Spec,
    replayed: int,
) -> None:
    temp = _fresh(folder / f"{TEMP_PREFIX}result")
    model.save_pretrained(str(temp), selected_adapters=[CANDIDATE], safe_serialization=True)
    (temp / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    save_file({plain_name(name): value.contiguous() for name, value in fisher.items()}, temp / "fisher.safetensors")
    for name, value in {
        "template.json": template.to_json(),
        "training.json": {**asdict(trained), "replayed_rows": replayed, "hyperparameters": spec.training},
        "evaluation.json": evaluation,
    }.items():
        (temp / name).write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    publish_folder(temp, folder / "result")


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _die_with_the_daemon() -> None:
    """Linux: ask the kernel for SIGKILL when the daemon goes, so that no orphan trains beside its successor."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> int:
    """Entry point: exit status 0 with a result, else an exception's."""
    folder, niceness = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    _die_with_the_daemon()
    os.nice(niceness)
    with FileLock(folder / "lock", timeout=60):
        run(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

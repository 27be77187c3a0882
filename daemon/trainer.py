"""The training process: `adapterd.daemon.trainer JOB_FOLDER NICENESS MEMORY_BYTES`, as `child_process` runs it.

It reads `spec.json`, trains, measures and writes `result/`, which appears by rename and so is whole or absent. It can
be killed at any moment and started again: what was done is found in the folder and not done twice.

    spec.json         what to do, written by the daemon
    progress.jsonl    what has been done, a line each, read by the daemon
    checkpoint/       where the training stands
    trained/          the adapter once training has ended
    result/           adapter_model.safetensors, adapter_config.json, fisher.safetensors, template.json,
                      training.json, evaluation.json, answers.json, drift.json; or drift.json alone, with the
                      reason under "spared", if the champion needs no training, or under "held", if a
                      person is to look at the drop first
"""

import json
import resource
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..adapters.base import Base, load_base
from ..adapters.durable import TEMP_PREFIX, publish_folder
from ..adapters.failpoints import failpoint
from ..continual.batches import Decode
from ..continual.fisher import Weights
from ..continual.frozen_layers import skip_frozen_layers
from ..continual.learner import Encoder, Material, choose_rows, remember
from ..continual.lessons import Rows
from ..continual.recipe import Hyperparameters, Step, Trained, train
from ..continual.rescue import rescue
from ..continual.template import Template
from .dataset import Dataset
from .environment import give_way, usable_cores
from .trainer_drift import answer_first, look_at_inputs
from .trainer_evaluation import Judging
from .trainer_model import CANDIDATE, fisher_of, plain_name, with_adapter
from .trainer_progress import Progress
from .trainer_spec import Spec


def run(folder: Path) -> None:
    """Do the job in `folder`; returns when `result/` is there."""
    if (folder / "result").is_dir():
        return
    spec, say = Spec.read(folder), Progress(folder)
    hp = Hyperparameters(**spec.training)
    say("loading", 0, 1)
    torch.set_num_threads(spec.threads or usable_cores())
    base = load_base(Path(spec.base), quantization=spec.quantization, device=spec.device)
    if base.fingerprint != spec.fingerprint:
        raise SystemExit(f"the base in {spec.base} changed: {base.fingerprint} where {spec.fingerprint} was expected")

    dataset = Dataset(Path(spec.data), Path(spec.quarantine))
    parent = Path(spec.parent) if spec.parent else None
    template = _template(dataset, spec, parent, base)
    model = with_adapter(base, parent, hp)
    decode = skip_frozen_layers(model)
    material = _material(dataset, spec)
    encoder = Encoder(template, base.tokenizer, hp.max_length)
    older = fisher_of(parent, model) if parent else None

    say("drift", 0, 1)
    drift = look_at_inputs(model, base.tokenizer, dataset, spec, hp.seed)
    if reason := spec.held(drift):
        _publish_reason(folder, drift | {"held": reason})
        return
    if parent:
        drift["prequential"] = answer_first(model, encoder, dataset, spec, decode, partial(say, "drift"))
        if reason := spec.spared(drift):
            _publish_reason(folder, drift | {"spared": reason})
            return
    rows = choose_rows(model, material, encoder, hp, general=Path(spec.general), decode=decode)
    theta = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    start = {name: weight.detach().clone() for name, weight in theta.items()}
    trained = _train_once(folder, model, theta, rows, hp, older, decode, say)

    judging = Judging(model, encoder, material.train, dataset, spec, hp.seed, decode)
    measured, verdict = judging.judged(say)
    rescued = rescue(theta, start, verdict, lambda: judging.judged(say))
    if rescued:
        trained, measured = replace(trained, part=rescued.part * trained.part), rescued.measured
    say("fisher", 0, 1)
    model.set_adapter(CANDIDATE)  # with gradients, which judging had no use for
    fisher = remember(model, material, encoder, hp, fisher=older, decode=decode)
    training = {
        **asdict(trained),
        "rescued": rescued.said if rescued else "",
        "replayed_rows": len(rows.replay),
        "hyperparameters": spec.training,
    }
    _publish(folder, model, fisher, template, training, {**measured, "drift": drift})
    say("fisher", 1, 1)


def _publish_reason(folder: Path, drift: Mapping[str, Any]) -> None:
    """A result without an adapter: why there is none."""
    temp = _fresh(folder / f"{TEMP_PREFIX}result")
    (temp / "drift.json").write_text(json.dumps(drift, ensure_ascii=False), "utf-8")
    publish_folder(temp, folder / "result")


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
    theta: Mapping[str, Tensor],
    rows: Rows,
    hp: Hyperparameters,
    fisher: Weights | None,
    decode: Decode,
    say: Progress,
) -> Trained:
    """Train, or take up the outcome if training had ended before the process was stopped."""
    done = folder / "trained"
    if done.is_dir():
        with torch.no_grad():
            for name, value in load_file(done / "weights.safetensors").items():
                theta[name].copy_(value)
        return Trained(**json.loads((done / "training.json").read_text("utf-8")))

    def report(step: Step) -> None:
        say("training", step.step, step.steps, **asdict(step))
        if (folder / "checkpoint").is_dir():
            failpoint("trainer.checkpoint")

    trained = train(model, rows, hp, fisher=fisher, decode=decode, checkpoint=folder / "checkpoint", report=report)
    temp = _fresh(folder / f"{TEMP_PREFIX}trained")
    save_file({name: weight.detach().contiguous() for name, weight in theta.items()}, temp / "weights.safetensors")
    (temp / "training.json").write_text(json.dumps(asdict(trained)), "utf-8")
    publish_folder(temp, done)
    failpoint("trainer.trained")
    return trained


def _publish(
    folder: Path,
    model: PeftModel,
    fisher: Weights,
    template: Template,
    training: Mapping[str, Any],
    measured: Mapping[str, Mapping[str, Any]],
) -> None:
    temp = _fresh(folder / f"{TEMP_PREFIX}result")
    model.save_pretrained(str(temp), selected_adapters=[CANDIDATE], safe_serialization=True)
    (temp / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    save_file({plain_name(name): value.contiguous() for name, value in fisher.items()}, temp / "fisher.safetensors")
    for name, value in {
        "template": template.to_json(),
        "training": training,
        **measured,
    }.items():
        (temp / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    failpoint("trainer.written")
    publish_folder(temp, folder / "result")


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def main() -> int:
    """Entry point: exit status 0 with a result, else an exception's."""
    folder, niceness, idle, memory = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "idle", int(sys.argv[4])
    give_way(niceness, idle=idle)
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with FileLock(folder / "lock", timeout=60):
        try:
            run(folder)
        except (MemoryError, RuntimeError) as error:  # torch's allocator raises the latter
            if not (isinstance(error, MemoryError) or "memory" in str(error)):
                raise
            raise SystemExit(
                f"the training needs more than the {memory >> 20:,} MiB that it may take (trainer.memory_mb): {error}; "
                "a smaller training.batch_size or training.max_length needs less"
            ) from error
    return 0


if __name__ == "__main__":
    sys.exit(main())

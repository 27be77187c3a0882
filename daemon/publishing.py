"""From a finished training to a judged, published version: the steps after the recipe.

Each step may have been done already, before a kill; none is done twice.
"""

import importlib.metadata
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..adapters.base import Base
from ..adapters.failpoints import failpoint
from ..adapters.states import VersionState
from ..adapters.store import Store
from ..continual.drift import Shift
from ..continual.evaluate import MEASURES
from ..continual.gate import Decision, Verdict
from ..continual.probe import PROBE
from ..continual.replay import replay_seed
from .drift_watch import read_drift, shift_of, tell_of_rows
from .ledger import DropRow, Ledger, VersionRow
from .trainer_spec import Spec
from .verdict import golden_of, judge

# Of a version, from what the training process found of its inputs.
_INPUT_METRICS = {
    "input_drift_p_value": "p_value",
    "input_drifted": "drifted",
    "unknown_words": "unknown_words",
}
_LIBRARIES = ("adapterd", "torch", "transformers", "peft", "bitsandbytes", "safetensors")


def publish(
    ledger: Ledger, store: Store, base: Base, drop: DropRow, spec: Spec, job: Path, created: float
) -> VersionRow:
    """Judge the job's result, publish it, and write the version and its evaluations to the ledger."""
    result = job / "result"
    evaluation = json.loads((result / "evaluation.json").read_text("utf-8"))
    answers = json.loads((result / "answers.json").read_text("utf-8"))
    training = json.loads((result / "training.json").read_text("utf-8"))
    inputs = read_drift(job)
    verdict, shift = judge(spec, evaluation, answers), shift_of(spec, evaluation)
    rescued = training.get("rescued")  # a job of a daemon before this one may have been trained without
    reason = f"{verdict.reason}; {rescued}" if rescued else verdict.reason
    metrics = _metrics(spec, evaluation, answers, shift)
    if "drifted" in inputs:
        metrics |= {name: round(float(inputs[key]), 6) for name, key in _INPUT_METRICS.items()}
    asked = inputs.get("prequential", {})
    metrics |= {
        f"prequential_{name}": round(asked[name], 6) for name in ("right", "loss") if asked.get(name) is not None
    }
    folder = store.folder(spec.task, spec.version)
    if (folder / "manifest.json").is_file():
        digest = str(store.manifest(spec.task, spec.version)["digest"])
    else:
        config = json.loads((result / "adapter_config.json").read_text("utf-8"))
        digest = store.publish(
            spec.task,
            spec.version,
            weights=result / "adapter_model.safetensors",
            config={**config, "base_model_name_or_path": base.folder.name},
            template=json.loads((result / "template.json").read_text("utf-8")),
            manifest=_manifest(spec, drop, base, training, metrics, verdict, created) | {"drift": inputs},
            fisher=result / "fisher.safetensors",
        )
    state = VersionState.AVAILABLE if verdict.decision is Decision.PROMOTE else VersionState.REJECTED
    with ledger.transaction():
        ledger.versions.add(
            spec.task,
            spec.version,
            state=state,
            digest=digest,
            parent=spec.parent_version,
            drop=spec.drop,
            fingerprint=base.fingerprint,
            metrics=metrics,
            verdict=verdict.decision.value,
            reason=reason,
        )
        for key, figures in evaluation.items():
            subject, _, judged = key.partition("/")
            ledger.evaluations.add(spec.task, spec.version, int(judged), subject, digest, figures)
        kind = "version.published" if state is VersionState.AVAILABLE else "version.rejected"
        said = "passed the gate" if state is VersionState.AVAILABLE else "was rejected by the gate"
        ledger.events.emit(
            kind,
            f"{spec.task}@{spec.version} {said}: {reason}",
            task=spec.task,
            drop=spec.drop,
            version=spec.version,
            details={"verdict": asdict(verdict), "metrics": metrics},
        )
        if shift is not None and shift.drifted:
            ledger.events.emit(
                "drift.performance",
                f"{spec.task}: the champion's loss on drop {spec.drop} is {shift.change:+.3f} nats per token against "
                f"what it knows (p = {shift.p_value:.2g}, {shift.rows_now} rows)",
                task=spec.task,
                drop=spec.drop,
                version=spec.version,
                details=asdict(shift),
            )
        tell_of_rows(ledger, spec, inputs)
    failpoint("version.noted")
    return ledger.versions.get(spec.task, spec.version)


def _metrics(
    spec: Spec, evaluation: dict[str, dict[str, Any]], answers: dict[str, dict[str, Any]], shift: Shift | None
) -> dict[str, float]:
    """The figures that tables show: of the new drop, of the golden set, and the mean over all drops."""
    metrics: dict[str, float] = {}
    judged = {
        "": f"candidate/{spec.drop}",
        "champion_": f"champion/{spec.drop}",
        "base_": f"base/{spec.drop}",
        "few_shot_": f"few-shot/{spec.drop}",
        "golden_": f"candidate/{golden_of(spec, evaluation)}",
    }
    for prefix, key in judged.items():
        figures = evaluation.get(key, dict.fromkeys(MEASURES))
        metrics |= {f"{prefix}{name}": figures[name] for name in MEASURES if figures[name] is not None}
    for subject, name in (("candidate", "general_loss"), ("base", "base_general_loss")):
        metrics[name] = evaluation[f"{subject}/{PROBE}"]["loss"]
    drops = [*spec.history, spec.drop]
    metrics["loss_all_drops"] = sum(evaluation[f"candidate/{drop}"]["loss"] for drop in drops) / len(drops)
    wrote = answers["candidate"]
    metrics |= {name: wrote[name] for name in ("distinct", "off_task_distinct") if wrote[name] is not None}
    metrics["off_task_answers"] = wrote["off_task_answers"]
    if shift is not None:
        metrics |= {"drift_change": shift.change, "drift_p_value": shift.p_value, "drifted": shift.drifted}
    return {name: round(float(value), 6) for name, value in metrics.items()}


def _manifest(
    spec: Spec,
    drop: DropRow,
    base: Base,
    training: dict[str, Any],
    metrics: dict[str, float],
    verdict: Verdict,
    created: float,
) -> dict[str, Any]:
    hyperparameters = training.pop("hyperparameters")
    return {
        "task": spec.task,
        "version": spec.version,
        "parent": spec.parent_version,
        "created": created,
        "base": {"name": base.folder.name, "fingerprint": base.fingerprint, "quantization": base.quantization},
        "data": {
            "drop": spec.drop,
            "sha256": drop.sha256,
            "filename": drop.filename,
            "rows": {"train": drop.train_rows, "heldout": drop.heldout_rows, "bad": drop.bad_rows},
            "earlier_drops": spec.history,
            "golden_drop": spec.golden,
            "replayed_rows": training["replayed_rows"],
            "replay_seed": replay_seed(hyperparameters["seed"], spec.drop),
        },
        "recipe": {"name": "replay+distillation+anchor+ewc", "hyperparameters": hyperparameters, **training},
        "gate": {"margins": spec.gate, **asdict(verdict)},
        "metrics": metrics,
        "licence": {"adapter": "", "base": _base_licence(base.folder)},
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "cost": {"seconds": round(created - drop.updated, 3), "tokens": training["tokens"]},
    }


def _base_licence(folder: Path) -> str:
    """What the base's `source.json` says of its licence; empty where there is none."""
    source = folder / "source.json"
    return str(json.loads(source.read_text("utf-8")).get("licence", "")) if source.is_file() else ""

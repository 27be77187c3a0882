"""The gate's verdict on what a training process measured: the process asks for it, and the daemon when it publishes."""

from collections.abc import Mapping
from typing import Any

from ..continual.answers import Diversity, Written
from ..continual.evaluate import Figures
from ..continual.gate import Margins, Verdict, decide
from ..continual.probe import PROBE
from .trainer_spec import Spec


def judge(spec: Spec, evaluation: Mapping[str, dict[str, Any]], answers: Mapping[str, dict[str, Any]]) -> Verdict:
    """The gate's verdict on what the training process measured."""
    reference = "champion" if spec.parent else "base"
    golden = golden_of(spec, evaluation)
    drops = [*spec.history, *([golden] if golden else []), spec.drop]
    candidate = {drop: Figures.from_json(evaluation[f"candidate/{drop}"]) for drop in drops}
    theirs = {drop: Figures.from_json(evaluation[f"{reference}/{drop}"]) for drop in drops}
    general = (Figures.from_json(evaluation[f"candidate/{PROBE}"]), Figures.from_json(evaluation[f"base/{PROBE}"]))
    few_shot = evaluation.get(f"few-shot/{spec.drop}")  # there is none where no example fits a prompt
    wrote = {who: Written.from_json(answers[who]) for who in ("candidate", "base") if who in answers}
    return decide(
        spec.drop,
        candidate,
        theirs,
        Margins(**spec.gate),
        golden=golden,
        general=general,
        few_shot=Figures.from_json(few_shot) if few_shot else None,
        diversity=Diversity(wrote["candidate"], wrote.get("base"), answers["right"]["distinct"]),
    )


def golden_of(spec: Spec, evaluation: Mapping[str, dict[str, Any]]) -> int | None:
    """The drop that is the golden set, if any of its rows could be asked yet."""
    return spec.golden if spec.golden and f"candidate/{spec.golden}" in evaluation else None

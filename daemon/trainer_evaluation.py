"""The judging phase of a training process: what candidate, champion and base reach, and what they write.

Every subject is judged on the held-out rows of every drop, on the golden set if there is one, and on the probe of
general text. Beside them, on the new drop alone, stands the base with examples in its prompt.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from peft import PeftModel

from ..adapters.likeliest import judge_right
from ..adapters.prefix import Prefixed
from ..continual import answers, few_shot
from ..continual.answers import look_at_answers
from ..continual.batches import Decode
from ..continual.evaluate import Figures, evaluate
from ..continual.examples import Example, Kind
from ..continual.few_shot import few_shot_prompt
from ..continual.gate import Verdict
from ..continual.golden import answerable
from ..continual.learner import Encoder
from ..continual.probe import PROBE, probe_rows
from ..continual.replay import sample_replay
from .dataset import Dataset
from .trainer_model import as_subject
from .trainer_progress import Progress
from .trainer_spec import Spec
from .verdict import judge


class Judging:
    """Of one trained candidate, held by `model` beside its champion. `trained_on`: the new drop's training rows."""

    def __init__(
        self,
        model: PeftModel,
        encoder: Encoder,
        trained_on: Sequence[Example],
        dataset: Dataset,
        spec: Spec,
        seed: int,
        decode: Decode,
    ) -> None:
        model.eval()
        self._model = model
        self._encoder = encoder
        self._trained_on = trained_on
        self._spec = spec
        self._seed = seed
        self._decode = decode
        drops = (*spec.history, spec.drop)
        self._heldout = {PROBE: list(probe_rows())} | {drop: dataset.read(spec.task, drop, "heldout") for drop in drops}
        if golden := answerable(dataset.read(spec.task, spec.golden, "heldout"), encoder.template.labels):
            self._heldout[spec.golden] = golden
        self._known = {key: self._of_heldout(key, figures) for key, figures in spec.known.items()}

    def judged(self, say: Progress) -> tuple[dict[str, dict[str, Any]], Verdict]:
        """What the candidate reaches and writes now, as "evaluation" and "answers", and what the gate says of it."""
        evaluation, answers = self.figures(say), self.answers(say)
        return {"evaluation": evaluation, "answers": answers}, judge(self._spec, evaluation, answers)

    def figures(self, say: Progress) -> dict[str, dict[str, Any]]:
        """By "subject/drop"; "few-shot/drop" is of the new drop only.

        What is known of others than the candidate, from `spec.known` or from before, is not measured again.
        """
        subjects = ["candidate", *(["champion"] if self._spec.parent else []), "base"]
        keys = [(subject, drop) for subject in subjects for drop in self._heldout]
        wanted = [(subject, drop) for subject, drop in keys if f"{subject}/{drop}" not in self._known]
        few_shot_key = f"few-shot/{self._spec.drop}"
        shots = few_shot_prompt(self._encoder.template, self._encoder.tokenizer, self._trained_on, self._seed)
        few = few_shot.ROWS if shots and few_shot_key not in self._known else 0
        asked = sample_replay({0: self._heldout[self._spec.drop]}, few, self._seed)
        total, before = sum(len(self._heldout[drop]) for _, drop in wanted) + len(asked), 0
        found = dict(self._known)
        for subject, drop in wanted:
            rows = self._heldout[drop]
            with as_subject(self._model, subject):
                report = partial(self._report, say, before, total, subject, drop)
                found[f"{subject}/{drop}"] = self._evaluate(self._model, rows, report, self._decode).to_json()
            before += len(rows)
        if few:
            with as_subject(self._model, "base"):
                report = partial(self._report, say, before, total, "few-shot", self._spec.drop)
                judged = self._evaluate(Prefixed(self._model, shots), asked, report, None)
            found[few_shot_key] = judged.to_json()
        self._known = {key: figures for key, figures in found.items() if not key.startswith("candidate/")}
        return found

    def _of_heldout(self, key: str, figures: dict[str, Any]) -> dict[str, Any]:
        """Known figures of the rows that are held out still: some may have been forgotten since."""
        rows = self._heldout[int(key.partition("/")[2])]
        return Figures.from_json(figures).only([row.id for row in rows]).to_json()

    def answers(self, say: Progress) -> dict[str, dict[str, Any]]:
        """What the candidate writes and, where that looks odd, the base; and under "right" what would have been right.

        See `continual.answers`.
        """
        rows = [row for row in self._heldout[self._spec.drop] if row.kind not in (Kind.LABEL, Kind.TEXT)]
        rows = sample_replay({0: rows}, answers.ROWS, self._seed)
        encoded = self._encoder(rows)
        template, tokenizer = self._encoder.template, self._encoder.tokenizer
        known = frozenset({*template.labels, *(row.completion.strip() for row in self._trained_on)})
        prompts = [row.prompt_ids for row in encoded]
        right = answers.distinct([row.completion_ids for row in encoded])
        found: dict[str, dict[str, Any]] = {"right": {"distinct": right}}
        for subject in ("candidate", "base"):
            say("evaluating", 1, 1, subject=subject, writes=len(prompts) + len(answers.OFF_TASK))
            with as_subject(self._model, subject):
                written = look_at_answers(self._model, tokenizer, template, prompts, known)
            found[subject] = written.to_json()
            if not written.suspicious(right):
                break
        return found

    def _evaluate(self, model: Any, rows: list[Example], report: Any, decode: Decode | None) -> Figures:
        return evaluate(
            rows,
            partial(judge_right, model, decode=decode),
            self._encoder.template,
            self._encoder.tokenizer,
            max_length=self._encoder.max_length,
            device=next(self._model.parameters()).device,
            report=report,
        )

    @staticmethod
    def _report(say: Progress, before: int, total: int, subject: str, drop: int, done: int, _rows: int) -> None:
        say("evaluating", before + done, total, subject=subject, drop=drop)

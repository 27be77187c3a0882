"""One method on one stream with one learning rate and one seed: drop after drop, by the daemon's own parts.

Each drop is parted as the daemon parts it; `drop_drift`, `choose_rows`, `recipe.train`, `remember`, `evaluate` and
`gate.decide` are what its training process and its gate call. What a finished step found is written down at once, so
that a cell that was interrupted goes on with the next step.
"""

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from adapterd.adapters.base import Base, load_base
from adapterd.adapters.likeliest import judge_right
from adapterd.continual.batches import Decode
from adapterd.continual.drop_drift import drop_drift, windows_of
from adapterd.continual.evaluate import Figures, evaluate
from adapterd.continual.examples import Example
from adapterd.continual.frozen_layers import skip_frozen_layers
from adapterd.continual.gate import Decision, Margins, Verdict, decide
from adapterd.continual.learner import Encoder, Material, choose_rows, remember
from adapterd.continual.probe import probe_rows
from adapterd.continual.recipe import Hyperparameters, train
from adapterd.continual.replay import sample_replay
from adapterd.continual.rescue import rescue
from adapterd.continual.split import Parted, part
from adapterd.continual.template import Encoded, Template
from adapterd.continual.validation import validation_loss
from adapterd.daemon.learning_sections import Heldout
from torch import Tensor

from benchmarks.chain import AdapterChain
from benchmarks.found import CellFound, StepFound, retrained_tokens
from benchmarks.methods import Method
from benchmarks.streams import Stream

# Tokens of general text whose loss is compared with the base's: chunks, and tokens of each.
_GENERAL_CHUNKS, _GENERAL_TOKENS = 40, 128
# Test rows of a drop that is still to be learned: who has not learned it hesitates between all labels, which takes many
# times as long to judge, and forward transfer is all that it is for.
_FORWARD_ROWS = 50


class Cell:
    """See the module. `folder` keeps what was found and where the adapter stands."""

    def __init__(
        self,
        folder: Path,
        stream: Stream,
        method: Method,
        hp: Hyperparameters,
        base_folder: Path,
        general: Path,
        probe: str | None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._stream = stream
        self._method = method
        self._hp = hp
        self._base: Base = load_base(base_folder, quantization="nf4", device="auto")
        self._chain = AdapterChain(self._base, hp, method.chain)
        self._model = self._chain.model
        self._decode: Decode = skip_frozen_layers(self._model)
        rows = [row for step in stream.steps for row in (*step.train, *step.test)]
        # All labels of the stream from the start: nobody says which drop a question belongs to.
        self._template = Template.for_examples(rows, None, bool(self._base.tokenizer.chat_template))
        self._encoder = Encoder(self._template, self._base.tokenizer, hp.max_length)
        wanted = Heldout()
        self._parted: list[Parted] = [
            part(step.train, wanted.share, 0, wanted.min_rows, wanted.max_rows) for step in stream.steps
        ]
        self._general_file = general
        self._base_file = folder.parents[1] / "base.json"
        self._rejected: set[int] = set()
        self._probe = _chunks(self._base.tokenizer, probe) if probe else []

    def run(self, say: Any = lambda _text: None) -> CellFound:
        """All steps that are not done yet."""
        path = self._folder / "found.json"
        found = CellFound.read(path)
        if not found.base_scores and not found.steps:
            found.base_scores, found.general_base = self._base_figures()
            found.write(path)
        for t, step in enumerate(found.steps):
            if step.verdict not in ("", Decision.PROMOTE):
                self._rejected.add(t)
            if step.epochs:  # else it was only counted
                self._chain.resume(self._file(t))
        last = len(self._stream.steps) - 1
        for t in range(len(found.steps), last + 1):
            say(f"drop {t + 1} of {last + 1}, {self._stream.steps[t].name}")
            if self._method.chain == "joint" and t < last:
                found.steps.append(self._skipped(t))
                continue
            found.steps.append(self._step(t))
            found.write(path)
        if found.selection is None and self._method.chain != "fan":
            found.general = self._general_loss()
            found.selection = self._selection()
            if self._method.chain == "joint":
                found.joint_tokens = retrained_tokens(found.steps)
            found.write(path)
        return found

    def _base_figures(self) -> tuple[list[float], float]:
        """The base's score on every drop, and its loss on general text: the same for all cells, so measured once."""
        path = self._base_file
        if not path.is_file():
            with self._model.disable_adapter():
                steps = [] if self._method.chain == "fan" else range(len(self._stream.steps))
                scores = [self._measure(j, _FORWARD_ROWS)[0] for j in steps]
                value = {"scores": scores, "general": self._general_loss()}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(value) + "\n", "utf-8")
        value = json.loads(path.read_text("utf-8"))
        return value["scores"], value["general"]

    # One drop.

    def _step(self, t: int) -> StepFound:
        began = time.monotonic()
        method, hp = self._method, self._hp
        material = self._material(t)
        self._chain.begin(t)
        champion, fisher = self._chain.weights(), self._chain.fisher
        if method.gated and (reason := self._held(t)):
            self._rejected.add(t)
            return self._untrained(t, self._scores_after(t), time.monotonic() - began, "hold", reason)
        before, general_before = (self._judged(t), self._base_on_probe()) if method.gated else ({}, None)
        rows = choose_rows(self._model, material, self._encoder, hp, general=self._general_file, decode=self._decode)
        trained = train(
            self._model,
            rows,
            hp,
            fisher=fisher,
            penalty=self._chain.penalty(),
            decode=self._decode,
        )
        verdict, reason, part = "promote", "", 1.0
        if method.gated:
            assert general_before is not None
            verdict, reason, part = self._gate(t, before, general_before, champion)
        if verdict != Decision.PROMOTE:
            self._chain.put(champion)
            self._rejected.add(t)
        elif hp.ewc_strength:
            self._chain.fisher = remember(self._model, material, self._encoder, hp, fisher=fisher, decode=self._decode)
        seconds = time.monotonic() - began
        self._chain.end(self._file(t))
        measured = self._scores_after(t)
        new_tokens = sum(len(row) for row in rows.new)
        return StepFound(
            self._stream.steps[t].name,
            [score for score, _ in measured],
            [loss for _, loss in measured],
            trained.tokens,
            new_tokens,
            trained.epochs,
            seconds,
            verdict,
            reason,
            part * trained.part,
        )

    def _gate(
        self, t: int, before: Mapping[int, Figures], general_before: Figures, champion: Mapping[str, Tensor]
    ) -> tuple[str, str, float]:
        """What the gate says of the candidate, why, and how much of the way it goes."""

        def ask() -> tuple[None, Verdict]:
            general = (self._figures(probe_rows(), self._template), general_before)
            return None, decide(t, self._judged(t), before, Margins(), general=general)

        _, verdict = ask()
        if rescued := rescue(self._chain.theta, champion, verdict, ask):
            return Decision.PROMOTE.value, rescued.said, rescued.part
        return verdict.decision.value, verdict.reason, 1.0

    def _scores_after(self, t: int) -> list[tuple[float | None, float | None]]:
        """(score, loss) on every drop's test rows, as far as they are asked after drop t."""
        return [
            self._measure(j, None if j <= t else _FORWARD_ROWS)
            if j <= t + 1 and self._method.chain != "fan"
            else (None, None)
            for j in range(len(self._stream.steps))
        ]

    def _held(self, t: int) -> str:
        """Why the daemon would hold the drop for a person, before it is trained; empty if it would not."""
        history = {j: self._stream.steps[j].train for j in self._history(t)}
        rows = self._stream.steps[t].train
        windows = windows_of(self._model, self._base.tokenizer, history, t, rows, self._hp.seed)
        found = drop_drift(windows.before, windows.now, self._hp.seed) if windows else None
        return found.contradiction.said if found and found.contradiction else ""

    def _material(self, t: int) -> Material:
        if self._method.chain == "joint":
            rows = [parted.train for parted in self._parted[: t + 1]]
            validation = [row for parted in self._parted[: t + 1] for row in parted.validation]
            return Material(t, [row for some in rows for row in some], validation)
        earlier = {j: self._parted[j] for j in self._history(t)} if self._hp.replay_share else {}
        return Material(
            t,
            self._parted[t].train,
            self._parted[t].validation,
            {j: self._kept_rows(j) for j in earlier},
            {j: parted.validation for j, parted in earlier.items()},
        )

    def _file(self, t: int) -> Path:
        return self._folder / f"step-{t}.safetensors"

    def _history(self, t: int) -> list[int]:
        """The drops behind the version that drop t is learned from: what the gate rejected is not among them."""
        if self._method.chain == "fan":
            return [0][:t]
        return [j for j in range(t) if j not in self._rejected]

    def _kept_rows(self, j: int) -> Sequence[Example]:
        rows = self._parted[j].train
        if self._method.kept >= 1:
            return rows
        return sample_replay({j: rows}, max(1, round(self._method.kept * len(rows))), self._hp.seed)

    def _skipped(self, t: int) -> StepFound:
        """Joint training is run after the last drop only; its cost at the others is counted."""
        return self._untrained(t, [(None, None)] * len(self._stream.steps), 0.0, "", "")

    def _untrained(
        self, t: int, measured: list[tuple[float | None, float | None]], seconds: float, verdict: str, reason: str
    ) -> StepFound:
        scores, losses = [score for score, _ in measured], [loss for _, loss in measured]
        tokens = sum(len(row) for row in self._encoder(self._parted[t].train))
        return StepFound(self._stream.steps[t].name, scores, losses, 0, tokens, 0.0, seconds, verdict, reason, 1.0)

    # Measuring.

    def _measure(self, j: int, most: int | None = None) -> tuple[float | None, float | None]:
        """(score, loss) on drop j's test rows, or `most` of them; nothing for an adapter that is still to come."""
        rows, template = self._stream.steps[j].test[:most], self._template
        if self._method.chain == "apart" and self._chain.after:
            if j >= len(self._chain.after):
                return None, None
            now = self._chain.weights()
            self._chain.put(self._chain.after[j])
            own = Template.for_examples(self._stream.steps[j].train, None, template.chat_template)
            figures = self._figures(rows, own)
            self._chain.put(now)
        else:
            figures = self._figures(rows, template)
        return self._score(figures), figures.loss

    def _score(self, figures: Figures) -> float:
        """As the stream has it, so that more is better."""
        if self._stream.score == "loss":
            return -figures.loss
        found = figures.accuracy if self._stream.score == "accuracy" else figures.exact_match
        if found is None:
            rows = "labels" if self._stream.score == "accuracy" else "answers"
            raise SystemExit(f"{self._stream.name} is scored by {self._stream.score}, and has rows without {rows}")
        return found

    def _figures(self, rows: Sequence[Example], template: Template) -> Figures:
        self._model.eval()
        judge = partial(judge_right, self._model, decode=self._decode)
        base = self._base
        return evaluate(rows, judge, template, base.tokenizer, max_length=self._hp.max_length, device=base.device)

    def _judged(self, t: int) -> dict[int, Figures]:
        """Figures on the held-out rows of every drop so far, as the gate wants them."""
        return {j: self._figures(self._parted[j].heldout, self._template) for j in [*self._history(t), t]}

    def _base_on_probe(self) -> Figures:
        with self._model.disable_adapter():
            return self._figures(probe_rows(), self._template)

    def _selection(self) -> float:
        """Mean score over drops on the rows that learning rates are chosen by."""
        scores = []
        for j, step in enumerate(self._stream.steps):
            if self._method.chain == "apart":
                self._chain.put(self._chain.after[j])
            figures = self._figures(step.selection, self._template)
            scores.append(self._score(figures))
        return sum(scores) / len(scores)

    def _general_loss(self) -> float:
        """Nats per token on general text; 0 without any."""
        if not self._probe:
            return 0.0
        return validation_loss(self._model, self._probe, self._decode)


def _chunks(tokenizer: Any, text: str) -> list[Encoded]:
    """The beginning of a text in pieces of equal length."""
    ids = tokenizer(text[: 5 * _GENERAL_CHUNKS * _GENERAL_TOKENS], add_special_tokens=False).input_ids
    starts = range(0, min(len(ids), _GENERAL_CHUNKS * _GENERAL_TOKENS) - _GENERAL_TOKENS + 1, _GENERAL_TOKENS)
    return [Encoded(ids[at : at + 1], ids[at + 1 : at + _GENERAL_TOKENS]) for at in starts]

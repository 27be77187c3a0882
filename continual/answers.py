"""What a model writes when it is asked, to see whether it has collapsed or answers everything as its task.

The loss on right answers does not show either: a model that repeats itself, or that gives a label for an answer to any
question at all, may still find the right answer likely where it is asked for.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final, Self

import torch

from .template import Template
from .tokens import TokenizerLike, end_of_text

OFF_TASK: Final = (
    "What is the capital of Italy?",
    "How many days are there in a week?",
    "Write one sentence about the sea.",
    "Name three fruits.",
    "What does a carpenter do?",
    "Explain in one sentence why it rains.",
    "What is 7 plus 5?",
    "Give me a short greeting for a birthday card.",
    "Which animal barks?",
    "What is the opposite of cold?",
    "How do I boil an egg?",
    "Who wrote Romeo and Juliet?",
)
"""Questions that are hardly anybody's task, the project's own."""

COLLAPSED: Final = 0.5
"""Share of the diversity of right answers below which a model's have collapsed."""

CONFUSED: Final = 0.25
"""Share of questions off the task that may get an answer of the task before it is said."""

ROWS: Final = 16
"""Held-out rows whose answers are written out."""

# Tokens of an answer: repetition shows in fewer. Off the task what matters is how it begins.
_TOKENS, _OFF_TASK_TOKENS = 32, 16


@dataclass(frozen=True)
class Written:
    """What a model wrote. `distinct`: different pairs of neighbouring tokens over all pairs (distinct-2 of Li et al.
    2016, arXiv:1510.03055), None where there is no pair. `off_task_distinct`: the same of answers to `OFF_TASK`, of
    which `off_task_answers` were an answer of the task.
    """

    distinct: float | None
    off_task_distinct: float | None
    off_task_answers: int

    def suspicious(self, right: float | None) -> bool:
        """Whether it is worth looking at what the base writes: answers repeat themselves far more than right ones,
        whose distinct-2 is `right`, or questions off the task get the task's answers.
        """
        repeats = self.distinct is not None and right is not None and self.distinct < COLLAPSED * right
        return repeats or self.off_task_answers > CONFUSED * len(OFF_TASK)

    def to_json(self) -> dict[str, Any]:
        """As it stands in an evaluation; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """What `to_json` wrote."""
        return cls(**value)


@dataclass(frozen=True)
class Diversity:
    """What candidate and base wrote, and the distinct-2 of right answers to the same questions, if there are any.

    `base` is None where the candidate gave no reason to ask it (`Written.suspicious`).
    """

    candidate: Written
    base: Written | None
    right: float | None


def look_at_answers(
    model: Any, tokenizer: TokenizerLike, template: Template, prompts: Sequence[list[int]], known: frozenset[str]
) -> Written:
    """Let `model` answer `prompts` (held-out ones of its task) and `OFF_TASK`; `known`: answers of the task, as text.

    Greedy decoding; takes some seconds. A conversation that the base's chat template refuses leaves `OFF_TASK` out.
    """
    own = write(model, tokenizer, template, prompts, _TOKENS)
    asked = [template.encode_prompt(tokenizer, messages=[("user", question)]) for question in OFF_TASK]
    off_task = write(model, tokenizer, template, asked, _OFF_TASK_TOKENS)
    texts = [str(tokenizer.decode(answer, skip_special_tokens=True)).strip() for answer in off_task]
    return Written(distinct(own), distinct(off_task), sum(text in known for text in texts))


def distinct(answers: Sequence[Sequence[int]]) -> float | None:
    """Different pairs of neighbouring tokens over all pairs in `answers`; None where there is no pair."""
    pairs = [pair for answer in answers for pair in pairwise(answer)]
    return len(set(pairs)) / len(pairs) if pairs else None


@torch.inference_mode()
def write(
    model: Any, tokenizer: TokenizerLike, template: Template, prompts: Sequence[list[int]], most: int
) -> list[list[int]]:
    """Up to `most` token ids that `model`, a transformers or PEFT model in evaluation mode, writes after each prompt,
    greedily, up to and without the one that ends an answer.
    """
    if not prompts:
        return []
    stop, pad = template.stop_ids(tokenizer), end_of_text(tokenizer)
    width = max(len(prompt) for prompt in prompts)
    device = next(model.parameters()).device
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    written = model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=most,
        eos_token_id=sorted(stop),
        pad_token_id=pad,
    )
    return [_until(row, stop) for row in written[:, width:].tolist()]


def _until(ids: list[int], stop: frozenset[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in stop), len(ids))
    return ids[:end]

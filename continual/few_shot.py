"""The base with examples in its prompt: what one gets without any training, and so what an adapter must beat.

Examples before the question are the cheapest way to a task (Brown et al. 2020, arXiv:2005.14165). Where the base so
asked answers held-out rows as well as the adapter does, the adapter is not worth its keep, and people should be told.
"""

from collections.abc import Sequence
from typing import Final

from .examples import Example, Kind
from .replay import sample_replay
from .template import Encoded, Template
from .tokens import TokenizerLike, encode

SHOTS: Final = 16
"""Examples in the prompt at most: more of them gain little and cost as much as the first."""

ROWS: Final = 64
"""Held-out rows that are asked, of all labels in turn."""

# Tokens of all examples together: what a small base still minds.
_TOKENS = 512


def few_shot_prompt(template: Template, tokenizer: TokenizerLike, examples: Sequence[Example], seed: int) -> list[int]:
    """The ids of up to `SHOTS` answered examples, of all labels in turn, as they stand before a question.

    Examples that would not fit any more are left out; without any that fits the prompt is empty. Plain texts ask
    nothing, so there are none of them.
    """
    asked = [example for example in examples if example.kind is not Kind.TEXT]
    chosen: list[int] = []
    for example in sample_replay({0: asked}, SHOTS, seed):
        row = template.encode_example(tokenizer, example, _TOKENS)
        shot = _as_shot(template, tokenizer, example, row)
        if not row.left_out and len(chosen) + len(shot) <= _TOKENS:
            chosen += shot
    return chosen


def _as_shot(template: Template, tokenizer: TokenizerLike, example: Example, row: Encoded) -> list[int]:
    """In a chat the turns follow each other as they are; else a blank line parts examples, in place of the end of the
    text, behind which a base expects something altogether different.
    """
    if template.has_turns(example.kind):
        return [*row.prompt_ids, *row.completion_ids]
    return [*row.prompt_ids, *row.completion_ids[:-1], *encode(tokenizer, "\n\n")]

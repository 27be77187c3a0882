"""The shortcut decides what scoring every answer decides."""

import random
from typing import Any

import pytest
import torch
from adapterd.adapters.base import Base
from adapterd.adapters.likeliest import Item, judge_right
from adapterd.adapters.scoring import score_choices


def random_items(count: int, seed: int, alphabet: int) -> list[Item]:
    """Items whose answers share beginnings, as labels do; a small alphabet makes some of them begin others."""
    rng = random.Random(seed)
    items: list[Item] = []
    for _ in range(count):
        prompt = [rng.randrange(3, 259) for _ in range(rng.randint(1, 20))]
        answers = {tuple(rng.randrange(5, 5 + alphabet) for _ in range(rng.randint(1, 4))) for _ in range(12)}
        right, *others = sorted(answers, key=lambda _: rng.random())
        items.append((prompt, list(right), [list(other) for other in others]))
    return items


@pytest.mark.parametrize("alphabet", [2, 4, 200])
def test_scores_and_verdicts_are_those_of_scoring_all_answers(tiny_base: Base, alphabet: int) -> None:
    # Sharpened, so that some right answers win and some lose clearly.
    with torch.no_grad():
        tiny_base.model.lm_head.weight.mul_(3.0)
    items = random_items(40, seed=alphabet, alphabet=alphabet)
    plain = score_choices(tiny_base.model, [(prompt, [right, *others]) for prompt, right, others in items])
    found = judge_right(tiny_base.model, items)
    assert [one.best for one in found] == [scores[0] >= max(scores) for scores in plain]
    assert [one.score for one in found] == pytest.approx([scores[0] for scores in plain], abs=1e-4)


def test_answers_that_cannot_win_are_not_computed(tiny_base: Base) -> None:
    tokens: list[int] = []
    decoder: Any = tiny_base.model.get_decoder()  # type: ignore[no-untyped-call]
    decoder.register_forward_hook(
        lambda _module, _args, kwargs, _output: tokens.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    prompt = [7, 8, 9]
    with torch.no_grad():
        likeliest = int(tiny_base.model(torch.tensor([prompt], device=tiny_base.device)).logits[0, -1].argmax())
    tokens.clear()
    others = [[token, token, token] for token in range(20, 120) if token != likeliest]
    (judged,) = judge_right(tiny_base.model, [(prompt, [likeliest], others)])
    assert judged.best
    assert tokens == [len(prompt)]


def test_a_row_without_other_answers_is_only_scored(tiny_base: Base) -> None:
    (judged,) = judge_right(tiny_base.model, [([5, 6], [7, 8, 2], [])])
    assert judged.best
    assert judged.score == pytest.approx(score_choices(tiny_base.model, [([5, 6], [[7, 8, 2]])])[0][0], abs=1e-4)


@pytest.mark.parametrize("item", [([], [5], []), ([5], [], []), ([5], [6], [[]])])
def test_empty_prompts_and_answers_are_refused(tiny_base: Base, item: Item) -> None:
    with pytest.raises(ValueError, match="empty"):
        judge_right(tiny_base.model, [item])


def test_exact_is_whether_greedy_decoding_writes_the_right_answer(tiny_base: Base) -> None:
    prompt = [5, 6, 7]
    model: Any = tiny_base.model
    written = model.generate(
        input_ids=torch.tensor([prompt], device=tiny_base.device),
        attention_mask=torch.ones(1, 3, device=tiny_base.device),
        do_sample=False,
        max_new_tokens=4,
    )[0, 3:].tolist()
    other = [*written[:-1], (written[-1] + 1) % 200]
    found = judge_right(tiny_base.model, [(prompt, written, []), (prompt, other, [written]), (prompt, [9], [written])])
    assert [one.exact for one in found] == [True, False, written[0] == 9]

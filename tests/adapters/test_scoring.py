"""Scores of a tree of continuations equal those of plain forwards, one for each continuation."""

import math
import random
from typing import Any

import pytest
import torch
from adapterd.adapters.base import Base
from adapterd.adapters.scoring import Tree, score_choices, visible
from peft import LoraConfig, get_peft_model

Item = tuple[list[int], list[list[int]]]


def plain_score(model: Any, prompt: list[int], continuation: list[int]) -> float:
    """The textbook way: the whole text through the model, the continuation's log-probabilities summed."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + continuation], device=model.device)).logits[0].float()
    log_p = logits.log_softmax(dim=-1)[len(prompt) - 1 : -1]
    return float(log_p[range(len(continuation)), continuation].double().sum())


def random_items(count: int, seed: int) -> list[Item]:
    rng = random.Random(seed)

    def text(shortest: int, longest: int) -> list[int]:
        return [rng.randrange(3, 259) for _ in range(rng.randint(shortest, longest))]

    return [(text(1, 30), [text(1, 6) for _ in range(rng.randint(1, 5))]) for _ in range(count)]


def assert_scores(model: Any, items: list[Item], scores: list[list[float]]) -> None:
    for (prompt, continuations), got in zip(items, scores, strict=True):
        assert got == pytest.approx([plain_score(model, prompt, c) for c in continuations], abs=1e-4)


def test_scores_equal_one_plain_forward_per_continuation(tiny_base: Base) -> None:
    items = random_items(12, seed=1)
    assert_scores(tiny_base.model, items, score_choices(tiny_base.model, items))


def test_the_budget_changes_the_batches_and_not_the_scores(tiny_base: Base) -> None:
    items = random_items(9, seed=2)
    whole = score_choices(tiny_base.model, items)
    apart = score_choices(tiny_base.model, items, token_budget=1)
    for one, other in zip(whole, apart, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_a_peft_model_is_scored_with_its_adapter(tiny_base: Base) -> None:
    torch.manual_seed(3)
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    model = get_peft_model(tiny_base.model, config).eval()
    items = random_items(4, seed=4)
    scores = score_choices(model, items)
    assert_scores(model, items, scores)
    with model.disable_adapter():
        assert score_choices(model, items) != scores


def test_the_route_is_told_which_items_run_and_how_long_they_are_padded(tiny_base: Base) -> None:
    items: list[Item] = [([5] * 4, [[6]]), ([5] * 9, [[6, 7], [8]]), ([5] * 3, [[6]])]
    calls: list[tuple[list[int], int]] = []
    score_choices(tiny_base.model, items, lambda batch, length: calls.append((list(batch), length)), token_budget=10)
    assert calls == [([1], 10), ([0, 2], 4)]


def test_a_long_list_of_labels_goes_through_the_head_in_chunks(tiny_base: Base) -> None:
    labels = [[3 + n // 16, 3 + n % 16, 2] for n in range(150)]
    items: list[Item] = [([9, 8, 7], labels)]
    scores = score_choices(tiny_base.model, items)
    assert len(scores[0]) == 150
    sample: list[Item] = [(items[0][0], labels[::30])]
    assert_scores(tiny_base.model, sample, [scores[0][::30]])


def test_probabilities_of_all_single_tokens_sum_to_one(tiny_base: Base) -> None:
    vocabulary = tiny_base.model.config.vocab_size
    (scores,) = score_choices(tiny_base.model, [([10, 11], [[token] for token in range(vocabulary)])])
    assert math.fsum(math.exp(score) for score in scores) == pytest.approx(1, abs=1e-5)


def test_a_tree_leaves_out_what_is_computed_and_what_is_never_read() -> None:
    tree = Tree.grow([1, 2, 3], [[4, 5], [6], [7, 8, 9]], start=2)
    assert tree.tokens == [3, 4, 7, 8]
    assert tree.positions == [2, 3, 3, 4]
    assert tree.branch == [-1, 0, 2, 2]
    assert tree.sources == [0, 1, 2, 3]
    assert tree.targets == [(0, 4, 0), (1, 5, 0), (0, 6, 1), (0, 7, 2), (2, 8, 2), (3, 9, 2)]


def test_a_branch_sees_the_prompt_and_itself_and_no_sibling() -> None:
    seen = visible(torch.tensor([-1, -1, 0, 1, 1])).int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]


@pytest.mark.parametrize(("prompt", "continuations"), [([], [[1]]), ([1], [[2], []])])
def test_an_empty_prompt_or_continuation_is_refused(
    tiny_base: Base, prompt: list[int], continuations: list[list[int]]
) -> None:
    with pytest.raises(ValueError, match=r"needs at least one|is empty"):
        score_choices(tiny_base.model, [(prompt, continuations)])

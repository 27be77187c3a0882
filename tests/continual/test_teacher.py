"""What a teacher said, and the divergence from it."""

import pytest
import torch
from adapterd.continual.batches import collate, completion_logits
from adapterd.continual.teacher import LIKELIEST, Soft, divergence, teach
from adapterd.continual.template import Encoded
from adapterd.continual.validation import row_losses
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel

ROWS = [Encoded([5, 9], [20, 21, 2]), Encoded([7], [22, 2]), Encoded([5, 9], [20, 21, 2])]


def soft_of(logits: torch.Tensor) -> Soft:
    log_p, tokens = logits.log_softmax(-1).topk(LIKELIEST, dim=-1)
    return Soft(tokens, log_p)


@given(seed=st.integers(0, 2**31), spread=st.floats(0.1, 8))
def test_divergence_is_never_negative_and_never_above_that_of_the_whole_distributions(seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    teacher = spread * torch.randn(3, 100, generator=generator)
    student = spread * torch.randn(3, 100, generator=generator)
    found = divergence(soft_of(teacher), student)
    log_p = teacher.log_softmax(-1)
    whole = (log_p.exp() * (log_p - student.log_softmax(-1))).sum(-1)
    assert bool((found > -1e-4).all())
    assert bool((found <= whole + 1e-4).all())


def test_a_model_does_not_diverge_from_itself_and_rows_keep_their_order(tiny_lora: PeftModel) -> None:
    taught = teach(tiny_lora, ROWS)
    assert [one.row for one in taught] == ROWS
    for one in taught:
        logits, *_ = completion_logits(tiny_lora, collate([one.row], tiny_lora.device))
        assert one.soft.tokens.shape == (len(one.row.completion_ids), LIKELIEST)
        torch.testing.assert_close(divergence(one.soft, logits), torch.zeros_like(logits[:, 0]), atol=1e-5, rtol=0)


def test_a_teacher_tells_what_each_row_costs_it(tiny_lora: PeftModel) -> None:
    costs = [one.loss for one in teach(tiny_lora, ROWS)]
    assert costs == pytest.approx(row_losses(tiny_lora, ROWS))

"""Threads change how long a step takes, and nothing else."""

import threading
from collections.abc import Iterator, Sequence

import pytest
import torch
from adapterd.adapters.base import Base
from adapterd.continual import parallel
from adapterd.continual.evaluate import evaluate
from adapterd.continual.examples import parse_row
from adapterd.continual.frozen_layers import skip_frozen_layers
from adapterd.continual.lessons import Rows
from adapterd.continual.parallel import each, shared_out, threads_for
from adapterd.continual.recipe import Hyperparameters, train
from adapterd.continual.teacher import teach
from adapterd.continual.template import Encoded, Template
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel

ROWS = [Encoded([5 + n % 3, *range(10, 12 + n % 9)], [50 + n % 2, 2]) for n in range(40)]
HP = Hyperparameters(rank=4, alpha=8, learning_rate=5e-3, epochs=1, batch_size=16)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_outcomes_are_in_the_order_of_the_items_whoever_ends_first() -> None:
    first_may_end = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert first_may_end.wait(20)
        if item == 3:
            first_may_end.set()
        return 10 * item

    assert each(work, range(4), 2) == [0, 10, 20, 30]


def test_threads_of_torch_are_as_before_even_after_a_failure(threads: None) -> None:
    seen: list[int] = []

    def fail(item: int) -> None:
        seen.append(torch.get_num_threads())
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"):
        each(fail, range(3), 3)
    assert set(seen) == {1}
    assert torch.get_num_threads() == 3


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=60), threads=st.integers(1, 5))
def test_groups_hold_every_row_once_and_what_runs_at_once_fits(lengths: list[int], threads: int) -> None:
    rows = [Encoded([7] * length, [2]) for length in lengths]
    groups = shared_out(rows, threads, most=400)
    assert sorted(index for group in groups for index in group) == list(range(len(rows)))
    for group in groups:
        width = max(len(rows[index]) for index in group)
        assert len(group) == 1 or len(group) * width <= max(48, 400 // threads)


def test_only_a_cpu_has_rows_on_threads(threads: None) -> None:
    assert threads_for(torch.device("cpu")) == 3
    assert threads_for(torch.device("cuda")) == 1


def trained(model: PeftModel, count: int) -> tuple[dict[str, torch.Tensor], float]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        start = {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}
        rows = Rows(ROWS[:30], replay=teach(model, ROWS[30:]), validation=ROWS[:8])
        done = train(model, rows, HP, decode=skip_frozen_layers(model))
        after = {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.requires_grad:
                    weight.copy_(start[name])
    finally:
        torch.set_num_threads(before)
    return after, done.best_validation


def test_a_training_takes_the_same_steps_on_any_number_of_threads(
    tiny_lora: PeftModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_LEAST_TOKENS", 8)
    alone, loss = trained(tiny_lora, 1)
    together, same = trained(tiny_lora, 3)
    assert same == pytest.approx(loss, rel=1e-3)
    for name, weight in alone.items():
        torch.testing.assert_close(together[name], weight, rtol=1e-2, atol=2e-4)
    again, _ = trained(tiny_lora, 3)
    assert all(torch.equal(again[name], weight) for name, weight in together.items())


def test_rows_are_judged_alike_on_any_number_of_threads(tiny_base: Base, threads: None) -> None:
    examples = [parse_row({"text": f"row {n}", "label": "ab"[n % 2]}) for n in range(70)]
    names: set[str] = set()

    def judge(items: Sequence[tuple[list[int], list[int], list[list[int]]]]) -> list[tuple[float, bool, bool]]:
        names.add(threading.current_thread().name)
        return [(-float(len(prompt)), len(prompt) % 2 == 0, False) for prompt, _, _ in items]

    template = Template.for_examples(examples, None, has_chat_template=False)
    found = evaluate(examples, judge, template, tiny_base.tokenizer, max_length=64)
    torch.set_num_threads(1)
    assert evaluate(examples, judge, template, tiny_base.tokenizer, max_length=64) == found
    assert len(names) > 1

"""Served prompts that move away from what a task has learned are told of, without a word of them being kept."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from adapterd.continual.pooled_states import mean_words, nearest_words, pooled_states
from adapterd.daemon.core import Core
from adapterd.daemon.questions import Asked
from adapterd.v1 import inference_pb2

from .learning_core import drop, finished, learning_core, rows, work
from .real_core import served

OTHERS = [f"please cancel invoice {number} of yesterday and send the money back to my account" for number in range(40)]
ALIKE = [f"{('red', 'orange', 'blue', 'green')[number % 4]} {2 * number}" for number in range(40)]


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path) -> Iterator[Core]:
    """A core whose task "colours" has learned a drop and observes what it is asked, forty prompts at a time."""
    with learning_core(tmp_path_factory.mktemp("queries"), tiny_base_folder) as core:
        row = drop(core, "colours", "a.jsonl", rows(0, 80))
        work(core, finished(core, row))
        core.lifecycle.promote("colours", 1, expected=None, actor="test", reason="whatever the gate says")
        settings = "[drift]\nobserve_queries = true\nquery_window = 40\n"
        (core.settings.inbox_dir / "colours" / "task.toml").write_text(settings, "utf-8")
        yield core


def told(core: Core) -> list[dict[str, object]]:
    """The details of what was told so far."""
    return [row.details for row in core.ledger.events.after(0, "colours") if row.kind == "drift.queries"]


def ask(core: Core, task: str, prompts: list[str]) -> None:
    core.queries.step(0.0)
    for prompt in prompts:
        core.queries.observe(task, Asked(prompt, None))
    core.queries.step(0.0)


def test_prompts_like_the_rows_say_nothing_and_others_are_told_of_in_words_near_them(core: Core) -> None:
    ask(core, "colours", ALIKE)
    assert told(core) == []
    ask(core, "colours", [*ALIKE[:20], *OTHERS[:20]])
    (found,) = told(core)
    assert found["prompts"] == 40
    assert isinstance(found["p_value"], float)
    assert found["p_value"] <= 0.01
    assert "invoice 3" not in json.dumps(found)


def test_a_window_that_is_not_full_waits_and_one_that_is_takes_no_more(core: Core) -> None:
    before = len(told(core))
    ask(core, "colours", OTHERS[:39])
    assert len(told(core)) == before
    ask(core, "colours", OTHERS)
    assert len(told(core)) == before + 1
    core.queries.step(0.0)
    assert len(told(core)) == before + 1


def test_a_task_that_asks_for_nothing_is_not_observed(core: Core) -> None:
    ask(core, "mood", OTHERS)
    assert [row.kind for row in core.ledger.events.after(0, "mood") if row.kind == "drift.queries"] == []


def test_what_is_served_is_observed(core: Core) -> None:
    before = len(told(core))
    core.queries.step(0.0)
    with served(core) as client:
        for prompt in OTHERS:
            asked = inference_pb2.Input(prompt=prompt)
            client.inference.Score(
                inference_pb2.ScoreRequest(adapter="colours", input=asked, continuations=["warm", "cold"])
            )
    core.queries.step(0.0)
    assert len(told(core)) == before + 1


def test_the_mean_of_words_is_layer_nought(core: Core) -> None:
    model, tokenizer = cast(Any, core.base.model), core.base.tokenizer
    words = model.get_input_embeddings().weight.detach()
    states, tokens = mean_words(words, tokenizer, OTHERS[:3])
    pooled, lengths = pooled_states(model.model, model.model.layers, tokenizer, OTHERS[:3], [0])
    assert tokens == lengths
    np.testing.assert_allclose(states, pooled[0], rtol=1e-4, atol=1e-6)


def test_words_are_named_by_the_direction_of_their_embeddings() -> None:
    class Spelled:
        def decode(self, ids: list[int]) -> str:
            return [" invoice", "money", "?", "Money", "sun"][ids[0]]

    words = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.9, 0.2], [0.8, 0.3], [0.0, 1.0]])
    assert nearest_words(words, Spelled(), np.array([2.0, 0.0]), 3) == ["invoice", "money", "sun"]
    assert nearest_words(words, Spelled(), np.array([0.0, 1.0]), 1) == ["sun"]

"""What a model writes, and how it is counted."""

import pytest
from adapterd.adapters.base import Base
from adapterd.continual import answers
from adapterd.continual.answers import OFF_TASK, Written, distinct, look_at_answers, write
from adapterd.continual.shapes import Kind
from adapterd.continual.template import Template

TEMPLATE = Template(Kind.LABEL, ("warm",), chat_template=True)


def test_distinct_2_is_the_share_of_different_pairs_over_all_answers() -> None:
    assert distinct([[1, 2, 3], [1, 2, 4]]) == pytest.approx(3 / 4)
    assert distinct([[5, 5, 5, 5]]) == pytest.approx(1 / 3)
    assert distinct([[1], []]) is None


def test_greedy_answers_do_not_depend_on_what_they_are_asked_beside(tiny_base: Base) -> None:
    prompts = [[7, 8, 9], [30, 31, 32, 33, 34, 35, 36], [12]]
    together = write(tiny_base.model, tiny_base.tokenizer, TEMPLATE, prompts, 12)
    alone = [write(tiny_base.model, tiny_base.tokenizer, TEMPLATE, [prompt], 12)[0] for prompt in prompts]
    assert together == alone
    stop = TEMPLATE.stop_ids(tiny_base.tokenizer)
    assert all(stop.isdisjoint(answer) for answer in together)


def test_an_answer_ends_before_the_token_that_ends_it(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = write(tiny_base.model, tiny_base.tokenizer, TEMPLATE, [[7, 8, 9]], 12)
    stop = next(token for place, token in enumerate(whole) if place)
    monkeypatch.setattr(Template, "stop_ids", lambda *_: frozenset({stop}))
    (short,) = write(tiny_base.model, tiny_base.tokenizer, TEMPLATE, [[7, 8, 9]], 12)
    assert short == whole[: whole.index(stop)]


def test_answers_off_the_task_that_are_the_tasks_are_counted(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    def warm(_model: object, _tok: object, _template: object, prompts: list[list[int]], _most: int) -> list[list[int]]:
        return [tiny_base.tokenizer.encode(" warm" if n % 2 else " something else") for n in range(len(prompts))]

    monkeypatch.setattr(answers, "write", warm)
    found = look_at_answers(tiny_base.model, tiny_base.tokenizer, TEMPLATE, [], frozenset({"warm"}))
    assert found.distinct is None
    assert found.off_task_answers == len(OFF_TASK) // 2
    assert Written.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("written", "right", "odd"),
    [
        (Written(0.3, 0.9, 0), 0.8, True),
        (Written(0.5, 0.9, 0), 0.8, False),
        (Written(None, 0.9, 0), 0.8, False),
        (Written(0.1, 0.9, 0), None, False),
        (Written(None, 0.9, len(OFF_TASK)), None, True),
    ],
)
def test_the_base_is_asked_where_a_candidate_repeats_itself_or_is_confused(
    written: Written, right: float | None, odd: bool
) -> None:
    assert written.suspicious(right) is odd

"""The examples that stand before a question."""

from adapterd.adapters.base import Base
from adapterd.continual.examples import Example, parse_row
from adapterd.continual.few_shot import SHOTS, few_shot_prompt
from adapterd.continual.template import Template
from adapterd.continual.tokens import end_of_text

ROWS = [parse_row({"text": f"row {n}", "label": ("warm", "cold", "none")[n % 3]}) for n in range(60)]


def prompt(base: Base, rows: list[Example], *, chat: bool = True) -> list[int]:
    return few_shot_prompt(Template.for_examples(rows, None, chat), base.tokenizer, rows, seed=0)


def test_labels_take_turns_and_a_blank_line_parts_the_examples(tiny_base: Base) -> None:
    text = str(tiny_base.tokenizer.decode(prompt(tiny_base, ROWS)))
    shots = [shot for shot in text.split("\n\n") if shot.strip()]
    assert len(shots) == SHOTS
    assert all(shot.strip().startswith("Text: row") for shot in shots)
    counts = [sum(f"Label: {label}" in shot for shot in shots) for label in ("warm", "cold", "none")]
    assert max(counts) - min(counts) <= 1


def test_no_example_ends_the_text(tiny_base: Base) -> None:
    assert end_of_text(tiny_base.tokenizer) not in prompt(tiny_base, ROWS)


def test_examples_that_do_not_fit_are_left_out_whole(tiny_base: Base) -> None:
    long = parse_row({"text": "word " * 3000, "label": "long"})
    assert "long" not in tiny_base.tokenizer.decode(prompt(tiny_base, [long, *ROWS]))
    assert prompt(tiny_base, [long]) == []


def test_plain_texts_ask_nothing(tiny_base: Base) -> None:
    assert prompt(tiny_base, [parse_row({"text": "Just so."})]) == []


def test_instructions_follow_each_other_as_turns(tiny_base: Base) -> None:
    rows = [parse_row({"instruction": f"Say {n}", "output": str(n)}) for n in range(3)]
    template = Template.for_examples(rows, None, has_chat_template=True)
    whole = [template.encode_example(tiny_base.tokenizer, row, 512) for row in rows]
    found = prompt(tiny_base, rows)
    assert sorted(found) == sorted(token for row in whole for token in (*row.prompt_ids, *row.completion_ids))

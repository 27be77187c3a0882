"""Which rows a golden set keeps to itself."""

import pytest
from adapterd.continual.examples import Example, parse_row
from adapterd.continual.golden import answerable, is_golden, sift


@pytest.mark.parametrize("name", ["golden.jsonl", "golden.csv.gz", "golden.parquet"])
def test_a_golden_set_is_known_by_its_name(name: str) -> None:
    assert is_golden(name)


@pytest.mark.parametrize("name", ["goldener.jsonl", "my-golden.jsonl", "Golden rules.txt", "new.golden.jsonl"])
def test_other_names_are_ordinary_drops(name: str) -> None:
    assert not is_golden(name)


def label(text: str, name: str) -> Example:
    return parse_row({"text": text, "label": name})


def test_a_question_leaks_whatever_its_answer_case_and_white_space() -> None:
    rows = [label("The paper jams", "printer"), label("No network", "network")]
    kept, leaking = sift(rows, [label(" the  PAPER\njams", "kitchen")])
    assert (kept, leaking) == ([rows[1]], [rows[0]])


def test_chats_instructions_and_plain_texts_are_compared_by_what_they_ask() -> None:
    chat = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]}
    other = {"messages": [{"role": "user", "content": "hello?"}, {"role": "assistant", "content": "No."}]}
    instruction = {"instruction": "Sum up", "input": "One text", "output": "One"}
    another = {"instruction": "Sum up", "input": "Another text", "output": "One"}
    text = {"text": "A plain text."}
    rows = [parse_row(row) for row in (chat, instruction, text)]
    kept, leaking = sift(rows, [parse_row(row) for row in (other, another, text)])
    assert kept == [rows[1]]
    assert leaking == [rows[0], rows[2]]


def test_labels_that_the_task_does_not_know_yet_do_not_judge_it() -> None:
    rows = [
        label("It rains", "weather"),
        label("It jams", "printer"),
        parse_row({"prompt": "Say hi", "completion": "hi"}),
    ]
    assert answerable(rows, ["printer"]) == rows[1:]

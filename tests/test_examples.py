"""The data of the examples is what the demo and the README promise of it."""

import re
from pathlib import Path

import pytest
from adapterd.continual.examples import Example, parse_file
from adapterd.continual.formats import Limits
from adapterd.continual.shapes import Kind

from examples.house_style import in_style, is_right, read_line

EXAMPLES = Path(__file__).parents[1] / "examples"
TASKS = ("tickets", "house-style")
FILES = ("drop-1", "drop-2", "test")

# The demo must end within 15 minutes on two slow cores; English words have about 1.3 tokens.
MOST_WORDS_OF_A_DROP = 2400
MOST_WORDS_OF_A_TEXT = 19


def rows(task: str, name: str) -> list[Example]:
    limits = Limits(max_decoded_bytes=1 << 20, max_row_chars=400)
    parsed = parse_file(EXAMPLES / task / f"{name}.jsonl", limits, max_bad_rows=0)
    assert not parsed.duplicates
    return [example for _, example in parsed.examples]


def words(text: str) -> int:
    return len(re.findall(r"\w+", text))


def labels(name: str) -> set[str]:
    return {row.completion for row in rows("tickets", name)}


@pytest.mark.parametrize("name", FILES)
def test_each_task_has_rows_of_one_kind(name: str) -> None:
    assert {row.kind for row in rows("tickets", name)} == {Kind.LABEL}
    assert {row.kind for row in rows("house-style", name)} == {Kind.IO}


@pytest.mark.parametrize("task", TASKS)
def test_no_text_stands_twice_in_training_or_in_training_and_test(task: str) -> None:
    texts = [row.prompt.strip().lower() for name in FILES for row in rows(task, name)]
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", FILES)
def test_the_table_says_how_many_rows_a_file_has(task: str, name: str) -> None:
    assert f"| `{task}/{name}.jsonl` | {len(rows(task, name))} |" in (EXAMPLES / "README.md").read_text("utf-8")


def test_the_labels_grow_with_the_second_drop_and_no_old_one_goes_missing() -> None:
    assert labels("drop-1") == {"access", "billing", "hardware", "shipping"}
    assert labels("drop-2") - labels("drop-1") == {"feedback", "privacy"}
    assert labels("drop-2") >= labels("drop-1")
    assert labels("test") == labels("drop-2")


def test_every_label_has_enough_rows_to_learn_it_and_to_judge_it() -> None:
    for name, least in (("drop-1", 24), ("drop-2", 8), ("test", 10)):
        counts = [sum(row.completion == label for row in rows("tickets", name)) for label in labels(name)]
        assert min(counts) >= least, name


@pytest.mark.parametrize("task", TASKS)
def test_a_drop_is_small_enough_to_be_learned_within_minutes(task: str) -> None:
    for name in FILES:
        assert sum(words(row.prompt) + words(row.completion) for row in rows(task, name)) <= MOST_WORDS_OF_A_DROP
        assert max(words(row.prompt) for row in rows(task, name)) <= MOST_WORDS_OF_A_TEXT
        assert max(words(row.completion) for row in rows(task, name)) <= MOST_WORDS_OF_A_TEXT


@pytest.mark.parametrize("name", FILES)
def test_every_line_in_house_style_names_the_owner_and_the_ticket_of_its_note(name: str) -> None:
    for row in rows("house-style", name):
        line = read_line(row.completion)
        assert line is not None, row.completion
        assert line.owner.lower() in row.prompt
        assert re.findall(r"\d{3}", row.prompt) == ([line.ticket] if line.ticket else [])
        assert is_right(row.completion, row.completion)


def test_the_second_drop_of_house_style_adds_areas_and_ticket_numbers() -> None:
    first, second = (
        [line for row in rows("house-style", name) if (line := read_line(row.completion))] for name in FILES[:2]
    )
    assert {line.area for line in first} == {"network", "kitchen", "rooms", "printers"}
    assert {line.area for line in second} - {line.area for line in first} == {"heating", "garden"}
    assert not any(line.ticket for line in first)
    assert sum(line.ticket is not None for line in second) > len(second) / 3


@pytest.mark.parametrize(
    "answer",
    [
        "[heating] Restart the boiler. Owner: Karl.",
        "[heating] Restarted the boiler.",
        "[heating] Restarted the boiler. Owner: karl.",
        "Heating: Restarted the boiler. Owner: Karl.",
        "[heating] Restarted the boiler. It works. Owner: Karl.",
        "[heating] Restarted the boiler. Owner: Karl. Thanks!",
        "[heating] Restarted the boiler (412). It was off. Owner: Karl.",
        "",
    ],
)
def test_an_answer_that_misses_one_mark_is_not_in_style(answer: str) -> None:
    assert not in_style(answer)


def test_an_answer_in_style_is_wrong_with_another_area_ticket_or_owner() -> None:
    wanted = "[heating] Restarted the boiler (#412). Owner: Karl."
    assert is_right("[heating] Relighted it (#412). Owner: Karl.", wanted)
    for wrong in (wanted.replace("heating", "garden"), wanted.replace("412", "421"), wanted.replace("Karl", "Ruth")):
        assert in_style(wrong)
        assert not is_right(wrong, wanted)

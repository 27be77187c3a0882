"""Which rows a golden set keeps to itself."""

import pytest
from adapterd.continual.examples import Example, parse_row
from adapterd.continual.golden import answerable, is_golden


@pytest.mark.parametrize("name", ["golden.jsonl", "golden.csv.gz", "golden.parquet"])
def test_a_golden_set_is_known_by_its_name(name: str) -> None:
    assert is_golden(name)


@pytest.mark.parametrize("name", ["goldener.jsonl", "my-golden.jsonl", "Golden rules.txt", "new.golden.jsonl"])
def test_other_names_are_ordinary_drops(name: str) -> None:
    assert not is_golden(name)


def label(text: str, name: str) -> Example:
    return parse_row({"text": text, "label": name})


def test_labels_that_the_task_does_not_know_yet_do_not_judge_it() -> None:
    rows = [
        label("It rains", "weather"),
        label("It jams", "printer"),
        parse_row({"prompt": "Say hi", "completion": "hi"}),
    ]
    assert answerable(rows, ["printer"]) == rows[1:]

"""A row becomes the same example whichever file it stood in, or is set aside with a reason that helps to mend it."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adapterd.continual.errors import TooManyBadRows, UnreadableFile
from adapterd.continual.examples import BadRowError, Example, Kind, parse_file, parse_row
from adapterd.continual.rows import Limits, Unread
from adapterd.continual.shapes import SHAPES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LIMITS = Limits(max_decoded_bytes=1 << 20)
CHAT = [
    {"role": "system", "content": ""},
    {"role": "user", "content": " hi "},
    {"role": "assistant", "content": "yo\n"},
]
TURNS = (("system", ""), ("user", " hi "), ("assistant", "yo\n"))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": CHAT}, Example(Kind.CHAT, "", "yo\n", messages=TURNS)),
        ({"prompt": " a ", "completion": "\tb"}, Example(Kind.PROMPT, " a ", "\tb")),
        ({"instruction": "do", "output": "done"}, Example(Kind.INSTRUCTION, "do", "done")),
        ({"instruction": "do", "input": "it", "output": "done"}, Example(Kind.INSTRUCTION, "do", "done", "it")),
        ({"instruction": "do", "input": " ", "output": "done"}, Example(Kind.INSTRUCTION, "do", "done")),
        ({"instruction": "do", "input": None, "output": "done"}, Example(Kind.INSTRUCTION, "do", "done")),
        ({"input": "a", "output": "b", "id": 7, "date": None}, Example(Kind.IO, "a", "b")),
        ({"text": " a ", "label": " b\n"}, Example(Kind.LABEL, " a ", "b")),
        ({"text": "a"}, Example(Kind.TEXT, "", "a")),
        ({"text": "a", "label": "b", "prompt": "p", "completion": "c"}, Example(Kind.PROMPT, "p", "c")),
        ({"messages": CHAT, "text": "a"}, Example(Kind.CHAT, "", "yo\n", messages=TURNS)),
    ],
)
def test_a_shape_is_recognised_by_its_columns_and_texts_stay_as_they_are(
    row: dict[str, object], expected: Example
) -> None:
    assert parse_row(row) == expected


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("a b", "a b"),
        (" 3 ", "3"),
        (3, "3"),
        (-2, "-2"),
        (1.0, "1.0"),
        (True, "true"),
        (False, "false"),
    ],
)
def test_a_label_is_a_text_or_is_written_as_json_writes_it(label: object, text: str) -> None:
    assert parse_row({"text": "x", "label": label}).completion == text


def test_messages_may_be_json_in_a_text_and_content_a_list_of_text_parts() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}, CHAT[2]]
    expected = Example(Kind.CHAT, "", "yo\n", messages=(("user", "a b"), ("assistant", "yo\n")))
    assert parse_row({"messages": parts}) == expected
    assert parse_row({"messages": json.dumps(parts)}) == expected


USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, r"its columns \(none\) are of no known shape; known are messages; prompt \+ completion; instruction"),
        ({"foo": 1, "bar": 2}, r"its columns \('foo', 'bar'\) are of no known shape; known are"),
        ({"sentence": "a", "label": "b"}, r"\('sentence', 'label'\) .* the closest is text \+ label, without text$"),
        ({"Text": "a", "Label": "b"}, r"the closest is text \+ label, without text and label$"),
        ({"instruction": "a", "response": "b"}, r"the closest is instruction \+ output, without output$"),
        ({"conversations": []}, "no known shape"),
        ({"\ud800": 1}, r"'\\ud800'"),
        ({"text": None}, "^text is missing or null, not text$"),
        ({"text": 7}, "^text is a number, not text$"),
        ({"text": ["a"]}, "^text is a list, not text$"),
        ({"text": {"a": 1}}, "^text is an object, not text$"),
        ({"text": True}, "^text is true or false, not text$"),
        ({"text": Unread("decimal128(3, 1)")}, r"^text is of the type decimal128\(3, 1\), not text$"),
        ({"text": " \n"}, "^text is empty$"),
        ({"text": "a\ud83d"}, "^text holds half of a surrogate pair"),
        ({"text": "a", "label": None}, "^label is missing or null"),
        ({"text": "a", "label": ""}, "^label is empty$"),
        ({"text": "a", "label": float("nan")}, "^label is not a finite number"),
        ({"text": "a", "label": ["b"]}, "^label is a list"),
        ({"prompt": "a", "completion": ""}, "^completion is empty$"),
        ({"instruction": "a", "input": 3, "output": "b"}, "^input is a number"),
        ({"input": "", "output": "b"}, "^input is empty$"),
        ({"messages": None}, "^messages is missing or null, not a list$"),
        ({"messages": "hi"}, "^messages is a text and not a list as JSON: not JSON"),
        ({"messages": "[" * 5_000}, "nested more than 8 deep"),
        ({"messages": '{"role": "user"}'}, "^messages is an object, not a list$"),
        ({"messages": []}, "no turn before the assistant's"),
        ({"messages": [CHAT[2]]}, "no turn before the assistant's"),
        ({"messages": [CHAT[1]] * 2}, "^the last message is the user's, not the assistant's$"),
        ({"messages": [USER, {"role": "assistant", "content": " "}]}, "last message is empty"),
        (
            {"messages": [USER, {"role": "tool", "content": "x"}]},
            r"^the role of messages\[1\] is 'tool'; it can be ",
        ),
        ({"messages": [USER, {"from": "gpt", "value": "x"}]}, r"^the role of messages\[1\] is missing or null"),
        ({"messages": [USER, "x"]}, r"^messages\[1\] is a text, not an object"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, r"^the content of messages\[1\] is missing"),
        ({"messages": [{"role": "user", "content": "\udc00"}, CHAT[2]]}, r"content of messages\[0\] holds half of"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, CHAT[2]]}, "a part that is not"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}, CHAT[2]]}, "calls a tool"),
    ],
)
def test_a_row_that_is_no_example_says_why(row: dict[str, object], reason: str) -> None:
    with pytest.raises(BadRowError, match=reason) as caught:
        parse_row(row)
    str(caught.value).encode()


TEXT = st.text('ab \n"[é\ud800\U0001f600', max_size=5)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
COLUMNS = st.sampled_from(["messages", "prompt", "completion", "instruction", "input", "output", "text", "label", "x"])
TURN = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "x"]), "content": TEXT})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(row=st.dictionaries(COLUMNS, ANYTHING | st.lists(TURN, max_size=3), max_size=5))
def test_any_row_is_an_example_that_can_be_stored_or_a_bad_row(row: dict[str, object]) -> None:
    try:
        example = parse_row(row)
    except BadRowError as error:
        str(error).encode()
        return
    stored = json.dumps(example.to_json(), ensure_ascii=False).encode()
    assert Example.from_json(json.loads(stored)) == example
    assert example.completion.strip()


def test_an_id_depends_on_all_that_a_row_says_and_on_nothing_else() -> None:
    assert parse_row({"text": "a", "label": "b", "id": 1}).id == parse_row({"label": " b ", "text": "a"}).id
    different: list[dict[str, object]] = [
        {"text": "a", "label": "b"},
        {"text": "a", "label": "c"},
        {"text": "a "},
        {"text": "a"},
        {"input": "a", "output": "b"},
        {"prompt": "a", "completion": "b"},
        {"instruction": "a", "output": "b"},
        {"instruction": "a", "input": "b", "output": "b"},
        {"messages": CHAT},
        {"messages": CHAT[1:]},
    ]
    assert len({parse_row(row).id for row in different}) == len(different)
    assert parse_row({"text": "a", "label": "b"}).id == "e728bfa541027455"  # stored with versions: it may not change


def test_the_request_of_an_instruction_joins_it_with_its_input() -> None:
    assert Example(Kind.INSTRUCTION, "do", "done", "it").request == "do\n\nit"
    assert Example(Kind.INSTRUCTION, "do", "done").request == "do"
    assert Example(Kind.TEXT, "", "all").request == ""


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "poem"},
        {"kind": None},
        {"prompt": None},
        {"messages": [{"role": "user", "content": "a"}]},
        {"messages": 7},
    ],
)
def test_a_stored_example_that_was_damaged_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadRowError):
        Example.from_json({**Example(Kind.IO, "a", "b").to_json(), **change})
    with pytest.raises(BadRowError, match="not a stored example"):
        Example.from_json({})


def write(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_a_file_gives_its_examples_once_each_its_bad_rows_and_its_repeats(tmp_path: Path) -> None:
    data = '{"text": "a"}\n{"text": ""}\n{"text": "b", "n": 1}\n\n{"n": 2, "text": "b"}\nnot JSON\n{"text": "a"}\n'
    parsed = parse_file(write(tmp_path, "a.jsonl", data), LIMITS, 2)
    assert [(line, example.completion) for line, example in parsed.examples] == [(1, "a"), (3, "b")]
    assert [(bad.line, bad.reason, bad.text) for bad in parsed.bad] == [
        (2, "text is empty", '{"text": ""}'),
        (6, "not JSON: Expecting value (character 1)", "not JSON"),
    ]
    assert parsed.duplicates == [(5, 3), (7, 1)]


def test_one_bad_row_too_many_ends_the_reading(tmp_path: Path) -> None:
    data = '{"text": "a"}\n' + "bad\n" * 1_000
    with pytest.raises(TooManyBadRows) as caught:
        parse_file(write(tmp_path, "a.jsonl", data), LIMITS, 4)
    assert caught.value.message.startswith("a.jsonl: 5 of the first 6 rows are bad, 4 may be (line 2: not JSON")
    assert caught.value.details == {"file": "a.jsonl", "bad_rows": "5"}
    assert "max_bad_rows" in caught.value.hint


def test_a_file_that_cannot_be_read_leaves_nothing_half_done(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"a\.csv: the quote in line 3 is never closed"):
        parse_file(write(tmp_path, "a.csv", 'text\na\n"b\n'), LIMITS, 0)


def test_one_row_is_one_example_from_every_format(tmp_path: Path) -> None:
    row: dict[str, Any] = {"messages": [{"role": "user", "content": "q,1"}, {"role": "assistant", "content": 'a "2"'}]}
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row, {"messages": None}]), table)
    packed = json.dumps(row["messages"]).replace('"', '""')
    files: dict[str, str | bytes] = {
        "a.jsonl": json.dumps(row),
        "a.json": json.dumps([row]),
        "a.csv": f'messages\n"{packed}"\n',
        "a.parquet": table.getvalue(),
    }
    parsed = {name: parse_file(write(tmp_path, name, data), LIMITS, 1) for name, data in files.items()}
    assert {one.examples[0].example for one in parsed.values()} == {parse_row(row)}
    assert [(bad.line, bad.reason) for bad in parsed["a.parquet"].bad] == [
        (2, "messages is missing or null, not a list")
    ]


def test_labels_of_numbers_are_the_same_from_csv_json_and_parquet(tmp_path: Path) -> None:
    table = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"], "label": [3]}), table)
    files: dict[str, str | bytes] = {
        "a.csv": "text,label\na,3\n",
        "a.jsonl": '{"text": "a", "label": 3}',
        "a.parquet": table.getvalue(),
    }
    parsed = [parse_file(write(tmp_path, name, data), LIMITS, 0) for name, data in files.items()]
    assert len({one.examples[0].example.id for one in parsed}) == 1


def test_the_examples_in_the_documentation_are_what_it_says_they_are(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data-formats.md").read_text("utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (rows,) = (block for name, block in blocks if name == "json")
    (table,) = (block for name, block in blocks if name == "csv")
    parsed = parse_file(write(tmp_path, "a.jsonl", rows), LIMITS, 0)
    assert [example.kind for _, example in parsed.examples] == [shape.kind for shape in SHAPES]
    parsed = parse_file(write(tmp_path, "a.csv", table), LIMITS, 0)
    assert [example.completion for _, example in parsed.examples] == ["card_arrival", "declined_card_payment"]
    for shape in SHAPES:
        assert f"| {shape.kind} |" in page
    for suffix in (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"):
        assert f"`{suffix}`" in page

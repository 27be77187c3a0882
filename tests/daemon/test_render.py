"""How values look on a screen."""

import json
import math

import pytest
from adapterd.daemon import render
from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 漢字", "plain ü 漢字"),
        ("a\x1b[2Jb\x07", "a\ufffd[2Jb\ufffd"),
        ("two\nlines\tand a tab\r\n", "two lines and a tab "),
        ("c1 \x9b31m", "c1 \ufffd31m"),
        ("reversed \u202etxt", "reversed \ufffdtxt"),
        ("[red]markup[/red]", "[red]markup[/red]"),
    ],
)
def test_nothing_from_outside_steers_the_terminal(text: str, shown: str) -> None:
    assert render.printable(text) == shown


def test_line_breaks_stay_where_they_are_wanted() -> None:
    assert render.printable("a\r\nb\tc\x1b", lines=True) == "a\nb\tc\ufffd"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0 ms"),
        (0.0404, "40 ms"),
        (1, "1 s"),
        (59.94, "59.9 s"),
        (60, "1 min"),
        (3599, "59 min 59 s"),
        (11520, "3 h 12 min"),
        (90000, "1 d 1 h"),
        (86400, "1 d"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, shown: str) -> None:
    assert render.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (537_600_000, "538 MB"),
        (999_700_000, "1 GB"),
        (2_000_000_000, "2 GB"),
        (7 * 10**12, "7 TB"),
    ],
)
def test_sizes_have_three_figures(count: int, shown: str) -> None:
    assert render.size(count) == shown


def test_figures_have_four_decimals_and_changes_a_sign() -> None:
    assert (render.figure(0.5), render.figure(0.5, change=True)) == ("0.5000", "+0.5000")
    assert [render.figure(value) for value in (None, math.nan, math.inf)] == ["", "", ""]


def test_times_are_utc_in_documents_and_nothing_if_not_set() -> None:
    time = Timestamp(seconds=1_785_240_000, nanos=123_456_789)
    assert render.iso(time) == "2026-07-28T12:00:00.123Z"
    assert (render.iso(Timestamp()), render.local(Timestamp()), render.moment(None)) == (None, "", "")


def test_number_zero_means_none() -> None:
    assert (render.number(0), render.number(7)) == ("", "7")


def test_table_is_aligned_and_has_no_blanks_at_its_ends(capsys: pytest.CaptureFixture[str]) -> None:
    render.put(render.table(("NAME", "ROWS"), [("a", "1"), ("longer", "1000")], right=("ROWS",)))
    assert capsys.readouterr().out == "NAME    ROWS\na          1\nlonger  1000\n"


def test_table_in_a_pipe_is_as_wide_as_its_content(capsys: pytest.CaptureFixture[str]) -> None:
    render.put(render.table(("A", "B"), [("x" * 300, "y" * 300)]))
    assert capsys.readouterr().out.splitlines()[1] == "x" * 300 + "  " + "y" * 300


def test_cells_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    render.put(render.table(("A",), [("[bold]x[/bold] :smile:",)]), render.fields([("name", "[red]")]))
    shown = capsys.readouterr().out
    assert "[bold]x[/bold] :smile:" in shown
    assert "[red]" in shown


def test_fields_without_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    render.put(render.fields([("one", "1"), ("none", ""), ("text", Text("")), ("two", Text("2"))]))
    assert capsys.readouterr().out == "one  1\ntwo  2\n"


def test_screens_have_an_empty_line_between_parts(capsys: pytest.CaptureFixture[str]) -> None:
    render.put(render.screens(render.titled("first", Text("a")), "b"))
    assert capsys.readouterr().out == "first\na\n\nb\n"


def test_states_have_colours_and_unknown_ones_none() -> None:
    assert [str(render.word(state).style) for state in ("done", "failed", "held", "novel")] == [
        "green",
        "red",
        "yellow",
        "",
    ]


def test_document_has_a_schema_and_no_number_that_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_document({"a": math.nan, "b": [math.inf, 1.5], "c": {"d": "ü"}})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"schema": 1, "a": None, "b": [None, 1.5], "c": {"d": "ü"}}
    assert "ü" in printed


def test_document_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_document({"a": 1}, line=True)
    render.print_document({"a": "two\nlines"}, line=True)
    assert [json.loads(line)["a"] for line in capsys.readouterr().out.splitlines()] == [1, "two\nlines"]

"""A row's date is read where it can be, and the newest rows are held out where all have one."""

from datetime import UTC, date, datetime

import pytest
from adapterd.continual.dates import read_date
from adapterd.continual.examples import Example, Kind, parse_row
from adapterd.continual.split import is_dated, part
from hypothesis import given
from hypothesis import strategies as st

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-01T12:00:00Z",
        "2026-03-01T13:00:00+01:00",
        " 2026-03-01 12:00 ",
        NOON,
        NOON.replace(tzinfo=None),
        NOON.timestamp(),
        int(NOON.timestamp() * 1000),
        str(int(NOON.timestamp())),
    ],
)
def test_a_date_is_read_in_each_of_its_forms(value: object) -> None:
    assert read_date({"date": value}) == NOON.timestamp()


@pytest.mark.parametrize(
    "value", ["", "soon", "2026", "31.12.2026", None, True, [], float("nan"), 10**400, "9" * 400, "0001-13-01"]
)
def test_what_is_no_date_is_none_and_the_row_is_taken_all_the_same(value: object) -> None:
    assert read_date({"date": value}) is None
    assert parse_row({"text": "a", "label": "b", "date": value}).date is None


def test_days_and_other_columns_count_too() -> None:
    assert read_date({"created_at": date(2026, 3, 1)}) == datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    assert read_date({"timestamp": "2026-03-01", "created_at": "1999-01-01"}) == read_date({"date": "2026-03-01"})


@given(st.one_of(st.text(), st.integers(), st.floats(), st.datetimes()))
def test_nothing_that_stands_in_the_column_is_an_error(value: object) -> None:
    read_date({"date": value})


def test_a_date_is_stored_and_is_no_part_of_what_a_row_says() -> None:
    dated = parse_row({"text": "a", "label": "b", "date": NOON})
    assert Example.from_json(dated.to_json()).date == NOON.timestamp()
    assert dated == parse_row({"text": "a", "label": "b"})
    assert "date" not in parse_row({"text": "a", "label": "b"}).to_json()


def test_the_newest_rows_of_each_label_are_held_out_where_all_have_a_date() -> None:
    rows = [
        Example(
            Kind.LABEL, f"row {number}", "even" if number % 2 == 0 else "odd", date=float(number % 50 * 60 + number)
        )
        for number in range(100)
    ]
    assert is_dated(rows)
    parted = part(rows, 0.2, 0, 8, 50)
    for label in ("even", "odd"):
        held = [row.date or 0.0 for row in parted.heldout if row.completion == label]
        learned = [row.date or 0.0 for row in (*parted.train, *parted.validation) if row.completion == label]
        assert held
        assert min(held) > max(learned)
    assert len(parted.train) + len(parted.validation) + len(parted.heldout) == 100


def test_one_row_without_a_date_or_one_date_for_all_is_as_no_date() -> None:
    rows = [Example(Kind.LABEL, f"row {number}", "x", date=float(number)) for number in range(10)]
    assert not is_dated([*rows, Example(Kind.LABEL, "row", "x")])
    assert not is_dated([Example(Kind.LABEL, f"row {number}", "x", date=1.0) for number in range(10)])
    assert not is_dated([])

"""The probe of general text that is shipped."""

from adapterd.continual.probe import probe_rows
from adapterd.continual.shapes import Kind


def test_the_probe_holds_forty_different_plain_texts() -> None:
    rows = probe_rows()
    assert len({row.id for row in rows}) == 40
    assert all(row.kind is Kind.TEXT for row in rows)
    assert all(40 < len(row.completion) < 200 for row in rows)

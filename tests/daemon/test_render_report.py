"""The figures of versions by drop."""

import math
from typing import Any

from adapterd.daemon import render_report

from .fake_daemon import report


def test_drops_are_in_the_order_of_their_numbers() -> None:
    figures = {"candidate": {"loss": 1.0, "accuracy": None, "rows": 8}}
    found = {"versions": [{"version": 1, "evaluations": dict.fromkeys(("10", "9", "100"), figures)}]}
    assert render_report.drops_of(found) == ["9", "10", "100"]


def test_measures_without_figures_are_not_shown() -> None:
    found: dict[str, Any] = {
        "versions": [{"version": 1, "evaluations": {"1": {"candidate": {"loss": 1.0, "accuracy": None}}}}]
    }
    assert render_report.measures_in(found) == ["loss"]
    assert render_report.measures_in(report()) == ["accuracy", "loss"]
    assert render_report.measures_in({}) == []


def test_figure_that_is_no_number_is_none() -> None:
    evaluations = {"1": {"candidate": {"loss": math.nan}}}
    assert render_report.value(evaluations, "1", "candidate", "loss") is None
    assert render_report.value(evaluations, "2", "champion", "loss") is None


def test_base_is_the_one_that_the_newest_version_was_measured_beside() -> None:
    found = report()
    found["versions"][1]["evaluations"]["1"]["base"] = {"loss": 1.9, "accuracy": 0.35, "rows": 20}
    assert render_report.base_value(found, "1", "loss") == 1.9
    del found["versions"][1]["evaluations"]["1"]["base"]
    assert render_report.base_value(found, "1", "loss") == 2.0
    assert render_report.base_value(found, "3", "loss") is None


def test_change_is_green_for_the_better_and_red_for_the_worse() -> None:
    changes = [
        render_report.change(0.5, 0.6, "accuracy"),
        render_report.change(0.5, 0.4, "accuracy"),
        render_report.change(0.5, 0.4, "loss"),
        render_report.change(0.5, 0.6, "loss"),
        render_report.change(0.5, 0.5, "loss"),
        render_report.change(None, 0.5, "loss"),
    ]
    assert [(change.plain, str(change.style)) for change in changes] == [
        ("+0.1000", "green"),
        ("-0.1000", "red"),
        ("-0.1000", "green"),
        ("+0.1000", "red"),
        ("+0.0000", ""),
        ("", ""),
    ]


def test_what_drifted_is_told_by_drop_without_the_name_of_the_task() -> None:
    cells = [[str(cell) for cell in column.cells] for column in render_report.drift(report()).columns]
    assert cells[1:] == [["input"], ["2"], ["prompts have moved"]]


def test_version_that_the_report_does_not_know_has_nothing() -> None:
    assert render_report.version_of(report(), 9) == {}
    assert render_report.version_of(report(), 2)["verdict"] == "promote"

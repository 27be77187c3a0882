"""What a task's report looks like on a screen: figures by version and drop, and the history of verdicts.

The report is the document of `GetReport`: `versions`, each with its `evaluations` by drop, and there by subject
(`candidate`: this version; `champion`: the one before; `base`) the `loss` in nats per token, the `accuracy` as a
share or null, the `exact_match` likewise, and the `rows` that all were measured on (`few-shot`: on some of them).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from rich.table import Table
from rich.text import Text

from ..continual.probe import PROBE
from .render import figure, moment, number, table, word, words

Measure = Literal["accuracy", "exact_match", "loss"]
MEASURES: Final[tuple[Measure, ...]] = ("accuracy", "exact_match", "loss")

Report = Mapping[str, Any]
Evaluations = Mapping[str, Mapping[str, Mapping[str, Any]]]


def version_of(report: Report, version: int) -> Mapping[str, Any]:
    """What the report holds about a version; empty if nothing."""
    return next((row for row in report.get("versions", ()) if row.get("version") == version), {})


def drops_of(report: Report) -> list[str]:
    """The drops that any version was measured on, in their order."""
    seen = {drop for row in report.get("versions", ()) for drop in row.get("evaluations") or {}}
    return sorted(seen, key=lambda drop: (len(drop), drop))


def name_of(drop: str, golden: int) -> str:
    """How a column of figures is called: by its drop, or as the probe of general text, or as the golden set."""
    return {str(golden): "golden", str(PROBE): "general"}.get(drop, f"drop {drop}")


def value(evaluations: Evaluations, drop: str, subject: str, measure: Measure) -> float | None:
    """A subject's figure on a drop; None where it was not measured."""
    found = evaluations.get(drop, {}).get(subject, {}).get(measure)
    return float(found) if found is not None and math.isfinite(found) else None


def base_value(report: Report, drop: str, measure: Measure) -> float | None:
    """The base's figure on a drop, from the newest version that was measured beside it."""
    rows = reversed(report.get("versions", ()))
    figures = (value(row.get("evaluations") or {}, drop, "base", measure) for row in rows)
    return next((found for found in figures if found is not None), None)


def measures_in(report: Report) -> list[Measure]:
    """Which measures there are figures of."""
    rows = [row.get("evaluations") or {} for row in report.get("versions", ())]
    drops = drops_of(report)
    return [
        measure
        for measure in MEASURES
        if any(value(row, drop, "candidate", measure) is not None for row in rows for drop in drops)
    ]


def matrix(report: Report, measure: Measure) -> Table:
    """One measure of every version (rows) on every drop's held-out rows (columns), the base first."""
    drops = drops_of(report)
    headings = ["VERSION", *(name_of(drop, report.get("golden", 0)).upper() for drop in drops)]
    rows: list[Sequence[str | Text]] = [[word("base"), *(figure(base_value(report, drop, measure)) for drop in drops)]]
    for row in report.get("versions", ()):
        found = row.get("evaluations") or {}
        name = Text(f"{report.get('task', '')}@{row['version']}")
        if row.get("aliases"):
            name = Text(" ").join([name, words(row["aliases"])])
        rows.append([name, *(figure(value(found, drop, "candidate", measure)) for drop in drops)])
    return table(headings, rows, right=headings[1:])


def history(report: Report) -> Table:
    """Every version: what it was learned from, what the gate said, and why."""
    return table(
        ("VERSION", "CREATED", "DROP", "STATE", "VERDICT", "REASON"),
        (
            (
                f"{report.get('task', '')}@{row['version']}",
                moment(row.get("created")),
                number(row.get("drop") or 0),
                word(str(row.get("state") or "")),
                word(str(row.get("verdict") or "")),
                str(row.get("reason") or ""),
            )
            for row in report.get("versions", ())
        ),
        right=("DROP",),
    )


def drift(report: Report) -> Table:
    """What has moved away from what was known, and when it was noticed."""
    task = report.get("task", "")
    return table(
        ("WHEN", "DRIFT OF", "DROP", "WHAT"),
        (
            (
                moment(row.get("time")),
                str(row.get("kind") or "").removeprefix("drift."),
                number(row.get("drop") or 0),
                str(row.get("message") or "").removeprefix(f"{task}: "),
            )
            for row in report.get("drift", ())
        ),
        right=("DROP",),
    )


def moves(report: Report) -> Table:
    """Where the task's aliases moved, when, by whom and why."""
    task = report.get("task", "")
    return table(
        ("WHEN", "ALIAS", "FROM", "TO", "BY", "WHY"),
        (
            (
                moment(row.get("time")),
                word(str(row.get("alias") or "")),
                f"{task}@{row['from']}" if row.get("from") else "",
                f"{task}@{row['to']}" if row.get("to") else "",
                str(row.get("actor") or ""),
                str(row.get("reason") or ""),
            )
            for row in report.get("history", ())
        ),
    )


def comparison(evaluations: Evaluations, golden: int = 0) -> Table:
    """A version beside the champion it was judged against and the base, drop by drop; `golden` is the golden set's.

    The change is the version's figure minus the champion's, or the base's where there was no champion. The base with
    examples in its prompt is asked about some rows of the new drop only.
    """
    rows: list[Sequence[str | Text]] = []
    for drop in sorted(evaluations, key=lambda drop: (len(drop), drop)):
        for measure in MEASURES:
            base, few_shot, champion, candidate = (
                value(evaluations, drop, subject, measure) for subject in ("base", "few-shot", "champion", "candidate")
            )
            if candidate is None and champion is None and base is None:
                continue
            count = evaluations[drop].get("candidate", {}).get("rows")
            reference = champion if champion is not None else base
            rows.append(
                (
                    name_of(drop, golden).removeprefix("drop "),
                    "" if count is None else str(count),
                    measure.replace("_", " "),
                    figure(base),
                    figure(few_shot),
                    figure(champion),
                    figure(candidate),
                    change(reference, candidate, measure),
                )
            )
    headings = ("DROP", "ROWS", "MEASURE", "BASE", "FEW-SHOT", "CHAMPION", "CANDIDATE", "CHANGE")
    return table(headings, rows, right=("DROP", "ROWS", *headings[3:]))


def change(before: float | None, after: float | None, measure: Measure) -> Text:
    """`after` minus `before`, green where it is for the better and red where it is for the worse."""
    if before is None or after is None:
        return Text("")
    moved = after - before
    better = moved < 0 if measure == "loss" else moved > 0
    worse = moved != 0 and not better
    return Text(figure(moved, change=True), style="green" if better else "red" if worse else "")

"""The tables of the demo: what a second version kept and improved, and how base and versions compare at the end."""

import json
from collections.abc import Mapping
from typing import Any

from adapterd.continual.probe import PROBE
from adapterd.daemon.client import Client
from adapterd.v1 import learning_pb2

from .demo_screen import Story
from .figures import BASE, StyleFigures, TicketFigures, style_figures, tickets_figures

# What must hold at the end, in shares of test rows; far enough from what is measured that chance does not decide.
_TICKETS_GAIN = 0.3
_STYLE_GAIN = 0.5
_FORGETTING = 0.15

_SUBJECTS = (("base", "base"), ("champion", "version 1"), ("candidate", "version 2"))


def show_what_was_kept(client: Client, story: Story, task: str) -> None:
    """The gate's figures of version 2: each drop's held-out rows, for the base and both versions."""
    message = client.learning.GetReport(learning_pb2.GetReportRequest(task=task))
    report: dict[str, Any] = json.loads(message.report_json)
    version = next(row for row in report["versions"] if row["version"] == 2)
    rows = []
    for drop, judged in sorted(version["evaluations"].items(), key=lambda item: int(item[0])):
        new = int(drop) == version["drop"]
        for measure in ("accuracy", "loss"):
            figures = [judged[subject][measure] for subject, _ in _SUBJECTS]
            if None in figures:
                continue
            which = "general text" if drop == str(PROBE) else f"drop {drop}, {'new' if new else 'earlier'}"
            rows.append(
                (f"{which}: {measure}", *(f"{figure:.3f}" for figure in figures), f"{figures[2] - figures[1]:+.3f}")
            )
    headings = ("held-out rows", *(name for _, name in _SUBJECTS), "change")
    story.table(f"{task}@2: what was kept and what improved", headings, rows)
    story.say(f"the gate: {version['reason']}")


def show_figures(client: Client, story: Story, waits: Mapping[tuple[str, int], float]) -> None:
    """Measure base, version 1 and version 2 of both tasks on the test rows, and hold them to what is promised."""
    tickets = [tickets_figures(client, adapter) for adapter in (BASE, "tickets@1", "tickets@2")]
    style = [style_figures(client, adapter) for adapter in (BASE, "house-style@1", "house-style@2")]
    rows = [
        ("tickets: right label, all six", *(_percent(row.all_rows) for row in tickets)),
        ("tickets: right label, rows of drop 1's labels", *(_percent(row.first_rows) for row in tickets)),
        ("house-style: in style", *(_percent(row.in_style) for row in style)),
        ("house-style: in style, area, ticket and owner right", *(_percent(row.right) for row in style)),
        ("house-style: the same, rows of drop 1's kind", *(_percent(row.first_right) for row in style)),
        ("tickets: seconds from drop to serving", "-", *_seconds(waits, "tickets")),
        ("house-style: seconds from drop to serving", "-", *_seconds(waits, "house-style")),
    ]
    story.table("Test rows", ("", "base", "version 1", "version 2"), rows)
    story.say(
        "Version 1 is asked among all six labels too. The seconds of house-style hold its wait while tickets trained, "
        "and for version 2 the kill and the restart."
    )
    _check(story, tickets, style)


def _check(story: Story, tickets: list[TicketFigures], style: list[StyleFigures]) -> None:
    gain = tickets[2].all_rows - tickets[0].all_rows
    story.check(gain >= _TICKETS_GAIN, f"tickets: the champion is {100 * gain:+.0f} points above the base")
    gain = style[2].right - style[0].right
    story.check(gain >= _STYLE_GAIN, f"house-style: the champion is {100 * gain:+.0f} points above the base")
    for task, before, after in (
        ("tickets", tickets[1].first_rows, tickets[2].first_rows),
        ("house-style", style[1].first_right, style[2].first_right),
    ):
        forgotten = max(0.0, before - after)
        story.check(
            forgotten <= _FORGETTING,
            f"{task}: {100 * forgotten:.0f} points of drop 1 forgotten ({_percent(before)} → {_percent(after)})",
        )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _seconds(waits: Mapping[tuple[str, int], float], task: str) -> list[str]:
    return [f"{waits[task, version]:.0f}" for version in (1, 2)]

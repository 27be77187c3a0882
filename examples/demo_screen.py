"""How the demo tells its story: numbered steps, checks that hold or not, the daemon's events, trainings as bars."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapterd.daemon.client import Client
from adapterd.v1 import common_pb2, learning_pb2
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

Event = common_pb2.Event

PROGRESS = "training.progress"
_TOLD = ("drop.parsed", "training.started", "version.published", "version.rejected", "alias.moved")
# Events after which what the demo waits for will not come.
_DEAD_ENDS = ("drop.held", "drop.failed", "drop.quarantined", "training.failed", "version.not-promoted", "worker.error")
_PATIENCE_S = 900.0
_WIDTH = 116  # columns where the output is no terminal: as wide as our code


class Failed(Exception):
    """The story cannot go on."""


def _console() -> Console:
    screen = Console(markup=False, highlight=False, emoji=False)
    return screen if screen.is_terminal else Console(markup=False, highlight=False, emoji=False, width=_WIDTH)


@dataclass
class Story:
    """What has been told so far, and which checks did not hold."""

    screen: Console = field(default_factory=_console)
    failures: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _steps: int = 0
    _last_event: int = 0

    @property
    def minutes(self) -> str:
        """How long the story has taken: "4:07"."""
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60}:{seconds % 60:02d}"

    def step(self, title: str) -> None:
        """The heading of the next step."""
        self._steps += 1
        self.screen.print()
        self.screen.print(Rule(Text(f"{self._steps}. {title}  ({self.minutes})", style="bold cyan"), align="left"))

    def say(self, text: str) -> None:
        """A sentence, or what a command printed."""
        self.screen.print(text, soft_wrap=True)

    def command(self, line: str, printed: str) -> None:
        """A command as a person would type it, and what it printed."""
        self.screen.print(Text(f"$ {line}", style="bold"), soft_wrap=True)
        self.screen.print(printed, soft_wrap=True)

    def check(self, holds: bool, what: str) -> None:
        """Whether something that was promised holds; the story goes on either way."""
        mark = Text("  ok  ", style="bold green") if holds else Text(" FAIL ", style="bold red")
        self.screen.print(Text.assemble(mark, what), soft_wrap=True)
        if not holds:
            self.failures.append(what)

    def table(self, title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table; every column but the first is aligned to the right if it holds figures."""
        rows = list(rows)
        table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
        for at, heading in enumerate(headings):
            figures = at > 0 and all(row[at][:1] in "+-0123456789" for row in rows)
            table.add_column(heading, justify="right" if figures else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.screen.print(table)

    def follow(self, client: Client, tasks: Sequence[str], until: Callable[[Event], bool]) -> Event:
        """Tell what happens, a bar for each of `tasks`, until `until` is true of an event, and return that.

        Goes on where the last call stopped. Raises `Failed` if what is waited for cannot come any more.
        """
        columns = (
            TextColumn("        {task.fields[name]:<12}", markup=False),
            BarColumn(bar_width=40),
            TaskProgressColumn("{task.percentage:>3.0f}%", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        request = learning_pb2.EventsRequest(after=self._last_event, follow=True)
        with Progress(*columns, console=self.screen) as progress:
            meters = {task: progress.add_task("waiting", total=1.0, name=task, start=False) for task in tasks}
            for event in client.learning.Events(request, timeout=_PATIENCE_S):
                self._last_event = event.id
                if event.task in meters:
                    _move(progress, meters[event.task], event)
                if event.kind in _TOLD:
                    progress.console.print(f"{_clock(event)}  {event.message}", soft_wrap=True)
                if until(event):
                    return event
                if event.kind in _DEAD_ENDS:
                    raise Failed(event.message)
        raise Failed("the daemon ended its stream of events")


def details(event: Event) -> dict[str, Any]:
    """An event's details."""
    found: dict[str, Any] = json.loads(event.details_json or "{}")
    return found


def _move(progress: Progress, meter: Any, event: Event) -> None:
    if event.kind == "training.started":
        progress.start_task(meter)
        progress.update(meter, description="starting")
    elif event.kind == PROGRESS:
        told = details(event)
        where = f" step {told['step']} of {told['steps']}, loss {told['loss']:.3f}" if "steps" in told else ""
        progress.update(meter, completed=told["progress"], description=f"{told['phase']}{where}")
    elif event.kind == "drop.done":
        progress.update(meter, completed=1.0, description=f"{event.task}@{event.version}")
        progress.stop_task(meter)


def _clock(event: Event) -> str:
    return time.strftime("%H:%M:%S", time.localtime(event.time.seconds))

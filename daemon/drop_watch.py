"""Following one drop from the inbox to its verdict, as `adapterd drop --wait` does.

The events are shown as they come; at one that tells of an end, the daemon is asked whether it still is one, because a
person may have released the drop since.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from adapterd.v1 import common_pb2, learning_pb2
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from .client import Client
from .errors import NotRunning
from .render import clock, printable

DONE: Final = common_pb2.DROP_STATE_DONE
ENDS: Final = frozenset(
    {DONE, common_pb2.DROP_STATE_HELD, common_pb2.DROP_STATE_QUARANTINED, common_pb2.DROP_STATE_FAILED}
)
"""The states that a drop leaves only if a person releases it, or never."""

END_KINDS: Final = frozenset({"drop.done", "drop.held", "drop.quarantined", "drop.failed"})
"""The kinds of the events that tell of these states."""

PROGRESS: Final = "training.progress"
"""The kind of the many small events that move a bar and are not worth a line."""


@dataclass(frozen=True)
class Advance:
    """How far a training is: `share` from 0 to 1; `loss` in nats per token, None before the first step."""

    phase: str = "waiting"
    share: float = 0.0
    step: int = 0
    steps: int = 0
    loss: float | None = None

    def after(self, details: dict[str, Any]) -> "Advance":
        """The state after a `training.progress` event with these details; what they do not name stays as it is."""
        known = {name: details[name] for name in ("phase", "step", "steps", "loss") if details.get(name) is not None}
        return replace(self, share=max(self.share, min(1.0, float(details.get("progress", 0.0)))), **known)

    def __str__(self) -> str:
        parts = [self.phase]
        if self.phase == "training" and self.steps:
            parts.append(f"step {self.step}/{self.steps}")
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        return "  ".join(parts)


def last_event(client: Client, task: str) -> int:
    """The number of the newest event of a task; 0 if there is none."""
    newest = 0
    for event in client.learning.Events(learning_pb2.EventsRequest(task=task)):
        newest = event.id
    return newest


def await_end(client: Client, task: str, sha256: str, after: int, screen: Console) -> learning_pb2.Drop:
    """Show on `screen` what happens to the drop of these bytes until it is one of `ENDS`, and return it.

    `after`: the number of an event from before the file was handed in. Raises `NotRunning` if the daemon goes away.
    """
    try:
        return _followed(client, task, sha256, after, screen)
    except NotRunning as error:
        raise NotRunning(
            f"the daemon went away before there was a verdict ({error.message})",
            hint=f"nothing is lost: it goes on at its next start; `adapterd drops {task}` shows how far it is",
        ) from error


def _followed(client: Client, task: str, sha256: str, after: int, screen: Console) -> learning_pb2.Drop:
    drop = _find(client, task, sha256)
    if drop is not None and drop.state in ENDS:
        return drop
    request = learning_pb2.EventsRequest(task=task, after=after, follow=True)
    with _bar(screen) as bar:
        meter = bar.add_task("waiting until the file is settled", total=1.0)
        advance = Advance()
        for event in client.learning.Events(request):
            if drop is None and event.drop:
                drop = _find(client, task, sha256)
            if drop is None or event.drop != drop.id:
                continue
            if event.kind == PROGRESS:
                advance = advance.after(json.loads(event.details_json or "{}"))
                bar.update(meter, completed=advance.share, description=str(advance))
                continue
            if event.kind == "training.started":  # the first try, or a further one: the bar begins anew
                advance = Advance()
                bar.reset(meter, description=str(advance))
            bar.console.print(f"{clock(event.time)}  {printable(event.message)}")
            if event.kind in END_KINDS:
                drop = client.learning.GetDrop(learning_pb2.GetDropRequest(id=drop.id))
                if drop.state in ENDS:
                    return drop
    raise NotRunning("the stream of events ended")


def _find(client: Client, task: str, sha256: str) -> learning_pb2.Drop | None:
    drops = client.learning.ListDrops(learning_pb2.ListDropsRequest(task=task, sha256=sha256)).drops
    return drops[0] if drops else None


@contextmanager
def _bar(screen: Console) -> Iterator[Progress]:
    """A bar that goes when it is done; none where `screen` is no terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        yield progress

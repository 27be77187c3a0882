"""Progress of obtaining the base: a bar on a terminal, log lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

log = structlog.get_logger(__name__)


@contextmanager
def base_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A function (what, done, total) that shows how far each phase is; every phase is shown once it begins."""
    if not sys.stderr.isatty():
        said: set[str] = set()

        def tell(what: str, _done: int, _total: int) -> None:
            if what not in said:
                said.add(what)
                log.info("obtaining the base", phase=what)

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        phases = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in phases:
                phases[what] = bars.add_task(what, total=total)
            bars.update(phases[what], completed=done, total=total)

        yield show

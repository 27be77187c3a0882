"""Log lines: one way for ours and for the libraries', readable on a terminal and one JSON object a line elsewhere.

    log = structlog.get_logger(__name__)
    with bound_contextvars(drop=7, job=3):
        log.info("drop given up")

`bound_contextvars` (of `structlog.contextvars`) puts an id on every line of the thread until it ends; a new thread
starts without any. A call has its id and its method on every line (`caller.call`), a step of a drop the drop's and the
job's (`worker`), and every event is a line as well.
"""

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from .events import EventRow

Style = Literal["auto", "console", "json"]

_log = structlog.get_logger(__name__)

_HANDLER = "adapterd"

_CHATTY = ("apscheduler", "filelock", "httpcore", "httpx", "urllib3")
"""Libraries that tell at INFO and DEBUG what only their own authors want to know: heard from WARNING up."""

_PRIORITY = {"critical": 2, "error": 3, "exception": 3, "warning": 4, "info": 6, "debug": 7}
"""Levels as syslog numbers them; what is not here counts as info."""


def configure(level: str = "info", style: Style = "auto", stream: TextIO | None = None) -> None:
    """Send every log line of level `level` and above to `stream` (default: stderr); call it again to change its mind.

    `auto` is `console` on a terminal and `json` elsewhere. Where the stream is systemd's journal, each line begins
    with its `<priority>` (sd-daemon(3)), which the journal takes off and makes `journalctl -p warning` work.
    """
    target: TextIO = sys.stderr if stream is None else stream
    if style == "auto":
        style = "console" if target.isatty() else "json"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # Loggers are made at import: cached, they would keep the configuration that was in force at their first line.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.set_name(_HANDLER)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                ProcessorFormatter.remove_processors_meta,
                *(_console(target) if style == "console" else _json()),
                *([_with_priority] if _is_journal(target, os.environ) else []),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if other.get_name() != _HANDLER] + [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(capture=True)


def adopt(*names: str) -> None:
    """Route libraries that print with handlers of their own (transformers does) the way of everything else.

    Call it once they are imported: it is their import that sets the handlers up.
    """
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def log_event(event: EventRow) -> None:
    """A line for something that happened; how far a training is, which happens all the time, is for `debug`."""
    level = logging.DEBUG if event.kind.endswith(".progress") else logging.INFO
    named = {"kind": event.kind, "task": event.task, "drop": event.drop, "version": event.version, "actor": event.actor}
    if isinstance(job := event.details.get("job"), int):
        named["job"] = job
    _log.log(level, event.message, **{name: value for name, value in named.items() if value})


def _console(stream: TextIO) -> list[Processor]:
    """Columns for a person; colours on a terminal only, and not against `$NO_COLOR`."""
    colors = stream.isatty() and not os.environ.get("NO_COLOR")
    # Plain traces: the other formatters print the local variables too, and with them people's rows and prompts.
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _json() -> list[Processor]:
    """One object a line, ASCII only, so that no row of data can break the line or the encoding."""
    return [structlog.processors.format_exc_info, _first_things_first, structlog.processors.JSONRenderer()]


def _first_things_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Time, level, logger and event in front, whatever else the line holds."""
    head = {key: event.pop(key) for key in ("time", "level", "logger", "event") if key in event}
    return head | dict(event)


def _with_priority(_logger: WrappedLogger, method: str, rendered: Any) -> str:
    """The rendered text with its priority before each line: the journal takes each line of a trace as its own."""
    prefix = f"<{_PRIORITY.get(method, 6)}>"
    return "\n".join(prefix + line for line in str(rendered).splitlines())


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is the one that systemd connected to its journal, by `$JOURNAL_STREAM` (systemd.exec(5))."""
    if not (named := environ.get("JOURNAL_STREAM")):
        return False
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # a stream in memory has no descriptor, so it is not the journal's
        return False
    return named == f"{status.st_dev}:{status.st_ino}"

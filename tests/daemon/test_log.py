"""Log lines as a person and a machine read them."""

import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import structlog
from adapterd.daemon import log
from adapterd.daemon.ledger import Ledger
from structlog.contextvars import bound_contextvars

LIBRARIES = ("apscheduler", "filelock", "httpcore", "httpx", "urllib3", "some.library")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """What `configure` sets is the process's own: put it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def refuse(prompt: str) -> None:
    raise OSError(f"no room for {len(prompt)} characters")


def objects(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_elsewhere_than_on_a_terminal_a_line_is_a_json_object() -> None:
    stream = io.StringIO()
    log.configure("info", "auto", stream)
    structlog.get_logger("adapterd.daemon.worker").info("drop claimed", task="trec", drop=3)
    (line,) = objects(stream)
    assert list(line) == ["time", "level", "logger", "event", "task", "drop"]
    assert str(line.pop("time")).endswith("Z")
    assert line == {
        "level": "info",
        "logger": "adapterd.daemon.worker",
        "event": "drop claimed",
        "task": "trec",
        "drop": 3,
    }


def test_on_a_terminal_a_line_is_coloured_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    log.configure("info", "auto", stream)
    structlog.get_logger().info("drop claimed", task="trec")
    assert "\x1b[" in stream.getvalue()
    assert "drop claimed" in stream.getvalue()


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    log.configure("info", "console", stream)
    structlog.get_logger("worker").info("drop claimed", task="trec")
    assert "\x1b[" not in stream.getvalue()
    assert stream.getvalue().endswith("task=trec\n")


def test_lines_below_the_level_are_dropped_ours_and_the_libraries() -> None:
    stream = io.StringIO()
    log.configure("warning", "json", stream)
    structlog.get_logger("ours").info("unheard")
    logging.getLogger("some.library").info("unheard")
    structlog.get_logger("ours").warning("heard")
    assert [line["event"] for line in objects(stream)] == ["heard"]


def test_a_librarys_line_looks_like_ours() -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    logging.getLogger("some.library").warning("slow: %s s", 3, extra={"host": "a"})
    (line,) = objects(stream)
    assert (line["level"], line["logger"], line["event"], line["host"]) == (
        "warning",
        "some.library",
        "slow: 3 s",
        "a",
    )


def test_pythons_warnings_become_lines() -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old spelling", stacklevel=1)
    (line,) = objects(stream)
    assert line["logger"] == "py.warnings"
    assert "old spelling" in str(line["event"])


def test_chatty_libraries_are_heard_from_warnings_up() -> None:
    stream = io.StringIO()
    log.configure("debug", "json", stream)
    logging.getLogger("apscheduler.scheduler").info("job added")
    logging.getLogger("apscheduler.scheduler").warning("job missed")
    assert [line["event"] for line in objects(stream)] == ["job missed"]


def test_a_library_with_handlers_of_its_own_can_be_adopted() -> None:
    theirs, ours = io.StringIO(), io.StringIO()
    library = logging.getLogger("some.library")
    library.addHandler(logging.StreamHandler(theirs))
    library.propagate = False
    log.configure("info", "json", ours)
    log.adopt("some.library")
    library.warning("odd model")
    assert theirs.getvalue() == ""
    assert [line["event"] for line in objects(ours)] == ["odd model"]


def test_bound_ids_are_on_every_line_until_they_are_let_go() -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    with bound_contextvars(request="r-1"):
        structlog.get_logger("edge").info("began")
        logging.getLogger("some.library").info("in between")
    structlog.get_logger("edge").info("after")
    assert [line.get("request") for line in objects(stream)] == ["r-1", "r-1", None]


def test_an_event_is_a_line_once_it_is_committed(tmp_path: Path) -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    with closing(Ledger(tmp_path / "ledger", tell=log.log_event)) as ledger:
        with bound_contextvars(request="r-1"):
            ledger.events.emit("training.started", "job 3 started", task="mood", drop=7, details={"job": 3})
        with suppress(ZeroDivisionError), ledger.transaction():
            ledger.events.emit("drop.done", "undone", task="mood", drop=7)
            raise ZeroDivisionError
        ledger.events.emit("training.progress", "job 3: 12%", task="mood", drop=7, details={"job": 3})
    (line,) = objects(stream)
    told = {"kind": "training.started", "task": "mood", "drop": 7, "job": 3, "actor": "daemon", "request": "r-1"}
    assert line | told == line
    assert (line["level"], line["event"]) == ("info", "job 3 started")
    assert "version" not in line


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_trace_shows_no_local_variables(style: log.Style) -> None:
    stream = io.StringIO()
    log.configure("info", style, stream)
    prompt = "my-private-prompt"
    try:
        refuse(prompt)
    except OSError:
        structlog.get_logger("edge").exception("request failed")
    assert "no room for 17 characters" in stream.getvalue()
    assert "Traceback" in stream.getvalue()
    assert "my-private-prompt" not in stream.getvalue()


@pytest.mark.parametrize("text", ["two\nlines", "\ud800 alone", 'a "quoted" name', "\x1b[31mred"])
def test_no_text_breaks_a_json_line(text: str) -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    structlog.get_logger("inbox").info("file", filename=text)
    (line,) = objects(stream)
    assert line["filename"] == text
    assert stream.getvalue().isascii()


def test_what_json_cannot_hold_is_written_as_its_repr(tmp_path: Path) -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    structlog.get_logger("inbox").info("file", path=tmp_path)
    assert str(tmp_path) in str(objects(stream)[0]["path"])


def test_configuring_again_replaces_what_was_and_leaves_strangers_alone() -> None:
    first, second, stranger = io.StringIO(), io.StringIO(), logging.NullHandler()
    logging.getLogger().addHandler(stranger)
    log.configure("info", "json", first)
    logger = structlog.get_logger("edge")
    logger.info("one")
    log.configure("debug", "json", second)
    logger.debug("two")
    assert [line["event"] for line in objects(first)] == ["one"]
    assert [line["event"] for line in objects(second)] == ["two"]
    assert stranger in logging.getLogger().handlers


def test_each_line_to_the_journal_begins_with_its_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        log.configure("debug", "console", stream)
        logger = structlog.get_logger("worker")
        logger.info("fine")
        logging.getLogger("some.library").warning("hm")
        try:
            refuse("x")
        except OSError:
            logger.exception("failed")
        stream.seek(0)
        lines = stream.read().splitlines()
    assert [line[:3] for line in lines] == ["<6>", "<4>"] + ["<3>"] * (len(lines) - 2)
    assert lines[-1].endswith("OSError: no room for 1 characters")


def test_another_stream_than_the_journals_gets_no_priorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with (tmp_path / "file").open("w+") as stream:
        log.configure("info", "json", stream)
        structlog.get_logger("worker").info("fine")
        stream.seek(0)
        assert stream.read().startswith("{")


def test_without_a_stream_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    structlog.get_logger("worker").info("fine")
    assert '"fine"' in capsys.readouterr().err

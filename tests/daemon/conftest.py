"""What the tests of the daemon may ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .cli_runner import CommandLine
from .fake_daemon import FakeDaemon, drop, version


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No setting of the person who runs the tests, and a home of its own."""
    for name in ("CONFIG", "STATE", "ADDRESS", "INBOX", "BASE"):
        monkeypatch.delenv(f"ADAPTERD_{name}", raising=False)
    for name in ("STATE_DIRECTORY", "FORCE_COLOR", "NO_COLOR", "COLUMNS", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.chdir(tmp_path)
    return monkeypatch


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeDaemon]:
    """A fake daemon with the task "mood": versions 1 and 2 of two drops; 2 is the champion, 1 the previous."""
    folder = tmp_path / "fake"
    folder.mkdir()
    daemon = FakeDaemon(
        folder,
        versions={1: version(1), 2: version(2)},
        aliases={"champion": 2, "previous": 1},
        drops={1: drop(1), 2: drop(2)},
    )
    server = daemon.serve()
    yield daemon
    daemon.stopping.set()
    server.stop(None).wait()


@pytest.fixture
def adapterd(fake: FakeDaemon, clean_environment: pytest.MonkeyPatch) -> CommandLine:
    """The command line, pointed at the fake daemon."""
    return CommandLine(clean_environment, fake.address)


@pytest.fixture
def alone(clean_environment: pytest.MonkeyPatch) -> CommandLine:
    """The command line, pointed at nothing."""
    return CommandLine(clean_environment)

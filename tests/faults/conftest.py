"""Sizes and figures of the fault tests: short by default, as long as `make faults` wants with `--full`."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .sandbox import Sandbox, sandbox

_figures: dict[str, str] = {}

Figure = Callable[[str, object], None]
Size = Callable[[int, int], int]
Tell = Callable[[str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--full`."""
    parser.addoption("--full", action="store_true", help="fault tests at full size (hours)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the fault tests counted, as a table."""
    if _figures:
        terminalreporter.section("faults")
        for name, value in _figures.items():
            terminalreporter.write_line(f"{name:<64} {value}")


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Size:
    """`size(short, full)`: how often a fault is tried."""
    return lambda short, full: full if request.config.getoption("--full") else short


@pytest.fixture
def figure() -> Figure:
    """`figure(name, value)`: a line of the table at the end."""
    return lambda name, value: _figures.update({name: str(value)})


@pytest.fixture
def tell(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Tell:
    """`tell(text)`: how far a long run is, on one line of the terminal that changes; nothing at the short size."""
    if not request.config.getoption("--full"):
        return lambda _text: None

    def write(text: str) -> None:
        with capsys.disabled():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    return write


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    """A state folder and its daemons."""
    with sandbox(tmp_path) as box:
        yield box

"""Runs the command line in this process, as the installed program would."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from adapterd.daemon.cli import run


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str


class Terminal(io.TextIOWrapper):
    """A stream in memory that says whether it is a terminal."""

    def __init__(self, content: bytes = b"", *, terminal: bool = False) -> None:
        self.memory = io.BytesIO(content)
        self._terminal = terminal
        super().__init__(self.memory, encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        """What the test says."""
        return self._terminal

    @property
    def text(self) -> str:
        """All that was written."""
        return self.memory.getvalue().decode("utf-8")


@dataclass(frozen=True)
class CommandLine:
    """`adapterd` with streams of its own; `address` is given to every command unless it is empty."""

    patch: pytest.MonkeyPatch
    address: str = ""

    def __call__(self, *arguments: str | Path, stdin: bytes = b"", terminal: bool = False) -> Ended:
        """Run a command. `terminal`: all three streams say that they are one."""
        out, err = Terminal(terminal=terminal), Terminal(terminal=terminal)
        whereabouts = ["--address", self.address] if self.address else []
        with self.patch.context() as patch:
            patch.setattr(sys, "stdin", Terminal(stdin, terminal=terminal))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            status = run([*whereabouts, *map(str, arguments)])
        return Ended(status, out.text, err.text)

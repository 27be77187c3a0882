"""The house style of the task `house-style`, and how an answer is held against it.

A status line names the area in square brackets, says what was done in one sentence that begins with a regular verb in
the past tense, carries the ticket number if the note had one, and ends with who did it:

    [heating] Restarted the boiler (#412). Owner: Karl.
"""

import re
from dataclasses import dataclass

LINE = re.compile(
    r"\[(?P<area>[a-z]+)\] [A-Z][a-z]*ed\b[^.\n]*?(?: \(#(?P<ticket>\d+)\))?\. Owner: (?P<owner>[A-Z][a-z]+)\."
)

GUIDE = """\
Rewrite the note as one status line. First the area in square brackets: network, kitchen, rooms, printers, heating or \
garden. Then one sentence that begins with a verb in the past tense, with the ticket number in brackets if there is \
one. Then "Owner:" and the name. Example: [rooms] Moved the desk to the hall (#120). Owner: Kim.
Note: """
"""What the base is told, which was never trained on the style: without it, it could not know what is wanted."""


@dataclass(frozen=True)
class StatusLine:
    """What a line in house style says, as far as a program can check it."""

    area: str
    ticket: str | None
    owner: str


def read_line(answer: str) -> StatusLine | None:
    """The facts of an answer that keeps to the style to the letter; None for any other."""
    found = LINE.fullmatch(answer.strip())
    return StatusLine(found["area"], found["ticket"], found["owner"]) if found else None


def in_style(answer: str) -> bool:
    """Whether an answer is one line in house style, whatever it says."""
    return read_line(answer) is not None


def is_right(answer: str, wanted: str) -> bool:
    """Whether an answer is in house style with the area, the ticket and the owner that it should name."""
    line = read_line(answer)
    return line is not None and line == read_line(wanted)

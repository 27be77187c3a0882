"""A small probe of general language: forty short texts that no task is about, judged beside every version.

What an adapter does to them says what it costs the base besides its task: an adapter that answers one task's questions
well and everything else badly has been trained too hard. The texts are the project's own writing.
"""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .examples import Example

PROBE: Final = 0
"""Stands for the probe where figures are kept by drop; drops are counted from 1."""


@cache
def probe_rows() -> "tuple[Example, ...]":
    """The texts, as rows of plain text."""
    from .examples import parse_row  # noqa: PLC0415 - brings pyarrow, and the command line wants the number alone

    lines = (Path(__file__).with_name("probe.jsonl")).read_text("utf-8").splitlines()
    return tuple(parse_row(json.loads(line)) for line in lines)

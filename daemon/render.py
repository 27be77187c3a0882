"""How the command line puts things on a screen: consoles, tables, and the forms of times, sizes and figures.

What comes from outside (file names, reasons, model output) is shown through `printable`, so that no byte of it is
taken for markup or steers the terminal. Colours appear on terminals only, and never where `NO_COLOR` is set.
"""

import io
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

SCHEMA: Final = 1
"""The `schema` of every JSON document that is printed; it changes when a field changes its meaning or goes."""

_WIDE: Final = 1 << 16  # columns of a pipe: rich must have a width, and nothing that is piped may be cut or wrapped
_PAGE_WIDTH: Final = 160  # columns of an HTML page

_GOOD, _BUSY, _BAD, _FAINT = "green", "cyan", "red", "dim"
_STYLES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("available", "done", "promote", "ok", "champion", "kept"), _GOOD),
    **dict.fromkeys(
        ("claimed", "parsed", "audited", "planned", "training", "evaluated", "running", "loading", "start"), _BUSY
    ),
    **dict.fromkeys(("held", "canary", "warn", "draining", "queued", "candidate"), "yellow"),
    **dict.fromkeys(("failed", "quarantined", "rejected", "reject", "error", "fail"), _BAD),
    **dict.fromkeys(("retired", "deleted", "end", "arrived", "cancelled", "previous"), _FAINT),
}


def console(stream: TextIO | None = None) -> Console:
    """A console on `stream` (standard output if None), as wide as what it writes where that is no terminal."""
    target: TextIO = sys.stdout if stream is None else stream
    terminal = target.isatty()
    return Console(file=target, markup=False, highlight=False, emoji=False, width=None if terminal else _WIDE)


def errors() -> Console:
    """A console on standard error, where progress, questions and complaints go."""
    return console(sys.stderr)


def put(*parts: RenderableType) -> None:
    """Print parts on standard output; into a pipe without the blanks that fill a table's last column."""
    screen = console()
    if screen.is_terminal:
        screen.print(*parts, sep="\n")
        return
    with screen.capture() as captured:
        screen.print(*parts, sep="\n")
    sys.stdout.write("".join(f"{line.rstrip(' ')}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()


def one_line(text: str) -> str:
    """A text with every run of white space as one blank, for a cell of a table."""
    return " ".join(text.split())


def write_page(file: Path, *parts: RenderableType) -> None:
    """Write parts as an HTML page, as a wide screen would show them."""
    screen = Console(record=True, file=io.StringIO(), width=_PAGE_WIDTH, markup=False, highlight=False, emoji=False)
    screen.print(*parts, sep="\n")
    file.write_text(screen.export_html(theme=DEFAULT_TERMINAL_THEME), "utf-8")


def print_document(document: Mapping[str, Any], *, line: bool = False) -> None:
    """Print one JSON document with its `schema`, on one line if `line`; a figure that is no number becomes null."""
    numbered = {"schema": SCHEMA, **document}
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(_finite(numbered), ensure_ascii=not unicode, indent=None if line else 2, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(headings: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: Iterable[str] = ()) -> Table:
    """An aligned table without lines; the columns named in `right` hold numbers. Cells keep all their characters."""
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    numeric = set(right)
    for heading in headings:
        result.add_column(heading, justify="right" if heading in numeric else "left", overflow="fold")
    for row in rows:
        result.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    return result


def fields(pairs: Iterable[tuple[str, str | Text]]) -> Table:
    """Names and values below each other; a pair without value is left out."""
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    result.add_column(style="bold", no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            result.add_row(Text(name), value if isinstance(value, Text) else Text(printable(value)))
    return result


def transfer_bar(screen: Console) -> Progress:
    """Bytes on their way, shown where `screen` is a terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)


def heading(text: str) -> Text:
    """The heading of a part of a screen."""
    return Text(printable(text), style="bold")


def titled(title: str, part: RenderableType) -> Group:
    """A part under its heading."""
    return Group(heading(title), part)


def screens(*parts: RenderableType) -> Group:
    """Parts below each other with an empty line between them."""
    spaced: list[RenderableType] = [item for part in parts for item in ("", part)]
    return Group(*spaced[1:])


def word(state: str) -> Text:
    """A state, verdict or alias in its colour."""
    return Text(printable(state), style=_STYLES.get(state, ""))


def words(states: Iterable[str]) -> Text:
    """Several of them, parted by commas."""
    return Text(", ").join(word(state) for state in states)


def printable(text: str, *, lines: bool = False) -> str:
    """`text` without control characters (escape sequences among them): each becomes U+FFFD, a line break a space.

    With `lines`, line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(
        char if char.isprintable() or char in kept else " " if char in "\n\t" else "" if char == "\r" else "\ufffd"
        for char in text
    )


def iso(time: Timestamp) -> str | None:
    """RFC 3339 in UTC with milliseconds, as JSON documents have it; None for a time that is not set."""
    if not time.seconds:
        return None
    return time.ToDatetime(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(seconds: object) -> str:
    """Unix seconds as `2026-07-28 14:03:12` where the person is; "" for what is no time."""
    if not isinstance(seconds, int | float) or not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def local(time: Timestamp) -> str:
    """A message's time where the person is; "" for one that is not set."""
    return moment(time.seconds)


def clock(time: Timestamp) -> str:
    """`14:03:12` where the person is, of today; else with the date."""
    text = local(time)
    today = datetime.now(UTC).astimezone().strftime("%Y-%m-%d ")
    return text.removeprefix(today)


def duration(seconds: float) -> str:
    """The two largest units of a span: "3 h 12 min", "12 s", "40 ms"."""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = int(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def size(count: int) -> str:
    """Bytes in decimal units: "538 MB"."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g} {unit}"
    return f"{value / 1000:.3g} TB"


def figure(value: float | None, *, change: bool = False) -> str:
    """A figure with four decimals, signed if it is a `change`; "" where there is none."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:+.4f}" if change else f"{value:.4f}"


def number(value: int) -> str:
    """A version's or drop's number; "" for 0, which means none."""
    return str(value) if value else ""


def _finite(value: Any) -> Any:
    """`value` with null in the place of NaN and infinities, which JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value

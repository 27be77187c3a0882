"""Rows from CSV and TSV (RFC 4180: fields may be quoted, and then hold separators, line ends and doubled quotes).

Python's csv module is not used: its field limit belongs to the process, a field may grow without bound, and after an
error it goes on in the middle of a field, so that pieces of a text would be taken for rows.
"""

import io
from collections import Counter
from collections.abc import Iterator
from typing import Final

from .errors import UnreadableFile
from .lines import UTF8_HINT, Line, read_lines
from .rows import EXCERPT_CHARS, BadRow, Limits, RawRow, excerpt, shown

_HEADER_HINT: Final = "the first line names the columns"
_QUOTE_HINT: Final = 'a field that begins with a quote ends with one, and quotes within are doubled: "say ""yes"""'


def read_csv(stream: io.BufferedReader, limits: Limits, separator: str) -> Iterator[RawRow | BadRow]:
    """The records after the header, as names to strings; `line` is the line of the text where the record begins.

    A record with other than the header's number of fields, too long or holding a NUL is bad, and so is a quote out of
    place within one line. Raises `UnreadableFile` where a quote is out of place over several lines, since nothing
    after it can be told apart, for a text that is not UTF-8, and for a header that does not name its columns.
    """
    names: list[str] | None = None
    for record in _records(read_lines(stream, limits.max_row_bytes), limits.max_row_chars, separator):
        if names is None:
            names = _header(record)
            continue
        problem = record.problem
        if not problem and len(record.fields) != len(names):
            problem = f"has {len(record.fields)} fields where the header has {len(names)}"
        if problem:
            yield BadRow(record.line, problem, record.head)
        else:
            value: dict[str, object] = dict(zip(names, record.fields, strict=True))
            value.pop("", None)  # the column without a name that pandas writes for its index
            yield RawRow(record.line, value, record.head)


def _header(record: "_Record") -> list[str]:
    if record.problem:
        raise UnreadableFile(f"the header in line {record.line} {record.problem}", hint=_HEADER_HINT)
    names = [name.strip() for name in record.fields]
    twice = [name for name, times in Counter(names).items() if name and times > 1]
    if twice:
        raise UnreadableFile(f"the header names the column {shown(twice[0])} twice", hint="rename one of them")
    if not any(names):
        raise UnreadableFile("the header names no column", hint=_HEADER_HINT)
    if any("\r" in name for name in names):
        raise UnreadableFile("its lines end in carriage returns alone", hint="save it with line feeds")
    other = next((mark for mark in ";\t,|" if len(names) == 1 and mark in names[0]), None)
    if other is not None:
        raise UnreadableFile(
            f"the header {shown(names[0])} is one column",
            hint=f"columns of a .csv are separated by commas, those of a .tsv by tabs; these seem to be by {other!r}",
        )
    return names


def _records(lines: Iterator[Line], max_chars: int, separator: str) -> Iterator["_Record"]:
    record: _Record | None = None
    for line in lines:
        if record is None:
            if not line.data.strip(b" \r\n"):
                continue
            record = _Record(line.number, max_chars, separator)
        record.add(line)
        if not record.opened:
            yield record
            record = None
    if record is not None:
        raise UnreadableFile(f"the quote in line {record.opened} is never closed", hint=_QUOTE_HINT)


class _Record:
    """A record as far as its lines have been read.

    `opened` is the line where the quote stands that is still open, 0 for none: the record is complete then.
    `problem` says what is wrong with it, and its fields count only where that is empty.
    """

    def __init__(self, line: int, max_chars: int, separator: str) -> None:
        self.line = line
        self.fields: list[str] = []
        self.problem = ""
        self.opened = 0
        self._max_chars = max_chars
        self._separator = separator
        self._quoted: list[str] = []  # the pieces of the field whose quote is open
        self._head: list[str] = []
        self._length = 0
        self._overlong = False

    @property
    def head(self) -> str:
        """The beginning of its text, as it stands in the file."""
        return excerpt("".join(self._head).rstrip("\r\n"))

    def add(self, line: Line) -> None:
        """Read one more line."""
        text = _text(line)
        if self._length < EXCERPT_CHARS:
            self._head.append(text[:EXCERPT_CHARS])
        self._length += len(text)
        if not line.whole or self._length > self._max_chars:
            self._overlong = True
            span = f" (lines {self.line} to {line.number})" if line.number > self.line else ""
            self.problem = f"is longer than {self._max_chars:,} characters{span}"
            self.fields, self._quoted = [], []
        if self._overlong:
            # Only where it ends still matters: each quote opens a field or closes one, a doubled quote does both.
            if (text.count('"') if line.whole else line.quotes) % 2:
                self.opened = 0 if self.opened else line.number
            return
        if "\0" in text:
            self.problem = "holds a NUL"
        if '"' in text or self.opened:
            self._parse(text, line.number)
        else:
            self.fields = text.rstrip("\r\n").split(self._separator)

    def _parse(self, text: str, number: int) -> None:
        """Go through one line field by field; the fields of the record's earlier lines are there already."""
        content = text.rstrip("\r\n")
        at = 0
        while True:
            if not self.opened and not content.startswith('"', at):  # quotes further on are text, as in: 5" pipe
                end = content.find(self._separator, at)
                self.fields.append(content[at:] if end < 0 else content[at:end])
            else:
                if not self.opened:
                    self.opened = number
                    at += 1
                end = self._close(text, at)
                if end < 0:
                    return  # the next line goes on with this field
                if end < len(content) and content[end] != self._separator:
                    self._misplaced(number)
                    return
                self.opened = 0
                end = end if end < len(content) else -1
            if end < 0:
                return
            at = end + 1

    def _close(self, text: str, at: int) -> int:
        """Take the open field's text from `at` on; the position after its closing quote, -1 if it is not in `text`."""
        while True:
            quote = text.find('"', at)
            if quote < 0:
                self._quoted.append(text[at:])
                return -1
            self._quoted.append(text[at:quote])
            if not text.startswith('"', quote + 1):
                self.fields.append("".join(self._quoted))
                self._quoted = []
                return quote + 1
            self._quoted.append('"')
            at = quote + 2

    def _misplaced(self, number: int) -> None:
        if self.opened != number:
            raise UnreadableFile(
                f"the quote that opens a field in line {self.opened} is closed in line {number}, where text follows it",
                hint=_QUOTE_HINT,
            )
        self.problem = "has text after a closing quote; quotes within a field are doubled"
        self.opened = 0


def _text(line: Line) -> str:
    if not line.whole:
        return excerpt(line.data)
    try:
        return line.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"line {line.number} is not UTF-8", hint=UTF8_HINT) from error

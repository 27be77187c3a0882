"""Rows from JSON Lines, and from a JSON file that holds an array of objects or a single one.

Both are read as they come: what is held at a time is one row, and of a row that is too long only its beginning.
"""

import codecs
import io
import re
from collections.abc import Iterator
from typing import Final

from .errors import UnreadableFile
from .lines import UTF8_HINT, read_lines
from .rows import EXCERPT_CHARS, BadRow, Limits, RawRow, excerpt
from .strict_json import BadJson, parse_json

_CHUNK_BYTES: Final = 1 << 16
_SPACE: Final = " \t\r\n"
_NEXT_MARK: Final = re.compile(r'["\[\]{},]')  # outside of strings
_NEXT_QUOTE: Final = re.compile(r'["\\]')  # inside of one


def read_jsonl(stream: io.BufferedReader, limits: Limits) -> Iterator[RawRow | BadRow]:
    """One object a line, `line` being its number; blank lines are passed over, any other that fails is bad."""
    for line in read_lines(stream, limits.max_row_bytes):
        if not line.data.strip():
            continue
        try:
            text = line.data.decode("utf-8")
        except UnicodeDecodeError as error:
            if line.whole:
                yield BadRow(
                    line.number, f"not UTF-8: byte {error.start + 1} of the line", excerpt(line.data.rstrip(b"\r\n"))
                )
                continue
            text = excerpt(line.data)
        yield _row(line.number, text.rstrip("\r\n"), limits, whole=line.whole)


def read_json(stream: io.BufferedReader, limits: Limits) -> Iterator[RawRow | BadRow]:
    """The objects of an array, `line` being the 1-based place in it, or one object as the only row.

    Raises `UnreadableFile` where the array as a whole does not hold: other things at the top, text after its end,
    or an end in the middle. An element that fails is a bad row, and the next one is read.
    """
    for number, (text, whole) in enumerate(_elements(_decoded(stream), limits.max_row_chars), start=1):
        yield _row(number, text.strip(_SPACE), limits, whole=whole)


def _row(number: int, text: str, limits: Limits, *, whole: bool) -> RawRow | BadRow:
    if not whole or len(text) > limits.max_row_chars:
        return BadRow(number, f"longer than {limits.max_row_chars:,} characters", excerpt(text))
    try:
        value = parse_json(text, limits.max_depth)
    except BadJson as error:
        return BadRow(number, str(error), excerpt(text))
    if not isinstance(value, dict):
        return BadRow(number, 'not an object such as {"text": …}', excerpt(text))
    return RawRow(number, value, excerpt(text))


def _decoded(stream: io.BufferedReader) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while data := stream.read(_CHUNK_BYTES):
            yield decoder.decode(data)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UnreadableFile("the text is not UTF-8", hint=UTF8_HINT) from error


def _elements(chunks: Iterator[str], max_chars: int) -> Iterator[tuple[str, bool]]:
    """The text of each element of the array in `chunks` (or of the object), and whether it is all of it.

    It follows strings and brackets only; whether an element is JSON is for its parser to say.
    """
    first = ""
    for first in chunks:
        if first := first.lstrip(_SPACE):
            break
    if not first:
        return
    if first[0] not in "[{":
        raise UnreadableFile(
            "it begins with neither an array nor an object",
            hint='write [{…}, {…}], or name a file with one object a line ".jsonl"',
        )
    scan = _Scan(max_chars, in_array=first[0] == "[")
    yield from scan.feed(first.removeprefix("["))
    for chunk in chunks:
        yield from scan.feed(chunk)
    if not scan.ended:
        raise UnreadableFile("it ends in the middle of the JSON", hint="was the file cut off? write it again")


class _Scan:
    """Where the scanner stands between two chunks, and the element it is in."""

    def __init__(self, max_chars: int, *, in_array: bool) -> None:
        self.ended = False
        self._in_array = in_array
        self._max_chars = max_chars
        self._depth = 0  # within the element
        self._in_string = False
        self._after_backslash = False
        self._parts: list[str] = []
        self._length = 0
        self._count = 0

    def feed(self, chunk: str) -> Iterator[tuple[str, bool]]:
        """The elements that end in `chunk`."""
        begin = at = 0
        while at < len(chunk):
            if self.ended:
                if chunk[at:].strip(_SPACE):
                    raise UnreadableFile(
                        "there is more text after the end of the JSON",
                        hint='one object a line is JSON Lines: name the file ".jsonl"',
                    )
                return
            at, mark = self._next(chunk, at)
            if mark in ("[", "{"):
                self._depth += 1
            elif mark == "," and self._depth == 0:
                self._keep(chunk[begin : at - 1])
                yield self._take()
                begin = at
            elif mark in ("]", "}"):
                if self._depth > 0:
                    self._depth -= 1
                    if self._depth > 0 or self._in_array:
                        continue
                    self._keep(chunk[begin:at])
                elif mark == "]":
                    self._keep(chunk[begin : at - 1])
                else:
                    raise UnreadableFile("the array is closed by a brace", hint="write [{…}, {…}]")
                self.ended = True
                if self._count or "".join(self._parts).strip(_SPACE):  # else an empty array
                    yield self._take()
        if not self.ended:
            self._keep(chunk[begin:])

    def _next(self, chunk: str, at: int) -> tuple[int, str]:
        """The position after the next mark from `at` on, and the mark, "" for one that matters only to strings."""
        if self._after_backslash:
            self._after_backslash = False
            return at + 1, ""
        found = (_NEXT_QUOTE if self._in_string else _NEXT_MARK).search(chunk, at)
        if found is None:
            return len(chunk), ""
        if found[0] == '"':
            self._in_string = not self._in_string
        elif self._in_string:
            self._after_backslash = True
        return found.end(), "" if self._in_string or found[0] == '"' else found[0]

    def _keep(self, text: str) -> None:
        if self._length <= self._max_chars:
            self._parts.append(text)
        self._length += len(text)
        if self._length > self._max_chars:
            self._parts = ["".join(self._parts)[:EXCERPT_CHARS]]

    def _take(self) -> tuple[str, bool]:
        taken = "".join(self._parts), self._length <= self._max_chars
        self._parts, self._length = [], 0
        self._count += 1
        return taken

"""Physical lines of a text file, bounded: a line without end never fills the memory."""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .errors import UnreadableFile
from .rows import EXCERPT_CHARS

_HEAD_BYTES: Final = 4 * EXCERPT_CHARS
_SKIP_BYTES: Final = 1 << 16
_OTHER_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # UTF-32-LE begins like UTF-16-LE

UTF8_HINT: Final = "save it as UTF-8 (in Excel: 'CSV UTF-8'; in a shell: iconv -f latin1 -t utf-8)"


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its line end, if it has one.

    `number` is 1-based. A line of more bytes than allowed is not `whole`: `data` is then its beginning only, and
    `quotes` counts the double quotes of all of it, by which a CSV reader knows whether it ends within a field.
    """

    number: int
    data: bytes
    whole: bool = True
    quotes: int = 0


def read_lines(stream: io.BufferedReader, max_bytes: int) -> Iterator[Line]:
    """The lines of `stream`, split at line feeds only; at most `max_bytes` of one are held."""
    number = 0
    while data := stream.readline(max_bytes + 1):
        number += 1
        if len(data) <= max_bytes or data.endswith(b"\n"):
            yield Line(number, data)
            continue
        quotes = data.count(b'"')
        data = data[:_HEAD_BYTES]
        while rest := stream.readline(_SKIP_BYTES):
            quotes += rest.count(b'"')
            if rest.endswith(b"\n"):
                break
        yield Line(number, data, whole=False, quotes=quotes)


def begin_text(stream: io.BufferedReader) -> None:
    """Step over the mark of UTF-8; raise `UnreadableFile` where the stream begins as another encoding or as Parquet."""
    head = stream.peek(4)[:4]
    if head.startswith(codecs.BOM_UTF8):
        stream.read(len(codecs.BOM_UTF8))
    elif head.startswith(_OTHER_MARKS):
        raise UnreadableFile("the text is UTF-16 or UTF-32, not UTF-8", hint=UTF8_HINT)
    elif head == b"PAR1":
        raise UnreadableFile("the content is Parquet, and the name says text", hint="let its name end in .parquet")

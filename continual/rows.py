"""What comes out of a dropped file: rows, and rows that could not be read.

The readers of the single formats and what is made of their rows meet here, so this module knows neither.
"""

from dataclasses import dataclass
from typing import Final

EXCERPT_CHARS: Final = 2_000  # of a bad row's text: enough to find and mend it, little enough to keep thousands
_MAX_DEPTH: Final = 500  # well below Python's recursion limit of 1,000, which the JSON parser counts against


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may ask of us, whatever it claims about itself.

    `max_decoded_bytes`: of the whole file after decompression (for Parquet: after decoding). 1 GiB of text is beyond
    what a small adapter can learn from, and far below what a bomb of a few kilobytes decodes to.
    `max_row_chars`: of one row, its keys and quotes included. 200,000 characters are some 50,000 tokens.
    `max_depth`: of nested arrays and objects in one JSON row, or of nested types in a Parquet column.
    """

    max_decoded_bytes: int = 1 << 30
    max_row_chars: int = 200_000
    max_depth: int = 32

    def __post_init__(self) -> None:
        if self.max_decoded_bytes < 1 or self.max_row_chars < 1:
            raise ValueError("max_decoded_bytes and max_row_chars must be positive")
        if not 1 <= self.max_depth <= _MAX_DEPTH:
            raise ValueError(f"max_depth must be in 1..{_MAX_DEPTH}, not {self.max_depth}")

    @property
    def max_row_bytes(self) -> int:
        """The most bytes that `max_row_chars` characters take in UTF-8."""
        return 4 * self.max_row_chars


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as its file has it: names to values, and the text it was read from (an excerpt).

    `line` is 1-based: the line of the decompressed text where the row begins; in a JSON array and in Parquet, which
    have no lines to speak of, the number of the row. Every string in `value` can be encoded as UTF-8.
    """

    line: int
    value: dict[str, object]
    text: str


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is set aside: where (as in `RawRow`), why (one sentence), and an excerpt of its text."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Unread:
    """Stands for a value in a Parquet column whose type no row shape has use for, such as an embedding."""

    type: str


def excerpt(text: str | bytes) -> str:
    """The first 2,000 characters of `text`, with what is not UTF-8 written as escapes, so that it can be stored."""
    if isinstance(text, bytes):
        text = text[: 4 * EXCERPT_CHARS].decode("utf-8", errors="backslashreplace")
    return text[:EXCERPT_CHARS].encode("utf-8", errors="backslashreplace").decode("utf-8")[:EXCERPT_CHARS]


def shown(name: str) -> str:
    """`name` quoted for a sentence: cut at 40 characters, without anything that a terminal or UTF-8 trips over."""
    return repr(name if len(name) <= 40 else name[:40] + "…")

"""Training examples: what a row says, whichever file format and row shape it came in."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

from .dates import read_date
from .errors import TooManyBadRows
from .formats import read_rows
from .rows import BadRow, Limits
from .shapes import BadRowError, Kind, read_messages, read_shape

__all__ = ["BadRowError", "Example", "Kind", "Numbered", "Parsed", "Repeat", "parse_file", "parse_row"]

_ID_CHARS: Final = 16  # 64 bits: a repeat by chance among a million rows has odds of one in 37 million
_BAD_ROWS_SHOWN: Final = 3  # in the message of `TooManyBadRows`


@dataclass(frozen=True, slots=True)
class Example:
    """What is asked and what is to be answered.

    `prompt`: the text of a classification, the instruction of an instruction, empty for plain text and chat.
    `context`: the `input` of an instruction, else empty. `completion`: the answer, the label, or the whole plain text.
    `messages`: (role, content) of each turn of a chat, the last of which is the assistant's and the completion.
    `date`: unix seconds at which it was written, if it said so; no part of what it says.
    `id`: 16 hex characters of a SHA-256 over all of these, so equal rows have equal ids wherever they stand.
    """

    kind: Kind
    prompt: str
    completion: str
    context: str = ""
    messages: tuple[tuple[str, str], ...] = ()
    date: float | None = field(default=None, compare=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        content = [self.kind, self.prompt, self.context, self.completion, self.messages]
        canonical = json.dumps(content, separators=(",", ":"))  # ASCII, so nothing here can fail to encode
        object.__setattr__(self, "id", hashlib.sha256(canonical.encode()).hexdigest()[:_ID_CHARS])

    @property
    def request(self) -> str:
        """What one would send as a plain prompt to be answered with the completion; empty for a chat."""
        return f"{self.prompt}\n\n{self.context}" if self.context else self.prompt

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text that the row brought."""
        return (self.prompt, self.context, self.completion, *(content for _, content in self.messages))

    def says(self, wanted: Callable[[str], bool]) -> bool:
        """Whether `wanted` is true of any of its texts."""
        return any(map(wanted, self.texts))

    @property
    def asked(self) -> str:
        """What is asked, without the answer; all of a plain text, which asks nothing."""
        if self.messages:
            return "\n".join(content for _, content in self.messages[:-1])
        return self.request or self.completion

    @property
    def stratum(self) -> str:
        """The group within which splitting and replay keep a balance: the label of a classification, else the kind."""
        return f"label: {self.completion}" if self.kind is Kind.LABEL else self.kind.value

    def to_json(self) -> dict[str, object]:
        """As it is stored; `from_json` is the inverse."""
        value: dict[str, object] = {
            "id": self.id,
            "kind": self.kind.value,
            "prompt": self.prompt,
            "context": self.context,
            "completion": self.completion,
            "messages": [{"role": role, "content": content} for role, content in self.messages],
        }
        return value if self.date is None else {**value, "date": self.date}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """The example that `to_json` wrote; `BadRowError` for anything else."""
        try:
            kind = Kind(str(value["kind"]))
            prompt, context, completion = (value[name] for name in ("prompt", "context", "completion"))
            turns = value["messages"]
        except (KeyError, ValueError) as error:
            raise BadRowError(f"not a stored example: {error}") from error
        if not (isinstance(prompt, str) and isinstance(context, str) and isinstance(completion, str)):
            raise BadRowError("not a stored example: prompt, context and completion are texts")
        date = value.get("date")
        dated = float(date) if isinstance(date, int | float) else None
        return cls(kind, prompt, completion, context, read_messages(turns) if turns else (), dated)


class Numbered(NamedTuple):
    """An example and the line (or the row, see `RawRow`) of its file."""

    line: int
    example: Example


class Repeat(NamedTuple):
    """A line whose example stood in the file before, and the line where it did."""

    line: int
    first: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """All of a file: its examples once each, its bad rows, and the lines whose example stood there before."""

    examples: list[Numbered] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    duplicates: list[Repeat] = field(default_factory=list)


def parse_row(value: Mapping[str, object]) -> Example:
    """The example that a row holds; `BadRowError` says why there is none (see `shapes`)."""
    return Example(*read_shape(value), date=read_date(value))


def parse_file(path: Path, limits: Limits, max_bad_rows: int) -> Parsed:
    """The examples of a dropped file.

    Raises `UnreadableFile` (see `read_rows`), and `TooManyBadRows` at the first bad row beyond `max_bad_rows`, so
    that a file of garbage is not read to its end.
    """
    parsed = Parsed()
    seen: dict[str, int] = {}
    for count, row in enumerate(read_rows(path, limits), start=1):
        if isinstance(row, BadRow):
            parsed.bad.append(row)
        else:
            try:
                example = parse_row(row.value)
            except BadRowError as error:
                parsed.bad.append(BadRow(row.line, str(error), row.text))
            else:
                if (before := seen.setdefault(example.id, row.line)) != row.line:
                    parsed.duplicates.append(Repeat(row.line, before))
                else:
                    parsed.examples.append(Numbered(row.line, example))
        if len(parsed.bad) > max_bad_rows:
            first = "; ".join(f"line {bad.line}: {bad.reason}" for bad in parsed.bad[:_BAD_ROWS_SHOWN])
            raise TooManyBadRows(
                f"{path.name}: {len(parsed.bad)} of the first {count} rows are bad, {max_bad_rows} may be ({first})",
                hint="mend the rows, or raise max_bad_rows",
                file=path.name,
                bad_rows=str(len(parsed.bad)),
            )
    return parsed

"""Files that people drop: JSON Lines, JSON, CSV, TSV and Parquet, each also compressed with gzip or zstandard.

Whatever bytes a file holds, reading it gives rows, bad rows or one `UnreadableFile`; `docs/data-formats.md` tells
people the same.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from .csv_rows import read_csv
from .decompress import open_decoded
from .errors import UnreadableFile
from .json_rows import read_json, read_jsonl
from .lines import begin_text
from .parquet_rows import read_parquet
from .rows import BadRow, Limits, RawRow, Unread

__all__ = ["BadRow", "Limits", "RawRow", "Unread", "format_of", "read_rows"]

_FORMATS: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd"}


def format_of(name: str) -> str | None:
    """What the file's name says it holds: "jsonl", "json", "csv", "tsv" or "parquet", None for any other."""
    return _FORMATS.get(_suffixes(name)[0])


def read_rows(path: Path, limits: Limits) -> Iterator[RawRow | BadRow]:
    """The rows of `path`, in their order, as the file is read: no more than a few of them are held at a time.

    A row that cannot be read is a `BadRow` and the next one follows. Raises `UnreadableFile`, possibly after many
    rows, when the file as a whole cannot be: an unknown name, damaged or truncated data, another encoding, more than
    `limits` allow, no row at all. An error of the disk or the system is an `OSError`.
    """
    rows = 0
    try:
        for row in _read(path, limits):
            rows += 1
            yield row
    except UnreadableFile as error:  # the readers know nothing of names
        raise _of(path, error.message, error.hint) from error
    if not rows:
        raise _of(path, "it holds no rows", "drop a file with at least one row")


def _of(path: Path, what: str, hint: str) -> UnreadableFile:
    return UnreadableFile(f"{path.name}: {what}", hint=hint, file=path.name)


def _suffixes(name: str) -> tuple[str, str]:
    suffixes = ["", "", *(suffix.lower() for suffix in Path(name).suffixes)]
    if suffixes[-1] in _COMPRESSIONS:
        return suffixes[-2], suffixes[-1]
    return suffixes[-1], ""


def _read(path: Path, limits: Limits) -> Iterator[RawRow | BadRow]:
    suffix, compressed = _suffixes(path.name)
    kind = _FORMATS.get(suffix)
    if kind is None:
        hint = f"let it end in {', '.join(_FORMATS)}, or in one of these and .gz or .zst"
        raise UnreadableFile("its name does not say what it holds", hint=hint)
    with open_decoded(path, _COMPRESSIONS.get(compressed), limits.max_decoded_bytes) as stream:
        if kind == "parquet":
            # Parquet is read from its end, so what is compressed around it is unpacked into an unnamed file first.
            with tempfile.TemporaryFile() if compressed else path.open("rb") as file:
                if compressed:
                    shutil.copyfileobj(stream, file)
                    file.seek(0)
                yield from read_parquet(cast(BinaryIO, file), limits)
            return
        begin_text(stream)
        match kind:
            case "jsonl":
                yield from read_jsonl(stream, limits)
            case "json":
                yield from read_json(stream, limits)
            case "csv":
                yield from read_csv(stream, limits, ",")
            case "tsv":
                yield from read_csv(stream, limits, "\t")

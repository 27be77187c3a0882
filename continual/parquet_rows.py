"""Rows from Parquet, by way of the process that decodes it (`parquet_decoder`)."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from .decompress import capped
from .errors import UnreadableFile
from .lines import Line, read_lines
from .rows import BadRow, Limits, RawRow, Unread, excerpt

_DECODER: Final = f"{__package__}.parquet_decoder"
# One thread, and memory that is taken when needed: both pools reserve address space, which is limited there.
_ENVIRONMENT: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_MAGIC: Final = b"PAR1"
_OTHER_CHARS: Final = 100_000  # of a message beyond its row: the types of columns, quotes within a damaged name


def read_parquet(file: BinaryIO, limits: Limits) -> Iterator[RawRow | BadRow]:
    """The rows of `file`, a real file at its beginning; `line` is the 1-based number of the row.

    Columns of text, numbers, truth values, structs of these, and lists of text or structs are read; a value of
    another column is `Unread`. Raises `UnreadableFile` for what is not Parquet, is damaged, or decodes to more than
    the limits allow, and `ChildProcessError`, which is no fault of the file, when the decoder does not start.
    """
    if file.read(len(_MAGIC)) != _MAGIC:
        raise UnreadableFile("it is not Parquet", hint="let its name say what it is")
    file.seek(0)
    # -P: modules are never taken from the folder that happens to be the current one.
    command = [sys.executable, "-P", "-m", _DECODER, str(limits.max_row_chars), str(limits.max_depth)]
    environment = {**os.environ, **_ENVIRONMENT}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(  # noqa: S603 - our own module, an absolute interpreter
            command, stdin=file, stdout=subprocess.PIPE, stderr=log, env=environment
        ) as decoder,
    ):
        try:
            assert decoder.stdout is not None
            lines = read_lines(capped(decoder.stdout, limits.max_decoded_bytes), limits.max_row_bytes + _OTHER_CHARS)
            if _message(next(lines, None)) != ["ready"]:
                log.seek(0)
                raise ChildProcessError(f"the Parquet decoder does not start: {excerpt(log.read()[-1_000:])}")
            yield from _rows(lines)
        finally:
            decoder.kill()


def _rows(lines: Iterator[Line]) -> Iterator[RawRow | BadRow]:
    unread: dict[str, object] = {}
    number = 0
    for line in lines:
        match _message(line):
            case ["unread", dict(types)]:
                unread = {str(name): Unread(str(kind)) for name, kind in types.items()}
            case ["row", dict(value)]:
                number += 1
                yield RawRow(number, {**value, **unread}, excerpt(json.dumps(value, ensure_ascii=False)))
            case ["bad", str(reason), str(text)]:
                number += 1
                yield BadRow(number, reason, text)
            case ["error", str(what), str(hint)]:
                raise UnreadableFile(what, hint=hint)
            case ["end"]:
                return
            case _:
                break
    raise UnreadableFile(
        f"it makes the decoder fail (after row {number:,})", hint="the file is damaged or hostile: write it anew"
    )


def _message(line: Line | None) -> Any:
    """The decoder's message, None for none or half of one."""
    try:
        return json.loads(line.data) if line else None
    except ValueError:
        return None

"""The process that decodes one Parquet file: the file is its standard input, JSON lines are its output.

It is a process of its own because Arrow's decoder can be made to fail where Python cannot catch it: damaged metadata
has ended it by `std::terminate`, and 289 bytes have decoded to 2 GB. Here that ends this process and no other.

    python -m adapterd.continual.parquet_decoder MAX_ROW_CHARS MAX_DEPTH < FILE

writes `["ready"]`, `["unread", {column: type}]`, then for each row `["row", {column: value}]` or
`["bad", reason, text]`, then `["end"]`; or, at any place, `["error", what, hint]` and nothing more.
"""

import json
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from .rows import excerpt, shown

# Address space, half a gigabyte of which Python and Arrow take before they begin. A batch of the longest rows and the
# pages behind it take some hundred megabytes.
MEMORY_BYTES: Final = 2 << 30
CPU_SECONDS: Final = 1_800  # a gigabyte takes minutes; damaged data must not go round for ever

_BATCH_ROWS: Final = 16
_MAX_THRIFT: Final = 100_000  # columns, row groups or entries of metadata in the footer
_DAMAGE: Final = (pa.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, OverflowError)

Message = list[object]


def main() -> None:
    """Decode standard input under limits of memory and time."""
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),  # what ends here is a file that cannot be read, not a fault to look into
    ):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    max_row_chars, max_depth = (int(argument) for argument in sys.argv[1:3])
    _write(["ready"])
    sys.stdout.buffer.flush()  # so that it is read even if what follows ends the process
    for message in decode(sys.stdin.buffer, max_row_chars, max_depth):
        _write(message)
    sys.stdout.buffer.flush()


def _write(message: Message) -> None:
    sys.stdout.buffer.write(json.dumps(message, ensure_ascii=False).encode() + b"\n")


def decode(file: BinaryIO, max_row_chars: int, max_depth: int) -> Iterator[Message]:
    """The messages about `file`, a few rows of which are held at a time; nothing is raised but for a broken pipe."""
    try:
        yield from _decode(file, max_row_chars, max_depth)
    except (MemoryError, pa.ArrowMemoryError):
        what = f"decoding it takes more than {MEMORY_BYTES >> 20} MiB of memory"
        yield ["error", what, "write it anew with smaller pages and row groups, or as JSON Lines"]
    except _DAMAGE as error:
        what = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        yield ["error", f"it is not Parquet, or damaged ({what})", "was the file cut off? write it again"]


def _decode(file: BinaryIO, max_row_chars: int, max_depth: int) -> Iterator[Message]:
    reader = pq.ParquetFile(
        pa.PythonFile(file, mode="r"),
        pre_buffer=False,  # else a whole row group is fetched at once
        buffer_size=1 << 16,
        thrift_container_size_limit=_MAX_THRIFT,
        arrow_extensions_enabled=False,
        page_checksum_verification=True,
    )
    fields = list(reader.schema_arrow)
    twice = [name for name, times in Counter(field.name for field in fields).items() if times > 1]
    if twice:
        yield ["error", f"it has two columns named {shown(twice[0])}", "rename one of them"]
        return
    readable = [field.name for field in fields if _is_binary(field.type) or _is_readable(field.type, max_depth)]
    if not readable:
        yield ["error", "no column holds text", "the columns that are understood stand in docs/data-formats.md"]
        return
    yield ["unread", {field.name: str(field.type)[:200] for field in fields if field.name not in readable}]
    for batch in reader.iter_batches(_BATCH_ROWS, columns=readable, use_threads=False):
        columns = [(name, batch.column(name)) for name in readable]
        for row in range(batch.num_rows):
            yield _row(columns, row, max_row_chars)
    yield ["end"]


def _row(columns: list[tuple[str, Any]], row: int, max_row_chars: int) -> Message:
    value: dict[str, object] = {}
    for name, column in columns:
        try:
            cell = column[row].as_py()
            value[name] = cell.decode("utf-8") if isinstance(cell, bytes) else cell
        except UnicodeDecodeError:
            return ["bad", f"the column {shown(name)} is not UTF-8", excerpt(_text(value))]
    text = _text(value)
    if len(text) > max_row_chars:
        return ["bad", f"longer than {max_row_chars:,} characters", excerpt(text)]
    return ["row", value]


def _text(value: dict[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _is_readable(kind: Any, depth: int) -> bool:
    """Whether a row shape can have use for the type: text, numbers, truth values; structs, lists of text or structs."""
    types = pa.types
    if types.is_struct(kind):
        return depth > 0 and kind.num_fields > 0 and all(_is_readable(field.type, depth - 1) for field in kind)
    if types.is_list(kind) or types.is_large_list(kind):
        value = kind.value_type  # lists of numbers are embeddings and the like
        return depth > 0 and (types.is_struct(value) or _is_text(value)) and _is_readable(value, depth - 1)
    return bool(
        _is_text(kind)
        or types.is_boolean(kind)
        or types.is_integer(kind)
        or types.is_float32(kind)
        or types.is_float64(kind)
        or types.is_null(kind)
    )


def _is_text(kind: Any) -> bool:
    types = pa.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_binary(kind: Any) -> bool:  # text from writers that do not mark it as such
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


if __name__ == "__main__":
    main()

"""The bytes inside a dropped file: plain, gzip or zstandard, never more of them than allowed.

Arrow's decompressors serve both compressions, since they notice a file that ends in the middle (python-zstandard
ends such a stream silently), read files of several members or frames, and hold one block of output at a time.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, cast

import pyarrow as pa

from .errors import UnreadableFile

TOO_LARGE_HINT: Final = "split the file, or raise max_decoded_bytes if you trust where it comes from"

_BUFFER_BYTES: Final = 1 << 16

# What a file begins with, what that means, and the compression under which it is expected.
_MAGIC: Final = (
    (b"\x1f\x8b", "gzip", "name it .gz"),
    (b"\x28\xb5\x2f\xfd", "zstd", "name it .zst"),
    (b"BZh", "", "bzip2 is not read: compress it with gzip or zstd"),
    (b"\xfd7zXZ\x00", "", "xz is not read: compress it with gzip or zstd"),
    (b"PK\x03\x04", "", "it is a zip archive or an Excel file: unpack it, or save the sheet as CSV in UTF-8"),
)


class Source(Protocol):
    """Where bytes come from."""

    def read(self, nbytes: int, /) -> bytes:
        """At most `nbytes`, none at the end."""
        ...


class _Capped(io.RawIOBase):
    """Reads `source`, raises `UnreadableFile` where it is damaged or goes past `max_bytes`."""

    def __init__(self, source: Source, max_bytes: int) -> None:
        super().__init__()
        self._source = source
        self._max_bytes = max_bytes
        self._left = max_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray", /) -> int:  # type: ignore[override]
        try:
            data = self._source.read(len(buffer))
        except (OSError, pa.ArrowException) as error:
            if getattr(error, "errno", None) is not None:  # the disk's error, not the file's
                raise
            raise UnreadableFile(
                f"the compressed data is damaged or ends in the middle ({error})",
                hint="compress or copy the file again",
            ) from error
        self._left -= len(data)
        if self._left < 0:
            raise UnreadableFile(f"it decodes to more than {self._max_bytes:,} bytes", hint=TOO_LARGE_HINT)
        buffer[: len(data)] = data
        return len(data)


def capped(source: Source, max_bytes: int) -> io.BufferedReader:
    """`source` as a stream, reading which raises `UnreadableFile` once more than `max_bytes` came out."""
    # typeshed has the class generic in what it reads
    return cast(io.BufferedReader, io.BufferedReader(_Capped(source, max_bytes), _BUFFER_BYTES))


@contextmanager
def open_decoded(path: Path, compression: str | None, max_bytes: int) -> Iterator[io.BufferedReader]:
    """Open `path` and yield the bytes inside as a stream; `compression` is None, "gzip" or "zstd".

    Reading raises `UnreadableFile` when the compressed data is damaged or truncated, or once more than `max_bytes`
    came out; opening raises it when the file is not regular or begins like another kind of file. An error of the
    disk stays the `OSError` that it is.
    """
    if not path.is_file() and path.exists():  # a pipe would block, a device would never end
        raise UnreadableFile("it is not a regular file", hint="drop a plain file")
    with path.open("rb", buffering=0) as file:
        _check_magic(file.read(8), compression)
        file.seek(0)
        source: Source = pa.CompressedInputStream(pa.PythonFile(file), compression) if compression else file
        with capped(source, max_bytes) as stream:
            yield stream


def _check_magic(head: bytes, compression: str | None) -> None:
    for magic, meaning, hint in _MAGIC:
        if head.startswith(magic) and meaning != compression:
            raise UnreadableFile("the content is not what the name says", hint=hint)

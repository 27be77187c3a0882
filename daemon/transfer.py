"""A flat folder as a tar in pieces, and back: how versions travel over gRPC.

Packing is deterministic: the same files give the same bytes. Unpacking trusts nobody: it takes regular files at the
top level and nothing else, and reads the headers block by block itself, because `tarfile` takes an extended header
into memory whole, however long it says that it is.
"""

import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from ..adapters.errors import UnsafeImport

PIECE_BYTES: Final = 256 << 10
"""Bytes of one message of a transfer: large enough to be quick, far below the limit of a gRPC message."""

MAX_TRANSFER_BYTES: Final = 2 << 30
"""Bytes of a tar that is taken in: far more than any adapter has, and less than what fills a disk."""

MAX_FILES: Final = 64
"""Files in a tar that is taken in; a PEFT folder has about five."""

_HINT: Final = "send a tar of the files of one PEFT folder, for example `tar -C FOLDER -c .`"
_MAX_EXTENDED_HEADER: Final = 64 << 10  # GNU tar and bsdtar write some hundred bytes
_IGNORED: Final = (tarfile.XHDTYPE, tarfile.XGLTYPE)  # pax headers: times and owners, which we do not take over


def pack(folder: Path) -> Iterator[bytes]:
    """The files of `folder`, by name, as a tar in pieces of `PIECE_BYTES` at most; without times, owners and modes."""
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            header = tarfile.TarInfo(path.name)
            header.size = os.fstat(file.fileno()).st_size
            yield header.tobuf(tarfile.GNU_FORMAT)
            yield from _exactly(file, header.size, path)
            if padding := -header.size % tarfile.BLOCKSIZE:
                yield bytes(padding)
    yield bytes(2 * tarfile.BLOCKSIZE)


def unpack(pieces: Iterable[bytes], target: Path, *, max_bytes: int = MAX_TRANSFER_BYTES) -> list[Path]:
    """Write the files of a tar that comes in `pieces` into the empty folder `target`; return them.

    Raises `UnsafeImport` for anything but regular files with plain names, for more than `max_bytes` or `MAX_FILES`,
    and for a tar that ends early. What was written by then stays; the caller removes `target`.
    """
    stream = _Pieces(pieces, max_bytes)
    written: list[Path] = []
    while (block := stream.read(tarfile.BLOCKSIZE)).strip(b"\0"):
        header = _header(block)
        if header.type in _IGNORED:
            if header.size > _MAX_EXTENDED_HEADER:
                raise UnsafeImport(f"the tar has an extended header of {header.size:,} bytes", hint=_HINT)
            stream.read(header.size)
        elif not (header.isdir() and header.name == "."):  # which `tar -c .` begins with
            _check(header)
            written.append(_extract(stream, header.size, target / header.name.removeprefix("./")))
            if len(written) > MAX_FILES:
                raise UnsafeImport(f"the tar has more than {MAX_FILES} files", hint=_HINT)
        stream.read(-header.size % tarfile.BLOCKSIZE)
    stream.drain()
    return written


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeError, ValueError) as error:
        raise UnsafeImport(f"what came is no tar: {error}", hint=_HINT) from error
    if header.size < 0:
        raise UnsafeImport(f"the tar holds {header.name!r} with a size below zero", hint=_HINT)
    return header


def _check(header: tarfile.TarInfo) -> None:
    """Stricter than `tarfile.data_filter` (PEP 706), which Python has had since 3.11.4 only: no folders, no links."""
    name = header.name.removeprefix("./")
    if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise UnsafeImport(f"the tar holds {header.name!r}, which is not a regular file", hint=_HINT, name=header.name)
    if not name or "/" in name or "\\" in name or name.startswith(".") or not name.isprintable():
        raise UnsafeImport(
            f"the tar holds {header.name!r}: only plain file names are taken", hint=_HINT, name=header.name
        )


def _extract(stream: "_Pieces", size: int, path: Path) -> Path:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise UnsafeImport(f"the tar holds {path.name!r} twice", hint=_HINT, name=path.name) from error
    with os.fdopen(descriptor, "wb") as file:
        while size:
            block = stream.read(min(size, PIECE_BYTES))
            file.write(block)
            size -= len(block)
    return path


def _exactly(file: BinaryIO, size: int, path: Path) -> Iterator[bytes]:
    while size:
        block = file.read(min(size, PIECE_BYTES))
        if not block:
            raise OSError(f"{path} became shorter while it was read")
        yield block
        size -= len(block)


class _Pieces:
    """Reads exactly as many bytes as asked from an iterable of pieces, up to a limit in all."""

    def __init__(self, pieces: Iterable[bytes], limit: int) -> None:
        self._pieces = iter(pieces)
        self._limit = limit
        self._left = limit
        self._buffer = bytearray()

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self._next()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def drain(self) -> None:
        """Read to the end: what follows the end of the tar is padding, or nobody's."""
        for piece in self._pieces:
            self._count(piece)

    def _next(self) -> bytes:
        for piece in self._pieces:
            self._count(piece)
            if piece:
                return piece
        raise UnsafeImport("the tar ends early", hint="send it again, whole")

    def _count(self, piece: bytes) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise UnsafeImport(f"the tar has more than {self._limit:,} bytes", hint=_HINT)

"""Files that somebody may have damaged or prepared: read once, whole, and refused at the first doubt."""

import errno
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

MAX_JSON_BYTES: Final = 4 << 20
"""A label set of ten thousand names is below 1 MB."""

_SHORT_OF: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class UnfitError(ValueError):
    """An adapter that is never served, and why in half a sentence; whoever reads it says which adapter."""


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """The one way to write a JSON object: sorted keys, no spaces, ASCII. `ValueError` for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file of at most `max_bytes`; no link is followed, no device or pipe is waited for.

    Raises:
        UnfitError: it is missing, something else, larger, or cannot be read.
        OSError: there is no memory or no file descriptor to read it with, which says nothing of the file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnfitError(f"{path.name} is no regular file")
            if status.st_size > max_bytes:
                raise UnfitError(f"{path.name} has {status.st_size} bytes, more than {max_bytes}")
            data = file.read(status.st_size + 1)
    except OSError as failure:
        if failure.errno in _SHORT_OF:
            raise
        raise UnfitError(f"{path.name} cannot be read: {failure.strerror or failure}") from failure
    if len(data) != status.st_size:
        raise UnfitError(f"{path.name} changed while it was read")
    return data


def parse_object(data: bytes, name: str) -> dict[str, Any]:
    """Read a JSON object strictly: UTF-8, no key twice, finite numbers, no nesting that exhausts the stack.

    Raises:
        UnfitError: it is something else.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise UnfitError(f"{name} has a key twice")
        return value

    def no_constant(constant: str) -> NoReturn:
        raise UnfitError(f"{name} holds {constant[:40]}, which is no finite number")

    def finite(number: str) -> float:
        value = float(number)
        return value if math.isfinite(value) else no_constant(number)

    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant, parse_float=finite
        )
    except UnfitError:
        raise
    except (ValueError, RecursionError) as failure:
        raise UnfitError(f"{name} is no JSON: {failure}") from failure
    if not isinstance(value, dict):
        raise UnfitError(f"{name} is no JSON object")
    return value

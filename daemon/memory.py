"""How much memory there is for this machine's processes, or for those of this control group."""

import sys
from pathlib import Path
from typing import Final

import psutil

_CGROUP: Final = Path("/sys/fs/cgroup")
_SHARE_OF_AVAILABLE: Final = 0.9


def limit() -> int:
    """Bytes that the control group of this process may take, as containers and systemd set it; else a huge number."""
    return min((most for most, _ in _groups()), default=sys.maxsize)


def available() -> int:
    """Bytes that can be had without anything being killed or swapped."""
    room = min((most - used for most, used in _groups()), default=sys.maxsize)
    return max(0, min(psutil.virtual_memory().available, room))


def training_budget(megabytes: int, device: str) -> int:
    """Bytes that a training process may take; 0: no limit. `megabytes` is what the settings say, 0 for nothing.

    By itself it gets nine tenths of what is available, so that what it cannot have ends it with a message, and not the
    kernel some process of its choice. On a GPU nothing is limited unasked: its driver reserves far more than it takes.
    """
    if megabytes:
        return megabytes << 20
    return int(available() * _SHARE_OF_AVAILABLE) if device == "cpu" else 0


def _groups() -> list[tuple[int, int]]:
    """Limit and use of this process's control group, and of the root of those that it sees, where they have one."""
    own = Path("/proc/self/cgroup")
    lines = own.read_text("ascii").splitlines() if own.is_file() else []
    name = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    found = []
    for folder in (_CGROUP / name.lstrip("/"), _CGROUP):
        most, used = (_number(folder / file) for file in ("memory.max", "memory.current"))
        if most is not None:
            found.append((most, used or 0))
    return found


def _number(path: Path) -> int | None:
    """What stands in a file; None if it is missing or says "max"."""
    text = path.read_text("ascii").strip() if path.is_file() else ""
    return int(text) if text.isdigit() else None

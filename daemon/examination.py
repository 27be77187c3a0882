"""Measures what `doctor.py` judges: the machine, the folders, the base, the running daemon."""

import importlib.metadata
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
from adapterd.v1 import learning_pb2
from packaging.requirements import Requirement

from ..adapters.provenance import damage
from . import doctor
from .address import parse_address
from .bases import find_base, weight_bytes
from .cli_options import Whereabouts
from .config import Settings
from .config_sources import examine
from .doctor import Check
from .environment import usable_cores
from .errors import ConfigError, DaemonError
from .memory import limit as memory_limit

_PATIENCE_S: Final = 3.0  # a healthy daemon answers in milliseconds
_INOTIFY: Final = Path("/proc/sys/fs/inotify/max_user_watches")


def examine_machine(place: Whereabouts) -> list[Check]:
    """Every check, in the order in which one wants to mend them; without settings, those that need none.

    Raises `ConfigError` only if a configuration file that was named does not exist.
    """
    found = examine(place.config, place.address)
    checks = [
        doctor.check_python(sys.version_info[:3]),
        doctor.check_libraries(list(_libraries())),
        doctor.check_settings(found.problems, found.warnings),
    ]
    settings = found.loaded
    if settings is None:
        return checks
    if _visible(settings.state):
        checks += [*_state(settings), *_base_and_memory(settings)]
    else:
        checks.append(doctor.check_visible("state", settings.state))
    checks += [*_inbox(settings), _address(settings), _daemon(place, settings)]
    checks.append(doctor.check_cores(usable_cores()))
    return checks


def _libraries() -> Iterator[tuple[str, str, str | None, bool]]:
    """Name, wanted versions, installed version and fit of every library that adapterd requires."""
    try:
        requirements = importlib.metadata.requires("adapterd") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            yield wanted.name, str(wanted.specifier), None, False
        else:
            yield wanted.name, str(wanted.specifier), version, wanted.specifier.contains(version, prereleases=True)


def _state(settings: Settings) -> Iterator[Check]:
    state, ledger = settings.state, settings.state / "adapterd.sqlite3"
    yield _folder("state", state)
    yield doctor.check_disk(psutil.disk_usage(str(_nearest(state))).free, _nearest(state))
    if state.is_dir():
        yield doctor.check_privacy(state, state.stat().st_mode)
    yield doctor.check_clock(time.time(), ledger.stat().st_mtime if ledger.is_file() else 0.0)


def _inbox(settings: Settings) -> Iterator[Check]:
    inbox = settings.inbox_dir
    if not _visible(inbox):
        yield doctor.check_visible("inbox", inbox)
        return
    yield _folder("inbox", inbox)
    if _visible(settings.state):
        yield doctor.check_same_device(_nearest(inbox).stat().st_dev, _nearest(settings.state).stat().st_dev)
    if _INOTIFY.is_file():  # elsewhere there is none: the inbox is looked through every `rescan_s` anyway
        folders = 1 + sum(path.is_dir() for path in inbox.iterdir()) if inbox.is_dir() else 1
        yield doctor.check_inotify(int(_INOTIFY.read_text("ascii")), folders)


def _folder(name: str, folder: Path) -> Check:
    nearest = _nearest(folder)
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    return doctor.check_folder(name, folder, exists=nearest == folder.absolute(), writable=writable)


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest of its parents that exists as far as this user can see."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if _exists(each))


def _exists(path: Path) -> bool:
    """Whether this user sees something there; `Path.exists` raises where a folder on the way is closed to them."""
    return os.path.exists(path)  # noqa: PTH110


def _visible(folder: Path) -> bool:
    """Whether this user can look into the folder, or could if it existed."""
    nearest = _nearest(folder)
    wanted = os.R_OK | os.X_OK if nearest == folder.absolute() else os.X_OK
    return not nearest.is_dir() or os.access(nearest, wanted)


def _base_and_memory(settings: Settings) -> Iterator[Check]:
    base = find_base(settings.state / "bases", settings.base, settings.base_revision)
    problem = ""
    if base is not None and base.name:  # a folder of the person's own has no source.json to compare with
        problem = damage(base.folder) or ""
    yield doctor.check_base(settings.base, base.folder if base else None, problem)
    memory = psutil.virtual_memory()
    total = min(memory.total, memory_limit())
    weights = weight_bytes(base) if base else 0
    need = doctor.memory_need(weights, _held_as(settings, weights, memory.total))
    yield doctor.check_memory(min(memory.available, total), total, need)


def _held_as(settings: Settings, weights: int, memory: int) -> str:
    """How the base will be held, as far as can be told without loading it: a key of `doctor.HELD_SHARE`."""
    from ..adapters.device import has_bfloat16, read_cpuinfo  # noqa: PLC0415 - torch takes seconds
    from ..adapters.unpacking import SHARE_OF_MEMORY  # noqa: PLC0415 - torch takes seconds

    on_cpu = settings.serving.device == "cpu" or not Path("/dev/nvidiactl").exists()
    plain = "bfloat16" if not on_cpu or has_bfloat16(read_cpuinfo()) else "float32"
    unpacked = on_cpu and doctor.HELD_SHARE[plain] * weights <= SHARE_OF_MEMORY * memory
    return plain if unpacked or settings.quantization == "none" else settings.quantization


def _address(settings: Settings) -> Check:
    try:
        address = parse_address(settings.bind)
    except ConfigError as error:
        return doctor.check_address(settings.bind, error.message, error.hint)
    if address.path is not None and _exists(address.path):
        return doctor.check_socket(address.path, address.path.stat().st_mode)
    return doctor.check_address(settings.bind, "", "")


def _daemon(place: Whereabouts, settings: Settings) -> Check:
    try:
        with place.connect() as client:
            status = client.learning.GetStatus(learning_pb2.GetStatusRequest(), timeout=_PATIENCE_S)
    except DaemonError as error:
        return doctor.check_daemon(settings.bind, None, (), error.message)
    except OSError as error:  # the socket's folder is closed to this user
        return doctor.check_daemon(settings.bind, None, (), f"{settings.bind} cannot be reached: {error}")
    return doctor.check_daemon(status.address, status.version, tuple(status.warnings), "")

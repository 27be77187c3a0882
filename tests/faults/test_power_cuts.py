"""Power cuts, on an ext4 of its own in a file: what was acknowledged before is there after.

The kernel is told to shut the file system down at once and write nothing more, its journal neither (`FS_IOC_SHUTDOWN`,
which xfstests use for the same): whatever was not flushed is gone, and the next mount replays what was.
"""

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from .conftest import Figure, Size, Tell
from .sandbox import Sandbox, sandbox, until

pytestmark = pytest.mark.e2e

MKFS = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""
_FS_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
_MIB = 512
DROPS_A_TASK = 6


class Disk:
    """An ext4 in a file, mounted below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "disk.img"
        self.root = folder / "disk"
        self.root.mkdir()
        with self.image.open("wb") as file:
            file.truncate(_MIB << 20)
        run(MKFS, "-q", "-F", self.image)
        self.mount()

    def mount(self) -> None:
        """Mount it, whose journal is replayed."""
        run("mount", "-o", "loop", self.image, self.root)

    def cut(self) -> None:
        """From now on nothing more reaches the disk, and whoever tries gets an error."""
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _FS_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Take it away, once nobody uses it any more: children of the daemon that was killed may take a moment."""
        until(lambda: not subprocess.run(["umount", self.root], check=False, capture_output=True).returncode)


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """A disk that is gone in the end; where none can be mounted, the test is skipped."""
    if os.geteuid() != 0 or not MKFS:
        pytest.skip("only root can mount a file system, and mkfs.ext4 makes it")
    try:
        found = Disk(folder)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no file system can be mounted here: {error.stderr.decode().strip()}")
    try:
        yield found
    finally:
        found.unmount()


@pytest.mark.timeout(4 * 3600)
def test_what_was_acknowledged_outlives_a_power_cut(tmp_path: Path, size: Size, figure: Figure, tell: Tell) -> None:
    cuts, chance, number = size(3, 200), Random(0), 0
    with disk(tmp_path) as drive, sandbox(tmp_path, drive.root) as box:
        patience = 4.0
        for cut in range(cuts):
            box.start()
            until(box.serving)
            patience *= 1.1  # on a slow machine nothing would ever be finished
            if not box.unfinished():
                number += 1
                patience = 4.0
                box.submit(f"task{number // DROPS_A_TASK}", 1000 * number)
            box.ended(chance.uniform(0.0, patience))
            promised = seen(box)
            drive.cut()
            box.kill()
            drive.unmount()
            drive.mount()
            kept = seen(box)
            lost = {name: rows - kept[name] for name, rows in promised.items() if rows - kept[name]}
            assert not lost, f"acknowledged, and gone after cut {cut}: {lost}"
            box.check()
            tell(f"{cut + 1} of {cuts} power cuts, {number} drops, {len(kept['versions'])} versions")
        box.start()
        box.work_off()
        until(box.serving)
        box.check_answers()
        box.kill(15)
        box.check_at_rest()
        versions = len(seen(box)["versions"])
    figure("power cuts, with drops and versions acknowledged", f"{cuts}, {number}, {versions}")
    figure("power cuts: acknowledged drops or versions lost", 0)


def seen(box: Sandbox) -> dict[str, set[Any]]:
    """What the ledger has told so far, and what never changes of it."""
    asked = {
        "drops": "SELECT task, sha256 FROM drops",
        "versions": "SELECT task, version, digest FROM versions",
        "moves": "SELECT id, task, alias, to_version FROM alias_history",
        "events": "SELECT id, hash FROM events WHERE kind != 'training.progress'",
    }
    return {name: {tuple(row.values()) for row in box.rows(sql)} for name, sql in asked.items()}

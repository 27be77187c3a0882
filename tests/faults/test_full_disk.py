"""A disk that is full at every write of a publish, one after the other: serving goes on, no version is half there, and
the drop goes on by itself once there is room.
"""

import errno
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from adapterd.daemon.client import Client
from adapterd.daemon.core import Core
from adapterd.daemon.errors import LedgerFailed
from adapterd.daemon.states import DropState
from adapterd.v1 import inference_pb2

from ..daemon.learning_core import drop, learning_core, rows, work
from ..daemon.real_core import served
from .conftest import Figure

pytestmark = pytest.mark.e2e

PAGE = 4096
_MIB = 256


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A tmpfs of its own; where none can be mounted, the test is skipped."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_MIB}m", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


class Filler:
    """Takes what is free, and gives it back page by page."""

    def __init__(self, disk: Path) -> None:
        self._descriptor = os.open(disk / "filler", os.O_RDWR | os.O_CREAT)
        found = os.statvfs(disk)
        self._size = found.f_bavail * found.f_frsize
        os.posix_fallocate(self._descriptor, 0, self._size)

    def give_back(self) -> None:
        """One page."""
        self._size -= PAGE
        os.ftruncate(self._descriptor, self._size)

    def close(self) -> None:
        """All of it."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def test_a_publish_survives_a_full_disk_at_each_of_its_writes(
    tmp_path: Path, tiny_base_folder: Path, figure: Figure
) -> None:
    with (
        small_disk(tmp_path / "disk") as disk,
        learning_core(disk, tiny_base_folder) as core,
        served(core) as client,
    ):
        row = drop(core, "mood", "rows.jsonl", rows(0, 40))
        work(core, lambda: core.ledger.drops.get(row.id).state is DropState.EVALUATED)
        before = core.ledger.aliases.of("mood")
        filler, failed = Filler(disk), Counter[str]()
        while core.ledger.drops.get(row.id).state is DropState.EVALUATED:
            try:
                core.worker.step(time.time())
            except LedgerFailed:
                failed["the ledger"] += 1
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                failed["a file"] += 1
            filler.give_back()
            answers(client)
            sound(core)
        filler.close()
        done = core.ledger.drops.get(row.id)
        assert (done.state, done.version) == (DropState.DONE, 2), done.reason
        assert before == {"champion": 1}
        assert len(core.ledger.versions.find("mood")) == 2
        assert {path.name for path in (core.settings.state / "adapters" / "mood").iterdir()} == {"000001", "000002"}
    assert min(failed["the ledger"], failed["a file"]) > 3
    figure("full disk: writes of a publish that failed", ", ".join(f"{n} of {what}" for what, n in failed.items()))
    figure("full disk: corrupt versions, answers that failed", "0, 0")


def answers(client: Client) -> None:
    """Serving goes on."""
    asked = inference_pb2.ScoreRequest(
        adapter="mood", input=inference_pb2.Input(prompt="red 1"), continuations=["no", "yes"]
    )
    assert client.inference.Score(asked, timeout=30).served_by.version in (1, 2)


def sound(core: Core) -> None:
    """Every version that the ledger knows is whole."""
    for version in core.ledger.versions.find():
        core.store.load(version.task, version.version, digest=version.digest, shapes=None)
        assert core.store.manifest(version.task, version.version)["digest"] == version.digest

"""Every file that is dropped becomes one drop, whole, whatever happens meanwhile; nothing is lost or deleted."""

import errno
import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from adapterd.adapters import durable
from adapterd.adapters.errors import DiskFailure
from adapterd.daemon import inbox as module
from adapterd.daemon.errors import ConfigError, LedgerFailed
from adapterd.daemon.inbox import Inbox
from adapterd.daemon.ledger import DropRow, EventRow, Ledger
from adapterd.daemon.settling import Sighting, Stamp, is_ready
from adapterd.daemon.states import DropState
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

SETTLE_S = 2.0
ROWS = b'{"text": "a", "label": "b"}\n'


OURS = {Path(code.__file__ or "").parent for code in (module, durable)}
"""The folders of the code that is killed at every few lines."""


def memory() -> Path | None:
    """A folder in memory where there is one: these tests flush a lot."""
    folder = Path("/dev/shm")
    return folder if os.access(folder, os.W_OK) else None


class World:
    """An inbox with its spool and ledger in one folder, and a clock of its own."""

    def __init__(self, folder: Path, spool: Path | None = None) -> None:
        self.now = 1_000_000.0
        self.root = folder / "inbox"
        self.spool = spool or folder / "spool"
        self.folder = folder
        self.root.mkdir(exist_ok=True)
        self.open()

    def open(self) -> None:
        self.ledger = Ledger(self.folder / "ledger", clock=lambda: self.now)
        self.inbox = Inbox(self.root, self.spool, self.ledger, settle_s=SETTLE_S)

    def restart(self) -> list[DropRow]:
        self.ledger.close()
        self.open()
        return self.inbox.recover(self.now)

    def write(self, where: str, content: bytes = ROWS, *, age: float = 0.0) -> Path:
        """Put a file into the inbox whose last write was `age` seconds ago."""
        path = self.root / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.age(path, age)
        return path

    def age(self, path: Path, age: float) -> None:
        os.utime(path, ns=(0, int((self.now - age) * 1e9)))

    def scan(self, after: float = 0.0) -> list[DropRow]:
        self.now += after
        return self.inbox.scan(self.now)

    def settle(self) -> list[DropRow]:
        """The drops of two scans, far enough apart."""
        return self.scan() + self.scan(after=SETTLE_S)

    def events(self, kind: str = "") -> list[EventRow]:
        return [event for event in self.ledger.events.after(0) if event.kind.startswith(kind)]

    def names(self, where: Path | None = None) -> list[str]:
        """The files in the inbox (or elsewhere), by their path within it."""
        top = where or self.root
        return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_symlink() or not path.is_dir())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.ledger.close()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than `tmp_path`."""
    shm = memory()
    if shm is None or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second writable file system (/dev/shm)")
    folder = Path(tempfile.mkdtemp(dir=shm))
    yield folder
    shutil.rmtree(folder)


class TestSettling:
    STAMP = Stamp(size=10, mtime_ns=100_000_000_000, inode=1)

    @pytest.mark.parametrize(
        ("before", "now", "announced", "ready"),
        [
            (None, 1000.0, False, False),  # seen for the first time
            (None, 100.0, True, True),
            (Sighting(STAMP, 100.0), 101.9, False, False),  # still, but not for long
            (Sighting(STAMP, 100.0), 102.0, False, True),
            (Sighting(STAMP, 500.0), 500.0, False, True),  # written long ago
            (Sighting(STAMP, 50.0), 52.0, False, True),  # its mtime lies in the future
            (Sighting(Stamp(9, 100_000_000_000, 1), 0.0), 1000.0, False, False),  # grew
            (Sighting(Stamp(10, 99_000_000_000, 1), 0.0), 1000.0, False, False),  # was written again
            (Sighting(Stamp(10, 100_000_000_000, 2), 0.0), 1000.0, False, False),  # is another file
        ],
    )
    def test_a_file_is_ready_when_it_is_still_or_said_to_be(
        self, before: Sighting | None, now: float, announced: bool, ready: bool
    ) -> None:
        assert is_ready(self.STAMP, before, now, 2.0, announced=announced) is ready

    def test_a_sighting_begins_anew_with_each_change(self) -> None:
        sighting = Sighting(self.STAMP, 5.0)
        assert sighting.again(self.STAMP, 6.0) == sighting
        assert sighting.again(Stamp(11, 0, 1), 6.0) == Sighting(Stamp(11, 0, 1), 6.0)


class TestClaiming:
    def test_a_file_that_is_still_becomes_a_drop(self, world: World) -> None:
        world.write("mail/new.jsonl")
        assert world.scan() == []
        assert world.inbox.pending() == [world.root / "mail/new.jsonl"]
        (drop,) = world.scan(after=SETTLE_S)
        assert (drop.task, drop.filename, drop.size) == ("mail", "new.jsonl", len(ROWS))
        assert drop.sha256 == hashlib.sha256(ROWS).hexdigest()
        assert drop.state is DropState.CLAIMED
        assert Path(drop.path).read_bytes() == ROWS
        assert Path(drop.path).parent == world.spool / "mail"
        assert world.names() == []
        assert world.inbox.pending() == []
        assert world.ledger.drops.find() == [drop]
        (event,) = world.events("drop.claimed")
        assert (event.task, event.drop, event.details["sha256"]) == ("mail", drop.id, drop.sha256)

    def test_a_file_written_long_ago_still_needs_two_scans(self, world: World) -> None:
        world.write("mail/new.jsonl", age=1000.0)
        assert world.scan() == []
        assert len(world.scan()) == 1

    def test_a_file_that_grows_waits(self, world: World) -> None:
        for size in range(1, 5):
            world.write("mail/new.jsonl", ROWS * size)
            assert world.scan(after=SETTLE_S * 2) == []
        (drop,) = world.scan(after=SETTLE_S)
        assert drop.size == 4 * len(ROWS)

    def test_a_clock_that_is_set_back_does_not_hold_it_up(self, world: World) -> None:
        world.write("mail/new.jsonl")
        os.utime(world.root / "mail" / "new.jsonl", (world.now, world.now))
        assert world.scan() == []
        world.now -= 86_400.0
        assert world.scan() == []
        assert [drop.filename for drop in world.scan(after=SETTLE_S)] == ["new.jsonl"]

    def test_an_mtime_in_the_future_does_not_hold_it_up(self, world: World) -> None:
        world.write("mail/new.jsonl", age=-86_400.0)
        assert world.scan() == []
        assert world.scan(after=SETTLE_S - 0.5) == []
        assert len(world.scan(after=0.5)) == 1

    def test_empty_files_and_unknown_formats_are_claimed_like_others(self, world: World) -> None:
        world.write("mail/empty.jsonl", b"")
        world.write("mail/picture.png", b"\x89PNG")
        world.write("mail/no extension", b"x")
        assert sorted(drop.filename for drop in world.settle()) == ["empty.jsonl", "no extension", "picture.png"]

    def test_what_came_first_is_claimed_first(self, world: World) -> None:
        world.write("mail/c.jsonl", b"1", age=30.0)
        world.write("chat/b.jsonl", b"2", age=20.0)
        world.write("mail/a.jsonl", b"3", age=10.0)
        assert [drop.filename for drop in world.settle()] == ["c.jsonl", "b.jsonl", "a.jsonl"]

    def test_a_task_becomes_known_with_its_first_drop(self, world: World) -> None:
        world.write("mail/new.jsonl")
        world.scan()
        assert world.ledger.tasks.names() == []
        world.scan(after=SETTLE_S)
        assert world.ledger.tasks.names() == ["mail"]

    def test_a_flood_is_taken_in_portions(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "CLAIMING_S", 0.0)
        for number in range(3):
            world.write(f"mail/{number}.jsonl", bytes([number]), age=10.0)
        assert world.scan() == []
        claimed = []
        for backlog in (True, True, False):
            drops = world.scan()
            assert len(drops) == 1
            assert world.inbox.backlog is backlog
            claimed += [drop.filename for drop in drops]
        assert claimed == [f"{number}.jsonl" for number in range(3)]

    def test_what_is_announced_stays_so_while_it_waits_its_turn(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "CLAIMING_S", 0.0)
        for name in ("mail/1.jsonl", "mail/2.jsonl"):
            world.inbox.renamed(world.write(name, name.encode()))
        assert [drop.filename for drop in world.scan()] == ["1.jsonl"]
        assert [drop.filename for drop in world.scan()] == ["2.jsonl"]

    def test_files_cross_file_systems(self, tmp_path: Path, elsewhere: Path) -> None:
        world = World(tmp_path, spool=elsewhere / "spool")
        world.write("mail/new.jsonl")
        (drop,) = world.settle()
        assert Path(drop.path).read_bytes() == ROWS
        assert Path(drop.path).is_relative_to(elsewhere)
        assert world.names() == []
        world.ledger.close()

    @pytest.mark.parametrize(
        ("name", "kept"),
        [
            (b"caf\xc3\xa9 1.jsonl", "café 1.jsonl"),
            (b"caf\xe9.jsonl", "caf_.jsonl"),  # Latin-1
            (b"a\nb\x1b[31m.csv", "a_b_[31m.csv"),
            (b"a-b-c.jsonl.gz", "a-b-c.jsonl.gz"),
            (b"%s\\'; DROP TABLE drops;--.csv", "%s\\'; DROP TABLE drops;--.csv"),
            (b"x" * 245 + b".jsonl.zst", "x" * 228 + ".jsonl.zst"),
        ],
    )
    def test_any_name_is_taken_and_kept_printable(self, world: World, name: bytes, kept: str) -> None:
        world.write("mail/" + os.fsdecode(name))
        (drop,) = world.settle()
        assert drop.filename == kept
        assert Path(drop.path).read_bytes() == ROWS
        assert Path(drop.path).name.endswith(kept)
        assert world.names() == []

    def test_inbox_and_spool_are_apart(self, world: World, tmp_path: Path) -> None:
        for spool in (world.root / "spool", world.root, tmp_path):
            with pytest.raises(ConfigError, match="one within the other"):
                Inbox(world.root, spool, world.ledger, settle_s=SETTLE_S)


class TestAnnouncements:
    def test_a_marker_makes_it_ready_at_once_and_goes_with_it(self, world: World) -> None:
        world.write("mail/new.jsonl")
        world.write("mail/new.jsonl.done", b"")
        assert len(world.scan()) == 1
        assert world.names() == []

    def test_a_marker_alone_waits_in_silence(self, world: World) -> None:
        world.write("mail/new.jsonl.done", b"")
        assert world.settle() == []
        assert world.names() == ["mail/new.jsonl.done"]
        assert world.events() == []

    def test_a_marker_vouches_for_one_file_only(self, world: World) -> None:
        world.write("mail/new.jsonl", b"first")
        world.write("mail/new.jsonl.done", b"")
        assert len(world.scan()) == 1
        world.write("mail/new.jsonl", b"second, not comp")
        assert world.scan() == []

    def test_a_rename_makes_it_ready_at_once(self, world: World) -> None:
        world.inbox.renamed(world.write("mail/new.jsonl"))
        assert len(world.scan()) == 1

    def test_a_rename_vouches_for_what_was_renamed_only(self, world: World) -> None:
        path = world.write("mail/new.jsonl")
        world.inbox.renamed(path)
        world.write("mail/new.jsonl", ROWS * 2)
        assert world.scan() == []
        assert len(world.scan(after=SETTLE_S)) == 1

    def test_a_rename_of_what_is_gone_or_odd_means_nothing(self, world: World) -> None:
        world.inbox.renamed(world.root / "mail/gone.jsonl")
        world.inbox.renamed(world.root / "mail")
        (world.root / "mail").mkdir()
        (world.root / "mail/link.jsonl").symlink_to("/etc/hostname")
        world.inbox.renamed(world.root / "mail/link.jsonl")
        assert world.scan() == []
        assert world.names() == ["mail/link.jsonl"]


class TestLeftAlone:
    @pytest.mark.parametrize("name", [".hidden", "new.tmp", "new.jsonl.part", "task.toml", ".git/config"])
    def test_names_with_a_meaning_of_their_own_are_passed_over(self, world: World, name: str) -> None:
        world.write(f"mail/{name}", age=1000.0)
        assert world.settle() == []
        assert world.names() == [f"mail/{name}"]
        assert world.events() == []

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("new.jsonl", "INBOX/TASK/FILE"),
            ("Mail/new.jsonl", "is not a task's name"),
            ("base/new.jsonl", "'base' is not a task"),
            ("mail/deep/new.jsonl", "folders within a task's folder"),
        ],
    )
    def test_what_lies_at_the_wrong_place_stays_and_is_told_once(self, world: World, name: str, reason: str) -> None:
        world.write(name, age=1000.0)
        for _ in range(3):
            assert world.scan(after=SETTLE_S) == []
        assert world.names() == [name]
        (event,) = world.events()
        assert event.kind == "inbox.ignored"
        assert reason in event.message
        assert str(world.root) in event.details["path"]

    def test_what_went_and_came_back_is_told_again(self, world: World) -> None:
        for _ in range(2):
            path = world.write("new.jsonl")
            world.scan()
            path.unlink()
            world.scan()
        assert len(world.events("inbox.ignored")) == 2

    def test_hidden_and_unfinished_names_at_the_top_are_passed_over(self, world: World) -> None:
        for name in (".DS_Store", "copy.tmp", ".stfolder/x", "folder.part/x"):
            world.write(name)
        assert world.settle() == []
        assert world.events() == []


def symlink(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def hard_link(path: Path, secret: Path) -> None:
    path.hardlink_to(secret)


def fifo(path: Path, secret: Path) -> None:
    os.mkfifo(path)


class TestRefused:
    @pytest.mark.parametrize(
        ("make", "reason"),
        [(symlink, "symbolic link"), (hard_link, "other names"), (fifo, "not a regular file")],
    )
    def test_what_is_no_plain_file_stays_and_is_told_once(
        self, world: World, tmp_path: Path, make: Callable[[Path, Path], None], reason: str
    ) -> None:
        secret = tmp_path / "secret"
        secret.write_text("not for training")
        (world.root / "mail").mkdir()
        make(world.root / "mail/new.jsonl", secret)
        world.write("mail/new.jsonl.done", b"")
        world.write("mail/good.jsonl", age=10.0)
        drops = [drop for _ in range(3) for drop in world.scan(after=SETTLE_S)]
        assert [drop.filename for drop in drops] == ["good.jsonl"]
        assert "mail/new.jsonl" in world.names()
        (event,) = world.events("inbox.refused")
        assert reason in event.message
        assert secret.read_text() == "not for training"

    def test_a_folder_behind_a_link_is_not_entered(self, world: World, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        (tmp_path / "other/new.jsonl").write_bytes(ROWS)
        (world.root / "mail").symlink_to(tmp_path / "other")
        assert world.settle() == []
        (event,) = world.events("inbox.ignored")
        assert "symbolic link" in event.message

    @pytest.mark.parametrize("make", [symlink, hard_link])
    def test_what_is_swapped_in_the_middle_of_a_claim_is_never_read(
        self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path, Path], None]
    ) -> None:
        """Between the last look and the rename: the rename moves the link, and it is found out after it."""
        secret = tmp_path / "secret"
        secret.write_text("not for training")
        path = world.write("mail/new.jsonl")
        real = os.rename

        def swap(source: Path, target: Path) -> None:
            if source == path:
                path.unlink()
                make(path, secret)
            real(source, target)

        monkeypatch.setattr(os, "rename", swap)
        assert world.settle() == []
        assert world.ledger.drops.find() == []
        (event,) = world.events("inbox.refused")
        assert "spool/mail/refused" in event.message
        assert secret.read_text() == "not for training"
        assert world.scan() == []


class TestDuplicates:
    def test_the_same_bytes_again_are_set_aside(self, world: World) -> None:
        world.write("mail/new.jsonl")
        (first,) = world.settle()
        world.write("mail/again.jsonl")
        assert world.settle() == []
        assert world.ledger.drops.find() == [first]
        (aside,) = (world.spool / "mail/duplicates").iterdir()
        assert aside.read_bytes() == ROWS
        assert world.names() == []
        (event,) = world.events("drop.duplicate")
        assert event.drop == first.id
        assert "again.jsonl holds the same bytes as drop 1 (new.jsonl), which is claimed" in event.message

    def test_twins_in_one_scan_are_one_drop(self, world: World) -> None:
        world.write("mail/a.jsonl")
        world.write("mail/b.jsonl")
        assert [drop.filename for drop in world.settle()] == ["a.jsonl"]
        assert len(world.events("drop.duplicate")) == 1

    def test_another_task_may_have_the_same_bytes(self, world: World) -> None:
        world.write("mail/new.jsonl")
        world.write("chat/new.jsonl")
        assert {drop.task for drop in world.settle()} == {"mail", "chat"}

    def test_for_a_drop_that_failed_the_way_on_is_told(self, world: World) -> None:
        world.write("mail/new.jsonl")
        (drop,) = world.settle()
        world.ledger.drops.move(drop.id, DropState.FAILED, reason="disk full")
        world.write("mail/again.jsonl")
        world.settle()
        (event,) = world.events("drop.duplicate")
        assert "failed; `adapterd release 1` tries it again" in event.message


class TestTrouble:
    def test_a_missing_inbox_is_made_with_an_event_each_time(self, world: World) -> None:
        for _ in range(2):
            shutil.rmtree(world.root)
            assert world.scan() == []
            assert world.root.is_dir()
        assert len(world.events("inbox.created")) == 2

    def test_an_inbox_that_cannot_be_made_is_told_once(self, world: World) -> None:
        shutil.rmtree(world.root)
        world.root.symlink_to("/nonexistent/inbox")
        for _ in range(3):
            assert world.scan() == []
        assert [event.kind for event in world.events()] == ["inbox.error"]

    def test_an_inbox_that_is_a_file_is_told_once(self, world: World) -> None:
        shutil.rmtree(world.root)
        world.root.write_text("")
        for _ in range(3):
            assert world.scan() == []
        (event,) = world.events()
        assert "Not a directory" in event.message

    def test_one_that_cannot_be_claimed_does_not_stop_the_others(self, world: World) -> None:
        world.spool.mkdir()
        (world.spool / "chat").write_text("in the way")
        world.write("chat/new.jsonl", age=20.0)
        world.write("mail/new.jsonl", age=10.0)
        drops = [drop for _ in range(4) for drop in world.scan(after=SETTLE_S)]
        assert [drop.task for drop in drops] == ["mail"]
        assert world.names() == ["chat/new.jsonl"]
        assert world.inbox.pending() == [world.root / "chat/new.jsonl"]
        (event,) = world.events("inbox.error")
        assert (event.task, "File exists" in event.message) == ("chat", True)
        (world.spool / "chat").unlink()
        assert [drop.task for drop in world.scan()] == ["chat"]

    def test_an_error_is_told_again_when_the_file_has_changed(self, world: World) -> None:
        world.spool.mkdir()
        (world.spool / "chat").write_text("in the way")
        for size in (1, 2):
            world.write("chat/new.jsonl", ROWS * size, age=20.0)
            for _ in range(3):
                world.scan()
        assert len(world.events("inbox.error")) == 2

    @pytest.mark.parametrize("what", ["mail", "mail/b.jsonl"])
    def test_what_cannot_be_read_does_not_hide_the_rest(
        self, world: World, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        for name in ("chat/a.jsonl", "mail/b.jsonl", "mail/c.jsonl"):
            world.write(name, name.encode(), age=10.0)
        locked = world.root / what

        def refuse(call: Callable[..., Any]) -> Callable[..., Any]:
            def checked(path: Any, *args: Any, **kwargs: Any) -> Any:
                if path == locked:
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
                return call(path, *args, **kwargs)

            return checked

        with monkeypatch.context() as rights:
            # As root, whom no mode keeps out, the refusal has to be made.
            rights.setattr(os, "open", refuse(os.open))
            rights.setattr(os, "listdir", refuse(os.listdir))
            claimed = [drop.filename for _ in range(3) for drop in world.scan(after=SETTLE_S)]
        assert claimed == (["a.jsonl"] if what == "mail" else ["a.jsonl", "c.jsonl"])
        (event,) = world.events("inbox.error")
        assert "Permission denied" in event.message
        assert "mail/b.jsonl" in world.names()
        world.settle()
        assert world.names() == []

    def test_a_file_taken_back_in_time_is_not_missed(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        path = world.write("mail/new.jsonl")
        world.scan()
        real = os.open

        def too_late(target: Any, *args: Any, **kwargs: Any) -> int:
            if target == path:
                path.unlink()
            return real(target, *args, **kwargs)

        monkeypatch.setattr(os, "open", too_late)
        assert world.scan(after=SETTLE_S) == []
        assert world.inbox.pending() == [path]
        assert world.scan() == []
        assert world.inbox.pending() == []
        assert world.events() == []

    def test_a_file_that_changes_during_the_claim_settles_in_the_spool(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its writer still holds it open, so it writes on into the spool."""
        path = world.write("mail/new.jsonl")
        world.scan()
        with path.open("ab") as writer:
            real = os.rename

            def rename_while_it_is_written(source: Path, target: Path) -> None:
                real(source, target)
                writer.write(b"more")
                writer.flush()
                world.age(target, 0.0)

            monkeypatch.setattr(os, "rename", rename_while_it_is_written)
            assert world.scan(after=SETTLE_S) == []
        (waiting,) = world.inbox.pending()
        assert waiting.parent == world.spool / "mail"
        assert world.scan(after=SETTLE_S / 2) == []
        (drop,) = world.scan(after=SETTLE_S / 2)
        assert Path(drop.path).read_bytes() == ROWS + b"more"
        assert drop.sha256 == hashlib.sha256(ROWS + b"more").hexdigest()

    def test_a_file_that_changes_while_it_is_hashed_is_hashed_anew(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.write("mail/new.jsonl")
        world.scan()
        real = hashlib.file_digest

        def digest_while_it_is_written(file: Any, name: str) -> Any:
            digest = real(file, name)
            (place,) = (world.spool / "mail").iterdir()
            place.write_bytes(ROWS * 2)
            world.age(place, 0.0)
            return digest

        with monkeypatch.context() as writing:
            writing.setattr(hashlib, "file_digest", digest_while_it_is_written)
            assert world.scan(after=SETTLE_S) == []
        assert world.ledger.drops.find() == []
        (drop,) = world.settle()
        assert drop.sha256 == hashlib.sha256(ROWS * 2).hexdigest()

    def test_a_claimed_file_that_somebody_removes_is_told(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.write("mail/new.jsonl")
        real = os.rename

        def remove(source: Path, target: Path) -> None:
            real(source, target)
            target.unlink()

        monkeypatch.setattr(os, "rename", remove)
        assert world.settle() == []
        (event,) = world.events("inbox.error")
        assert "removed before it was read" in event.message
        assert world.inbox.pending() == []

    def test_a_full_ledger_loses_nothing(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.write("mail/new.jsonl")
        world.scan()

        def full(*_: object) -> tuple[DropRow, bool]:
            raise LedgerFailed("the disk is full")

        with monkeypatch.context() as disk:
            disk.setattr(world.ledger.drops, "claim", full)
            with pytest.raises(LedgerFailed):
                world.scan(after=SETTLE_S)
        assert world.names() == []
        (drop,) = world.scan()
        assert drop.filename == "new.jsonl"

    def test_a_failing_disk_is_passed_on(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        path = world.write("mail/new.jsonl")
        world.scan()

        def fail(descriptor: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(DiskFailure):
            world.scan(after=SETTLE_S)
        assert path.exists()

    def test_hints_and_questions_come_from_other_threads(self, world: World) -> None:
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                world.inbox.renamed(world.root / "mail/0.jsonl")
                world.inbox.pending()

        asker = threading.Thread(target=ask)
        asker.start()
        for number in range(20):
            world.write(f"mail/{number}.jsonl", bytes([number]))
            world.scan(after=SETTLE_S)
        over.set()
        asker.join(10)
        world.settle()
        assert len(world.ledger.drops.find()) == 20


class TestRecovery:
    def spooled(self, world: World, content: bytes = ROWS, age: float = 100.0) -> Path:
        """A claim that was cut off after the rename."""
        place = world.spool / "mail" / "0123456789abcdef-new.jsonl"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        world.age(place, age)
        return place

    def test_a_claim_without_a_row_gets_it(self, world: World) -> None:
        place = self.spooled(world)
        (drop,) = world.restart()
        assert (drop.task, drop.filename, drop.path) == ("mail", "new.jsonl", str(place))
        assert world.restart() == []
        assert world.ledger.drops.find() == [drop]

    def test_a_claim_that_may_still_be_written_settles_first(self, world: World) -> None:
        self.spooled(world, age=0.0)
        assert world.restart() == []
        assert len(world.inbox.pending()) == 1
        assert len(world.scan(after=SETTLE_S)) == 1

    def test_a_claim_of_bytes_that_are_known_is_a_duplicate(self, world: World) -> None:
        world.write("mail/first.jsonl")
        world.settle()
        self.spooled(world)
        assert world.restart() == []
        assert world.names(world.spool / "mail/duplicates") == ["0123456789abcdef-new.jsonl"]
        assert len(world.events("drop.duplicate")) == 1

    def test_an_unfinished_copy_is_swept_for_its_source_is_still_there(self, world: World) -> None:
        self.spooled(world).rename(world.spool / "mail" / ".tmp-0123456789abcdef-new.jsonl-00")
        world.write("mail/new.jsonl", ROWS)
        assert world.restart() == []
        assert world.names(world.spool) == []
        assert len(world.settle()) == 1

    def test_drops_follow_a_state_folder_that_was_moved(self, world: World) -> None:
        world.write("mail/new.jsonl")
        (drop,) = world.settle()
        world.spool = world.spool.rename(world.folder / "moved")
        assert world.restart() == []
        moved = world.ledger.drops.get(drop.id)
        assert Path(moved.path).parent == world.folder / "moved/mail"
        assert Path(moved.path).read_bytes() == ROWS
        assert moved.state is DropState.CLAIMED

    def test_what_others_keep_in_the_spool_is_left_alone(self, world: World) -> None:
        (world.spool / "Not A Task").mkdir(parents=True)
        (world.spool / "Not A Task/file").write_text("x")
        (world.spool / "mail/duplicates").mkdir(parents=True)
        (world.spool / "mail/duplicates/file").write_text("x")
        assert world.restart() == []
        assert world.names(world.spool) == ["Not A Task/file", "mail/duplicates/file"]

    def test_nothing_is_lost_or_doubled_by_a_kill_at_any_line(self) -> None:
        """A child is ended as by kill -9 at every few lines that a scan runs; then the daemon starts again."""
        contents = {"mail/a.jsonl": b"first", "mail/b.jsonl": b"second", "mail/twin.jsonl": b"first"}

        def prepare(folder: Path) -> None:
            world = World(folder)
            for name, content in contents.items():
                world.write(name, content, age=100.0)
            world.write("mail/a.jsonl.done", b"", age=100.0)
            world.ledger.close()

        def child(folder: Path, line: int) -> None:
            world = World(folder)
            run_to_line(line, lambda: (world.inbox.recover(world.now), world.scan(), world.scan()))

        kills, line = 0, 0
        while True:
            folder = Path(tempfile.mkdtemp(dir=memory()))
            prepare(folder)
            killed = in_child(lambda folder=folder, line=line: child(folder, line))  # type: ignore[misc]
            world = World(folder)
            try:
                world.inbox.recover(world.now)
                world.settle()
                drops = world.ledger.drops.find()
                assert sorted(drop.sha256 for drop in drops) == sorted(
                    hashlib.sha256(content).hexdigest() for content in set(contents.values())
                )
                for drop in drops:
                    assert hashlib.sha256(Path(drop.path).read_bytes()).hexdigest() == drop.sha256
                assert world.names() == []
                assert len(world.names(world.spool)) == 3, "the twin is kept, too"
                assert [event.drop for event in world.events("drop.claimed")] == [1, 2]
            finally:
                world.ledger.close()
                shutil.rmtree(folder)
            if not killed:
                break
            kills, line = kills + 1, line + 23
        assert kills > 30


def run_to_line(last: int, call: Callable[[], object]) -> None:
    """Run `call`, but end the process at once, with nothing cleaned up, before our line number `last`."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if Path(frame.f_code.co_filename).parent not in OURS:
            return None
        if event == "line":
            if lines == last:
                os._exit(137)
            lines += 1
        return trace

    sys.settrace(trace)
    call()
    sys.settrace(None)


def in_child(call: Callable[[], None]) -> bool:
    """Run `call` in a process of its own; whether it was ended early."""
    pid = os.fork()
    if pid == 0:
        try:
            call()
        except BaseException:  # noqa: BLE001 - the parent tells; pytest must not go on in two processes
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in {0, 137}, "the child failed by itself"
    return code == 137


class Dropping(RuleBasedStateMachine):
    """People write, append, rename and mark as they like; scans and restarts come at any time."""

    NAMES = st.sampled_from(["mail/a.jsonl", "mail/b.csv", "chat/a.jsonl"])
    BYTES = st.sampled_from([b"", b"1", b"22", b"333"])

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=memory()))
        self.world = World(self.folder)
        self.made = 0

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.restart()
            for _ in range(3):
                self.world.settle()
            assert [name for name in self.world.names() if not name.endswith(".done")] == []
            assert len(self.world.names(self.world.spool)) == self.made
            assert self.world.inbox.pending() == []
            self.world.ledger.close()
            shutil.rmtree(self.folder)

    @rule(name=NAMES, content=BYTES)
    def write(self, name: str, content: bytes) -> None:
        self.made += not (self.world.root / name).exists()
        self.world.write(name, content)

    @rule(name=NAMES, content=BYTES)
    def append(self, name: str, content: bytes) -> None:
        path = self.world.root / name
        if path.exists():
            self.world.write(name, path.read_bytes() + content)

    @rule(name=NAMES, content=BYTES)
    def rename_in(self, name: str, content: bytes) -> None:
        self.made += not (self.world.root / name).exists()
        part = self.world.write(name + ".part", content)
        self.world.inbox.renamed(part.rename(self.world.root / name))

    @rule(name=NAMES)
    def mark(self, name: str) -> None:
        self.world.write(name + ".done", b"")

    @rule(after=st.sampled_from([0.0, 0.5, 2.0, 10.0]))
    def scan(self, after: float) -> None:
        for drop in self.world.scan(after):
            assert drop.state is DropState.CLAIMED

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @invariant()
    def every_drop_is_what_its_row_says(self) -> None:
        if not hasattr(self, "world"):
            return
        drops = self.world.ledger.drops.find()
        assert len({(drop.task, drop.sha256) for drop in drops}) == len(drops)
        for drop in drops:
            content = Path(drop.path).read_bytes()
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (drop.sha256, drop.size)

    @invariant()
    def no_file_is_lost(self) -> None:
        if hasattr(self, "world"):
            inside = [name for name in self.world.names() if not name.endswith(".done")]
            assert len(inside) + len(self.world.names(self.world.spool)) == self.made


TestDropping = Dropping.TestCase
TestDropping.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


class TestSizes:
    def test_a_file_that_is_too_large_is_left_unread_told_of_once_and_holds_up_no_other(self, world: World) -> None:
        asked: list[str] = []

        def limit(task: str) -> int:
            asked.append(task)
            return 1000

        world.inbox = Inbox(
            world.root,
            world.spool,
            world.ledger,
            settle_s=SETTLE_S,
            max_bytes=limit,
        )
        large, small = world.root / "mail" / "large.jsonl", world.root / "mail" / "small.jsonl"
        large.parent.mkdir(exist_ok=True)
        with large.open("wb") as file:
            file.truncate(1 << 40)  # hashing it would take a quarter of an hour
        small.write_bytes(b"small")
        drops = [row for now in range(10_000, 10_005) for row in world.inbox.scan(float(now))]
        assert [row.filename for row in drops] == ["small.jsonl"]
        assert large.exists()
        assert asked == ["mail"] * 5  # once a scan, however many files lie there
        told = [row for row in world.ledger.events.after(0) if row.kind == "inbox.refused"]
        assert len(told) == 1
        assert "1,099,511,627,776 bytes, more than limits.max_file_bytes = 1,000" in told[0].message

    def test_what_grew_in_the_spool_is_set_aside_unread(self, world: World) -> None:
        world.inbox = Inbox(world.root, world.spool, world.ledger, settle_s=SETTLE_S, max_bytes=lambda _task: 10)
        place = world.spool / "mail" / "0123456789abcdef-rows.jsonl"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"x" * 11)
        assert world.inbox.recover(10_000.0) == []
        assert (place.parent / "refused" / place.name).exists()

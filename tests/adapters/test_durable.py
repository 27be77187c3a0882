"""Files appear whole or not at all, and what cannot be made durable is said."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from adapterd.adapters import durable
from adapterd.adapters.errors import DiskFailure


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.startswith(durable.TEMP_PREFIX)]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than `tmp_path`."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second writable file system (/dev/shm)")
    folder = shm / f"adapterd-test-{os.getpid()}-{os.urandom(4).hex()}"
    folder.mkdir()
    yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.fixture
def fsyncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were flushed, in order."""
    flushed: list[str] = []
    real = os.fsync

    def record(descriptor: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return flushed


@pytest.fixture
def broken_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)


class TestWriteAtomic:
    def test_replaces_the_whole_content(self, tmp_path: Path) -> None:
        path = tmp_path / "manifest.json"
        durable.write_atomic(path, b"a long first content")
        durable.write_atomic(path, b"second")
        assert path.read_bytes() == b"second"
        assert leftovers(tmp_path) == []

    def test_is_readable_by_its_owner_alone(self, tmp_path: Path) -> None:
        durable.write_atomic(tmp_path / "rows", b"private")
        assert (tmp_path / "rows").stat().st_mode & 0o777 == 0o600

    def test_writes_an_empty_file(self, tmp_path: Path) -> None:
        durable.write_atomic(tmp_path / "empty", b"")
        assert (tmp_path / "empty").read_bytes() == b""

    def test_takes_the_longest_name_there_is(self, tmp_path: Path) -> None:
        path = tmp_path / ("ü" * (durable.MAX_NAME_BYTES // 2))
        durable.write_atomic(path, b"x")
        assert path.read_bytes() == b"x"

    def test_flushes_the_file_before_its_name(self, tmp_path: Path, fsyncs: list[str]) -> None:
        durable.write_atomic(tmp_path / "file", b"x")
        assert [Path(path).name.startswith(durable.TEMP_PREFIX) for path in fsyncs] == [True, False]
        assert fsyncs[1] == str(tmp_path)

    def test_a_full_disk_leaves_the_old_content(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "file"
        durable.write_atomic(path, b"old")

        def full(descriptor: int, data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            durable.write_atomic(path, b"new")
        assert path.read_bytes() == b"old"
        assert leftovers(tmp_path) == []

    def test_short_writes_are_completed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:3]))
        durable.write_atomic(tmp_path / "file", b"0123456789")
        assert (tmp_path / "file").read_bytes() == b"0123456789"

    def test_a_failed_fsync_is_final_and_no_os_error(self, tmp_path: Path, broken_disk: None) -> None:
        with pytest.raises(DiskFailure) as caught:
            durable.write_atomic(tmp_path / "file", b"x")
        assert not isinstance(caught.value, OSError)
        assert str(tmp_path) in caught.value.message
        assert not (tmp_path / "file").exists()


class TestMakeFolder:
    def test_flushes_each_new_name(self, tmp_path: Path, fsyncs: list[str]) -> None:
        durable.make_folder(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b").is_dir()
        assert fsyncs == [str(tmp_path), str(tmp_path / "a")]

    def test_leaves_one_that_exists(self, tmp_path: Path, fsyncs: list[str]) -> None:
        durable.make_folder(tmp_path)
        assert fsyncs == []

    def test_refuses_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("")
        with pytest.raises(OSError, match="exists"):
            durable.make_folder(tmp_path / "a")


class TestPublishFolder:
    def test_everything_is_flushed_before_the_name_appears(self, tmp_path: Path, fsyncs: list[str]) -> None:
        temp, final = tmp_path / ".tmp-x", tmp_path / "000001"
        (temp / "deep").mkdir(parents=True)
        (temp / "manifest.json").write_text("{}")
        (temp / "deep" / "weights").write_bytes(b"w")
        durable.publish_folder(temp, final)
        assert sorted(path.name for path in final.iterdir()) == ["deep", "manifest.json"]
        assert (final / "deep" / "weights").read_bytes() == b"w"
        assert not temp.exists()
        inside = {str(temp), str(temp / "deep"), str(temp / "manifest.json"), str(temp / "deep" / "weights")}
        assert set(fsyncs[:-1]) == inside
        assert fsyncs[-1] == str(tmp_path)

    def test_a_published_folder_never_changes(self, tmp_path: Path) -> None:
        temp, final = tmp_path / ".tmp-x", tmp_path / "000001"
        temp.mkdir()
        final.mkdir()
        with pytest.raises(FileExistsError):
            durable.publish_folder(temp, final)
        assert temp.exists()

    def test_a_link_inside_is_refused(self, tmp_path: Path) -> None:
        temp = tmp_path / ".tmp-x"
        temp.mkdir()
        (temp / "link").symlink_to("/etc/passwd")
        with pytest.raises(OSError, match="symbolic links"):
            durable.publish_folder(temp, tmp_path / "000001")
        assert not (tmp_path / "000001").exists()


class TestMoveDurably:
    def test_renames_within_one_file_system(self, tmp_path: Path, fsyncs: list[str]) -> None:
        source, target = tmp_path / "in" / "a", tmp_path / "spool" / "b"
        source.parent.mkdir()
        target.parent.mkdir()
        source.write_bytes(b"rows")
        inode = source.stat().st_ino
        durable.move_durably(source, target)
        assert target.read_bytes() == b"rows"
        assert target.stat().st_ino == inode
        assert not source.exists()
        assert fsyncs == [str(source), str(target.parent), str(source.parent)]

    def test_copies_across_file_systems(self, tmp_path: Path, elsewhere: Path) -> None:
        source, target = tmp_path / "a", elsewhere / "b"
        source.write_bytes(os.urandom(3_000_001))
        source.chmod(0o640)
        os.utime(source, ns=(1_000, 2_000_000_001))
        content = source.read_bytes()
        durable.move_durably(source, target)
        assert target.read_bytes() == content
        assert target.stat().st_mtime_ns == 2_000_000_001
        assert target.stat().st_mode & 0o777 == 0o640
        assert not source.exists()
        assert leftovers(elsewhere) == []

    def test_a_source_that_changes_meanwhile_stays(
        self, tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = tmp_path / "a"
        source.write_bytes(b"first")
        real = os.write

        def write_while_somebody_appends(descriptor: int, data: bytes) -> int:
            with source.open("ab") as writer:
                writer.write(b" and more")
            return real(descriptor, data)

        monkeypatch.setattr(os, "write", write_while_somebody_appends)
        with pytest.raises(BlockingIOError, match="changed"):
            durable.move_durably(source, elsewhere / "b")
        assert source.read_bytes().startswith(b"first and more")
        assert list(elsewhere.iterdir()) == []

    def test_a_full_disk_leaves_the_source(
        self, tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = tmp_path / "a"
        source.write_bytes(b"rows")

        def full(descriptor: int, data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            durable.move_durably(source, elsewhere / "b")
        assert source.read_bytes() == b"rows"
        assert list(elsewhere.iterdir()) == []

    def test_links_and_fifos_are_not_moved(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("/etc/hostname")
        os.mkfifo(tmp_path / "fifo")
        for name in ("link", "fifo"):
            with pytest.raises(OSError, match=r"symbolic links|regular file"):
                durable.move_durably(tmp_path / name, tmp_path / "target")
        assert not (tmp_path / "target").exists()

    def test_a_failed_fsync_leaves_the_source(self, tmp_path: Path, broken_disk: None) -> None:
        (tmp_path / "a").write_bytes(b"rows")
        with pytest.raises(DiskFailure):
            durable.move_durably(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "a").read_bytes() == b"rows"

"""Hints come from the real kernel, and losing them is told and mended."""

import errno
import os
import queue
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adapterd.daemon import watcher as module
from adapterd.daemon.watcher import RETRY_S, Watcher
from watchdog.observers.inotify import InotifyObserver

WAIT_S = 20.0  # a hint takes milliseconds; this is for a machine under load


class Hints:
    """What a watcher said: whether it woke, and which renames it reported."""

    def __init__(self) -> None:
        self.woke = threading.Event()
        self.renames: queue.Queue[Path] = queue.Queue()

    def expect_wake(self) -> None:
        assert self.woke.wait(WAIT_S), "no hint came"
        self.woke.clear()


@pytest.fixture
def hints() -> Hints:
    return Hints()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox" / "mail").mkdir(parents=True)
    return tmp_path / "inbox"


@pytest.fixture
def watch(hints: Hints) -> Iterator[Callable[[Path], Watcher]]:
    watchers: list[Watcher] = []

    def begin(root: Path) -> Watcher:
        watcher = Watcher(root, hints.woke.set, hints.renames.put)
        watchers.append(watcher)
        watcher.start(0.0)
        return watcher

    yield begin
    for watcher in watchers:
        watcher.stop()


def test_it_wakes_at_once_for_what_came_before(inbox: Path, watch: Callable[[Path], Watcher], hints: Hints) -> None:
    assert watch(inbox).warning == ""
    hints.expect_wake()


def test_a_written_file_wakes(inbox: Path, watch: Callable[[Path], Watcher], hints: Hints) -> None:
    watch(inbox)
    hints.expect_wake()
    (inbox / "mail" / "new.jsonl").write_text("{}\n")
    hints.expect_wake()
    assert hints.renames.empty()


def test_a_file_in_a_new_folder_wakes(inbox: Path, watch: Callable[[Path], Watcher], hints: Hints) -> None:
    watch(inbox)
    hints.expect_wake()
    (inbox / "chat").mkdir()
    hints.expect_wake()
    (inbox / "chat" / "new.jsonl").write_text("{}\n")
    hints.expect_wake()


def test_a_rename_into_the_inbox_is_reported_as_one(
    tmp_path: Path, inbox: Path, watch: Callable[[Path], Watcher], hints: Hints
) -> None:
    watch(inbox)
    hints.expect_wake()
    (tmp_path / "outside.jsonl").write_text("{}\n")
    (tmp_path / "outside.jsonl").rename(inbox / "mail" / "new.jsonl")
    assert hints.renames.get(timeout=WAIT_S) == inbox / "mail" / "new.jsonl"
    hints.expect_wake()


def test_a_rename_within_the_inbox_is_reported_as_one(
    inbox: Path, watch: Callable[[Path], Watcher], hints: Hints
) -> None:
    watch(inbox)
    (inbox / "mail" / "new.jsonl.part").write_text("{}\n")
    (inbox / "mail" / "new.jsonl.part").rename(inbox / "mail" / "new.jsonl")
    assert hints.renames.get(timeout=WAIT_S) == inbox / "mail" / "new.jsonl"


def test_an_inbox_behind_a_link_is_watched_under_its_own_name(
    tmp_path: Path, inbox: Path, watch: Callable[[Path], Watcher], hints: Hints
) -> None:
    (tmp_path / "link").symlink_to(inbox)
    watch(tmp_path / "link")
    (tmp_path / "outside.jsonl").write_text("{}\n")
    (tmp_path / "outside.jsonl").rename(inbox / "mail" / "new.jsonl")
    assert hints.renames.get(timeout=WAIT_S) == tmp_path / "link" / "mail" / "new.jsonl"


@pytest.mark.parametrize("how", ["deleted", "moved away"])
def test_a_folder_that_is_made_again_is_watched_again(
    tmp_path: Path, inbox: Path, watch: Callable[[Path], Watcher], hints: Hints, how: str
) -> None:
    watcher = watch(inbox)
    hints.expect_wake()
    if how == "deleted":
        shutil.rmtree(inbox)
        hints.expect_wake()
        observer = watcher._observer
        assert observer is not None
        for emitter in list(observer.emitters):
            emitter.join(WAIT_S)
    else:
        inbox.rename(tmp_path / "old")
    watcher.check(1.0)
    assert "is not there" in watcher.warning
    (inbox / "mail").mkdir(parents=True)
    hints.woke.clear()
    watcher.check(2.0)
    assert watcher.warning == ""
    hints.expect_wake()
    (inbox / "mail" / "new.jsonl").write_text("{}\n")
    hints.expect_wake()


def test_a_folder_deleted_and_made_again_between_two_checks_is_noticed(
    inbox: Path, watch: Callable[[Path], Watcher], hints: Hints
) -> None:
    """The new folder often gets the old one's inode number, so the number alone would not tell."""
    watcher = watch(inbox)
    observer = watcher._observer
    assert observer is not None
    emitters = list(observer.emitters)
    shutil.rmtree(inbox)
    inbox.mkdir()
    for emitter in emitters:
        emitter.join(WAIT_S)
    hints.woke.clear()
    watcher.check(1.0)
    assert watcher._observer is not observer
    hints.expect_wake()
    (inbox / "mail").mkdir()
    hints.expect_wake()


def test_nothing_changes_while_all_is_well(inbox: Path, watch: Callable[[Path], Watcher], hints: Hints) -> None:
    watcher = watch(inbox)
    observer = watcher._observer
    hints.expect_wake()
    watcher.check(1000.0)
    assert watcher._observer is observer
    assert not hints.woke.is_set()


@pytest.mark.parametrize(
    ("number", "limit"), [(errno.ENOSPC, "max_user_watches"), (errno.EMFILE, "max_user_instances")]
)
def test_a_limit_is_told_and_watching_tried_again_later(
    inbox: Path,
    watch: Callable[[Path], Watcher],
    hints: Hints,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    limit: str,
) -> None:
    def refuse(**_: object) -> InotifyObserver:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as limits:
        limits.setattr(module, "InotifyObserver", refuse)
        watcher = watch(inbox)
        assert limit in watcher.warning
        assert "only scanned" in watcher.warning
    watcher.check(RETRY_S - 1.0)
    assert limit in watcher.warning
    watcher.check(RETRY_S)
    assert watcher.warning == ""
    hints.expect_wake()


def test_the_kernels_own_refusal_is_told_and_leaves_no_thread(inbox: Path, hints: Hints) -> None:
    """No more file descriptors: the same error as too many inotify instances."""
    before = threading.active_count()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    watcher = Watcher(inbox, hints.woke.set, hints.renames.put)
    highest = max(int(name.name) for name in Path("/proc/self/fd").iterdir())
    fillers = [os.open("/dev/null", os.O_RDONLY) for _ in range(highest)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(fillers) + 1, hard))
    try:
        watcher.start(0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)
    assert "not watched" in watcher.warning
    assert threading.active_count() == before
    watcher.stop()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_an_unreadable_inbox_is_told(inbox: Path, watch: Callable[[Path], Watcher]) -> None:
    inbox.chmod(0)
    assert "Permission denied" in watch(inbox).warning
    inbox.chmod(0o700)


def test_a_callback_that_raises_does_not_end_the_hints(inbox: Path, hints: Hints) -> None:
    faults = [RuntimeError("broken")]

    def wake() -> None:
        hints.woke.set()
        if started.is_set() and faults:
            raise faults.pop()

    started = threading.Event()
    watcher = Watcher(inbox, wake, hints.renames.put)
    watcher.start(0.0)
    hints.woke.clear()
    started.set()
    (inbox / "mail" / "1.jsonl").write_text("")
    hints.expect_wake()
    (inbox / "mail" / "2.jsonl").write_text("")
    hints.expect_wake()
    watcher.stop()
    assert not faults


def test_a_lost_hint_is_told(inbox: Path, hints: Hints) -> None:
    def renamed(path: Path) -> None:
        hints.renames.put(path)
        raise RuntimeError("broken")

    watcher = Watcher(inbox, hints.woke.set, renamed)
    watcher.start(0.0)
    (inbox / "mail" / "1.part").write_text("")
    (inbox / "mail" / "1.part").rename(inbox / "mail" / "1.jsonl")
    hints.renames.get(timeout=WAIT_S)
    (inbox / "mail" / "2.part").write_text("")
    (inbox / "mail" / "2.part").rename(inbox / "mail" / "2.jsonl")
    hints.renames.get(timeout=WAIT_S)  # the first failure is written down by now
    assert "broken" in watcher.warning
    watcher.stop()


def test_stopping_ends_every_thread_and_may_be_repeated(inbox: Path, hints: Hints) -> None:
    before = threading.active_count()
    watcher = Watcher(inbox, hints.woke.set, hints.renames.put)
    watcher.start(0.0)
    assert threading.active_count() > before
    watcher.stop()
    watcher.stop()
    assert threading.active_count() == before

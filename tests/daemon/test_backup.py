"""A backup is whole, is consistent while the daemon works, and comes back at another path."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapterd.adapters.base import Base
from adapterd.adapters.states import VersionState
from adapterd.adapters.store import Store
from adapterd.daemon import backup
from adapterd.daemon.backup import back_up, read_manifest, restore
from adapterd.daemon.core import Core
from adapterd.daemon.errors import AlreadyRunning, BackupFailed
from adapterd.daemon.ledger import LEDGER_NAME, Ledger
from filelock import FileLock

from .cli_runner import CommandLine
from .real_core import publish, real_core


@pytest.fixture
def core(tmp_path: Path, tiny_base: Base) -> Iterator[Core]:
    """A daemon's parts with two versions, a claimed drop that nobody has read yet, and settings of a task."""
    with real_core(tmp_path / "here", tiny_base) as core:
        state = core.settings.state
        publish(core, "mail", 1)
        publish(core, "mail", 2)
        spooled = state / "spool" / "drop-1"
        spooled.write_text('{"text": "hello", "label": "greeting"}\n')
        core.ledger.drops.claim("mail", "a.jsonl", "1" * 64, 40, spooled)
        (state / "spool" / ".tmp-half").write_text("half a file")
        settings = core.settings.inbox_dir / "mail" / "task.toml"
        settings.parent.mkdir(parents=True)
        settings.write_text("[training]\nrank = 4\n")
        (settings.parent / "unclaimed.jsonl").write_text("{}\n")
        yield core


def saved(core: Core, target: Path) -> Path:
    back_up(core.settings.state, core.settings.inbox_dir, target)
    return target


def test_a_backup_comes_back_at_another_path_with_all_that_the_ledger_promises(core: Core, tmp_path: Path) -> None:
    digests = {version: core.ledger.versions.get("mail", version).digest for version in (1, 2)}
    source, there = saved(core, tmp_path / "backup"), tmp_path / "there"
    found = restore(source, there, there / "inbox")
    assert (found.versions, found.drops) == (len(core.ledger.versions.find()), 1)
    ledger, store = Ledger(there / LEDGER_NAME), Store(there / "adapters")
    try:
        for version, digest in digests.items():
            assert ledger.versions.get("mail", version).digest == digest
            assert store.load("mail", version, digest=digest, shapes=None).rank > 0
        drop = ledger.drops.get(1)
        assert Path(drop.path) == there / "spool" / "drop-1"
        assert Path(drop.path).read_text() == '{"text": "hello", "label": "greeting"}\n'
        assert ledger.aliases.of("mail") == core.ledger.aliases.of("mail")
    finally:
        ledger.close()
    assert (there / "inbox" / "mail" / "task.toml").read_text() == "[training]\nrank = 4\n"


def test_unfinished_and_unclaimed_files_are_not_in_it(core: Core, tmp_path: Path) -> None:
    source = saved(core, tmp_path / "backup")
    names = {path.name for path in source.rglob("*")}
    assert not {".tmp-half", "unclaimed.jsonl", "bases", "jobs"} & names
    assert read_manifest(source).state == str(core.settings.state)


def test_changes_that_are_still_in_the_ledgers_log_are_in_the_backup(core: Core, tmp_path: Path) -> None:
    core.ledger.events.emit("drift.input", "just now")
    source = saved(core, tmp_path / "backup")
    ledger = Ledger(source / LEDGER_NAME)
    assert [row.message for row in ledger.events.after(0)][-1] == "just now"
    ledger.close()


def test_a_version_deleted_while_it_is_copied_makes_it_begin_again(
    core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_files, tries = backup._copy_files, []

    def deleting(*arguments: Any) -> None:
        tries.append(1)
        if len(tries) == 1:  # after the ledger was copied, before the files are
            core.ledger.versions.move("mail", 1, VersionState.RETIRED)
            core.ledger.versions.move("mail", 1, VersionState.DELETED)
            core.store.delete("mail", 1)
        copy_files(*arguments)

    monkeypatch.setattr(backup, "_copy_files", deleting)
    source = saved(core, tmp_path / "backup")
    assert len(tries) == 2
    assert read_manifest(source).versions == len(core.ledger.versions.find()) - 1


def test_a_damaged_version_is_told_of_and_nothing_is_left(core: Core, tmp_path: Path) -> None:
    weights = core.store.folder("mail", 1) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BackupFailed, match=r"mail@1: adapter_model.safetensors is not what was published"):
        saved(core, tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_backup_that_lost_a_file_is_not_restored(core: Core, tmp_path: Path) -> None:
    source = saved(core, tmp_path / "backup")
    (source / "spool" / "drop-1").unlink()
    with pytest.raises(BackupFailed, match="not whole"):
        restore(source, tmp_path / "there", tmp_path / "there" / "inbox")
    assert not (tmp_path / "there" / LEDGER_NAME).exists()


def test_neither_overwrites_what_is_there(core: Core, tmp_path: Path) -> None:
    source = saved(core, tmp_path / "backup")
    with pytest.raises(BackupFailed, match="exists already"):
        saved(core, source)
    with pytest.raises(BackupFailed, match="has a ledger"):
        restore(source, core.settings.state, core.settings.inbox_dir)
    with pytest.raises(BackupFailed, match="holds no ledger"):
        back_up(tmp_path / "nowhere", tmp_path, tmp_path / "other")


def test_what_is_no_backup_is_refused(core: Core, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="is no backup"):
        restore(tmp_path, tmp_path / "there", tmp_path / "inbox")
    source = saved(core, tmp_path / "backup")
    value = json.loads((source / "backup.json").read_text())
    (source / "backup.json").write_text(json.dumps({**value, "format": 2}))
    with pytest.raises(BackupFailed, match="format 2"):
        restore(source, tmp_path / "there", tmp_path / "inbox")


def test_a_daemon_on_the_folder_keeps_it(core: Core, tmp_path: Path) -> None:
    source, there = saved(core, tmp_path / "backup"), tmp_path / "there"
    there.mkdir()
    with FileLock(there / "adapterd.lock"), pytest.raises(AlreadyRunning):
        restore(source, there, there / "inbox")


def test_the_commands_say_what_was_copied(core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERD_STATE", str(core.settings.state))
    command = CommandLine(monkeypatch)
    made = command("backup", tmp_path / "backup", "--json")
    assert made.status == 0
    versions = len(core.ledger.versions.find())
    assert json.loads(made.out)["versions"] == versions
    monkeypatch.setenv("ADAPTERD_STATE", str(tmp_path / "there"))
    again = command("restore", tmp_path / "backup")
    assert again.status == 0
    assert f"{versions} versions, 1 drops" in again.out
    shutil.rmtree(tmp_path / "backup")
    assert command("restore", tmp_path / "backup").status == 1

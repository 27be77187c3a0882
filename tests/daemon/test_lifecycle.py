"""What people do to versions."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from adapterd.adapters.errors import BadRequest, BaseMismatch, UnknownAdapter, VersionNotServable
from adapterd.adapters.refs import AdapterRef
from adapterd.adapters.states import VersionState
from adapterd.daemon.core import Core
from adapterd.daemon.errors import AliasConflict, NotAllowed
from adapterd.daemon.states import JobState

from .real_core import publish, real_core


@pytest.fixture
def core(tmp_path: Path, tiny_base_folder: Path) -> Iterator[Core]:
    """The task "mood" with three versions, of which the first is champion."""
    with real_core(tmp_path, tiny_base_folder) as core:
        publish(core, "mood", 2)
        publish(core, "mood", 3, state=VersionState.REJECTED)
        core.lifecycle.sync()
        yield core


def served(core: Core, name: str = "mood") -> int:
    with core.manager.lease(AdapterRef.parse(name), "request") as lease:
        return lease.version


def test_promote_changes_what_the_next_request_gets_and_not_what_a_running_one_holds(core: Core) -> None:
    with core.manager.lease(AdapterRef.parse("mood"), "running") as running:
        moved = core.lifecycle.promote("mood", 2, expected=1, actor="person", reason="try it")
        assert (moved.origin, moved.to) == (1, 2)
        assert running.version == 1
        assert served(core) == 2
    assert core.ledger.aliases.of("mood") == {"champion": 2, "previous": 1}


def test_promote_loses_a_race_it_was_told_about(core: Core) -> None:
    core.lifecycle.promote("mood", 2, expected=1, actor="person", reason="first")
    with pytest.raises(AliasConflict):
        core.lifecycle.promote("mood", 3, expected=1, actor="person", reason="second")
    assert served(core) == 2


def test_a_rejected_version_is_made_available_by_its_promotion(core: Core) -> None:
    core.lifecycle.promote("mood", 3, expected=None, actor="person", reason="I know better")
    assert core.ledger.versions.get("mood", 3).state is VersionState.AVAILABLE
    assert served(core) == 3


def test_a_version_that_cannot_be_loaded_leaves_the_champion_serving(core: Core) -> None:
    weights = core.store.folder("mood", 2) / "adapter_model.safetensors"
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(Exception, match="mood@2"):
        core.lifecycle.promote("mood", 2, expected=None, actor="person", reason="try it")
    assert core.ledger.aliases.of("mood") == {"champion": 1}
    assert served(core) == 1


def test_revert_goes_to_previous_and_back(core: Core) -> None:
    core.lifecycle.promote("mood", 2, expected=None, actor="person", reason="try it")
    assert core.lifecycle.revert("mood", None, actor="person").to == 1
    assert served(core) == 1
    assert core.lifecycle.revert("mood", None, actor="person").to == 2
    assert core.lifecycle.revert("mood", 1, actor="person").to == 1
    moves = [(move.alias, move.from_version, move.to_version) for move in core.ledger.aliases.history("mood")]
    assert [move for move in moves if move[0] == "champion"][-1] == ("champion", 2, 1)


def test_revert_without_a_previous_one_says_so(core: Core) -> None:
    with pytest.raises(NotAllowed, match="no previous one"):
        core.lifecycle.revert("mood", None, actor="person")
    with pytest.raises(NotAllowed, match="champion already"):
        core.lifecycle.revert("mood", 1, actor="person")
    with pytest.raises(UnknownAdapter):
        core.lifecycle.revert("nothing", None, actor="person")


def test_delete_keeps_the_row_and_the_number_and_refuses_what_an_alias_names(core: Core) -> None:
    with pytest.raises(NotAllowed, match="champion"):
        core.lifecycle.delete("mood", 1, actor="person")
    assert core.lifecycle.delete("mood", 2, actor="person").state is VersionState.DELETED
    assert not core.store.folder("mood", 2).exists()
    with pytest.raises(VersionNotServable):
        served(core, "mood@2")
    with pytest.raises(VersionNotServable):
        core.lifecycle.promote("mood", 2, expected=None, actor="person", reason="too late")
    assert core.lifecycle.delete("mood", 2, actor="person").state is VersionState.DELETED


def test_retention_keeps_named_pinned_and_the_newest(core: Core) -> None:
    for number in range(4, 9):
        publish(core, "mood", number)
    core.ledger.versions.pin("mood", 4, True)
    deleted = core.lifecycle.retain(keep_newest=2)
    assert sorted(row.version for row in deleted) == [2, 3, 5, 6]
    assert core.lifecycle.retain(keep_newest=2) == []


def test_a_pinned_version_is_not_deleted_by_hand_until_it_is_let_go(core: Core) -> None:
    assert core.lifecycle.pin("mood", 2, True, actor="ada").pinned
    core.lifecycle.pin("mood", 2, True, actor="ada")
    with pytest.raises(NotAllowed, match="pinned") as refused:
        core.lifecycle.delete("mood", 2, actor="ada")
    assert "adapterd pin mood@2 --off" in refused.value.hint
    assert not core.lifecycle.pin("mood", 2, False, actor="ada").pinned
    assert core.lifecycle.delete("mood", 2, actor="ada").state is VersionState.DELETED
    told = [event.kind for event in core.ledger.events.after(0) if "pinned" in event.kind]
    assert told == ["version.pinned", "version.unpinned"]


def test_what_is_deleted_or_unknown_cannot_be_pinned(core: Core) -> None:
    core.lifecycle.delete("mood", 2, actor="ada")
    with pytest.raises(VersionNotServable):
        core.lifecycle.pin("mood", 2, True, actor="ada")
    with pytest.raises(UnknownAdapter):
        core.lifecycle.pin("mood", 9, True, actor="ada")


def test_files_of_a_deleted_version_that_a_kill_left_are_swept_at_start(core: Core) -> None:
    core.ledger.versions.move("mood", 3, VersionState.DELETED)
    core.lifecycle.sweep()
    assert not core.store.folder("mood", 3).exists()


def test_an_exported_version_can_be_imported_and_promoted(core: Core, tmp_path: Path) -> None:
    exported = core.exchange.export_folder("mood", 2, tmp_path / "out", merge=False)
    row = core.exchange.import_folder("copy", exported, actor="person")
    assert (row.task, row.version, row.state) == ("copy", 1, VersionState.CANDIDATE)
    core.lifecycle.promote("copy", 1, expected=None, actor="person", reason="imported")
    assert served(core, "copy") == 1
    assert core.store.template("copy", 1) == core.store.template("mood", 2)


def test_an_adapter_of_another_base_is_refused(core: Core, tmp_path: Path) -> None:
    exported = core.exchange.export_folder("mood", 2, tmp_path / "out", merge=False)
    manifest = exported / "manifest.json"
    manifest.chmod(0o600)
    manifest.write_text(manifest.read_text("utf-8").replace(core.base.fingerprint, "0" * 64), "utf-8")
    with pytest.raises(BaseMismatch):
        core.exchange.import_folder("copy", exported, actor="person")


def test_a_merged_export_is_a_plain_model_with_the_adapter_in_it(core: Core, tmp_path: Path) -> None:
    merged = core.exchange.export_folder("mood", 2, tmp_path / "merged", merge=True)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in merged.iterdir()}
    assert not (merged / "adapter_config.json").exists()
    with pytest.raises(BadRequest):
        core.exchange.export_folder("mood", 2, merged, merge=True)


def test_what_a_job_builds_on_is_deleted_by_neither_retention_nor_a_person(core: Core, tmp_path: Path) -> None:
    row, _ = core.ledger.drops.claim("mood", "a.jsonl", "0" * 64, 1, tmp_path / "a.jsonl")
    job = core.ledger.jobs.queue("mood", row.id)
    core.ledger.jobs.build_on(job.id, 2)
    publish(core, "mood", 4)
    publish(core, "mood", 5)
    assert [deleted.version for deleted in core.lifecycle.retain(0)] == [5, 4, 3]
    with pytest.raises(NotAllowed, match=f"the training of drop {job.drop} builds on mood@2"):
        core.lifecycle.delete("mood", 2, actor="person")
    core.ledger.jobs.move(job.id, JobState.CANCELLED)
    assert core.lifecycle.delete("mood", 2, actor="person").state is VersionState.DELETED

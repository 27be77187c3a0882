"""What is forgotten is in no file, versions that learned from it are named, and retraining does without."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from adapterd.adapters.errors import BadRequest
from adapterd.adapters.states import VersionState
from adapterd.daemon.core import Core
from adapterd.daemon.dataset import Dataset
from adapterd.daemon.errors import NotAllowed, UnknownDrop
from adapterd.daemon.forgetting import versions_that_saw
from adapterd.daemon.ledger import DropRow, VersionRow
from adapterd.daemon.problems import problems
from adapterd.daemon.states import DropState
from hypothesis import given
from hypothesis import strategies as st

from .learning_core import drop, finished, learning_core, rows, work

SECRET = "Ada Lovelace"
ROW = VersionRow(
    task="colours",
    version=1,
    state=VersionState.AVAILABLE,
    digest="",
    parent=0,
    drop=0,
    fingerprint="",
    metrics={},
    verdict="promote",
    reason="",
    pinned=False,
    created=0.0,
    updated=0.0,
)


@pytest.fixture
def core(tmp_path: Path, tiny_base_folder: Path) -> Iterator[Core]:
    with learning_core(tmp_path, tiny_base_folder) as core:
        yield core


def learned(core: Core, name: str, text: str) -> DropRow:
    """A drop that became a version, champion whatever the gate says."""
    row = drop(core, "colours", name, text)
    work(core, finished(core, row))
    row = core.ledger.drops.get(row.id)
    assert row.state is DropState.DONE, row.reason
    core.lifecycle.promote("colours", row.version, expected=None, actor="test", reason="to build upon")
    return row


def about(number: int) -> str:
    return json.dumps({"text": f"red {number} for  Ada\u00a0LOVELACE", "label": "warm"}) + "\n"


def kept(core: Core) -> str:
    """Everything that is kept of rows, one text."""
    folders = [core.settings.state / name for name in ("data", "quarantine", "jobs", "spool")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return " ".join(path.read_bytes().decode("utf-8", "replace") for path in files).casefold()


def test_rows_that_hold_a_text_are_in_no_file_afterwards_and_nobody_learns_them_again(core: Core) -> None:
    first = learned(core, "a.jsonl", rows(0, 40))
    second = learned(core, "b.jsonl", rows(100, 30) + about(1) + about(2) + '{"text": "ada lovelace", "lab')
    third = learned(core, "c.jsonl", rows(200, 30))
    assert "lovelace" in kept(core)

    looked = core.forgetting.find(None, text=SECRET)
    assert [(one.drop.id, one.rows, one.learned + one.judged, one.bad) for one in looked] == [(second.id, 2, 2, 1)]
    assert "lovelace" in kept(core)
    saw = {2: (second.id,), 3: (second.id,)}
    assert core.forgetting.saw("colours", looked) == (saw if looked[0].learned else {})

    assert core.forgetting.forget("colours", text=SECRET, actor="test") == looked
    assert "lovelace" not in kept(core)
    told = [row for row in core.ledger.events.after(0, "colours") if row.kind == "rows.forgotten"]
    assert len(told) == 1
    assert "lovelace" not in json.dumps([row.message for row in told]).casefold()
    after = core.ledger.drops.get(second.id)
    assert (after.rows, after.bad_rows) == (30, 0)
    assert core.forgetting.find(None, text=SECRET) == []
    assert core.forgetting.saw("colours") == saw
    assert any("colours@2, colours@3" in said for said in problems(core, 0.0))

    done = core.forgetting.retrain("colours", actor="test")
    assert (done.champion, done.deleted, done.drops) == (1, (2, 3), (second.id, third.id))
    assert core.ledger.aliases.of("colours") == {"champion": 1}
    assert not core.store.folder("colours", 2).exists()
    work(core, lambda: core.ledger.drops.get(third.id).state is DropState.DONE)
    assert core.ledger.drops.get(second.id).version == 4
    assert core.store.manifest("colours", 4)["data"]["earlier_drops"] == [first.id]
    assert core.forgetting.saw("colours") == {}
    with pytest.raises(NotAllowed, match="no version of colours has learned"):
        core.forgetting.retrain("colours", actor="test")


def test_a_drop_is_forgotten_as_a_whole_and_the_next_version_is_not_judged_by_it(core: Core) -> None:
    first = learned(core, "a.jsonl", rows(0, 40))
    core.forgetting.forget(None, drop=first.id, actor="test")
    dataset = Dataset.below(core.settings.state)
    assert not dataset.folder("colours", first.id).exists()
    assert core.ledger.drops.get(first.id).rows == 0

    second = learned(core, "b.jsonl", rows(100, 30))
    assert core.store.manifest("colours", 2)["data"]["earlier_drops"] == []
    assert core.forgetting.saw("colours") == {1: (first.id,), 2: (first.id,)}

    # Nothing is left that saw nothing of it, so the task begins anew with what is left.
    done = core.forgetting.retrain("colours", actor="test")
    assert (done.champion, done.deleted, done.drops) == (0, (1, 2), (second.id,))
    assert core.ledger.aliases.of("colours") == {}
    work(core, finished(core, second))
    assert core.ledger.versions.get("colours", 3).parent == 0


def test_nothing_is_forgotten_while_a_drop_is_on_its_way(core: Core) -> None:
    row = drop(core, "colours", "a.jsonl", rows(0, 40))
    with pytest.raises(NotAllowed, match=f"drop {row.id} of colours is claimed"):
        core.forgetting.forget(None, text="red", actor="test")
    assert core.forgetting.find("colours", text="red")[0].unsearched


def test_what_was_interrupted_is_ended_by_asking_again_and_no_version_is_missed(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = learned(core, "a.jsonl", rows(0, 40))
    dataset = Dataset.below(core.settings.state)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for method in ("write_rows", "write_findings"):  # the last thing that is written, and an early one
        with monkeypatch.context() as patch:
            patch.setattr(Dataset, method, killed)
            with pytest.raises(KeyboardInterrupt):
                core.forgetting.forget(None, text="red", actor="test")
        assert core.forgetting.saw("colours") == {1: (row.id,)}
        assert core.forgetting.find(None, text="red")[0].rows == 10
    core.forgetting.forget(None, text="red", actor="test")
    assert [line.example.prompt for line in dataset.read_rows("colours", row.id) if "red" in line.example.prompt] == []
    assert core.forgetting.saw("colours") == {1: (row.id,)}
    assert core.ledger.drops.get(row.id).rows == 30


def test_a_drop_of_another_task_is_not_forgotten(core: Core) -> None:
    row = drop(core, "colours", "a.jsonl", rows(0, 40))
    with pytest.raises(UnknownDrop, match="is of colours, not of mood"):
        core.forgetting.find("mood", drop=row.id)


def test_exactly_one_of_text_and_drop_is_named(core: Core) -> None:
    for wrong in ({}, {"text": "  "}, {"text": "red", "drop": 1}):
        with pytest.raises(BadRequest, match="either a text or a drop"):
            core.forgetting.find(None, **wrong)


def test_a_file_that_could_not_be_read_is_named_and_removed_with_its_drop(core: Core) -> None:
    row = drop(core, "colours", "a.parquet", "Ada Lovelace " * 2000)
    work(core, finished(core, row))
    (found,) = core.forgetting.find(None, text="somebody else")
    assert (found.drop.id, found.rows, found.unsearched) == (row.id, 0, True)
    assert core.ledger.drops.get(row.id).state is DropState.QUARANTINED
    core.forgetting.forget(None, drop=row.id, actor="test")
    assert "lovelace" not in kept(core)
    assert core.forgetting.find(None, text="somebody else") == []
    with pytest.raises(NotAllowed, match="is done"):
        core.worker.release(row.id)


def test_a_version_saw_what_it_was_trained_on_before_it_was_forgotten_and_what_its_parents_saw() -> None:
    chain = [replace(ROW, version=number, parent=number - 1, drop=10 * number) for number in (1, 2, 3)]
    again = replace(ROW, version=4, parent=1, drop=20)
    other = replace(ROW, version=5, parent=2, drop=50)
    assert versions_that_saw([*chain, again, other], {20: 4}) == {2: (20,), 3: (20,), 5: (20,)}
    gone = replace(chain[1], state=VersionState.DELETED)
    assert versions_that_saw([chain[0], gone, chain[2]], {20: 4}) == {3: (20,)}
    assert versions_that_saw(chain, {}) == {}


@given(parents=st.lists(st.integers(0, 30), min_size=1, max_size=12), gone=st.sets(st.integers(1, 12)))
def test_a_version_saw_a_drop_exactly_if_one_behind_it_was_trained_on_it(parents: list[int], gone: set[int]) -> None:
    versions = [
        replace(ROW, version=number, parent=parent % number, drop=number) for number, parent in enumerate(parents, 1)
    ]
    saw = versions_that_saw(versions, dict.fromkeys(gone, len(versions) + 1))
    for row in versions:
        behind = set()
        at = row.version
        while at:
            behind.add(at)
            at = versions[at - 1].parent
        assert set(saw.get(row.version, ())) == behind & gone

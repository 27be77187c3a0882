"""`doctor --repair`: ledger and store agree afterwards, nothing is deleted, and what is sound is not touched."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from adapterd.adapters.states import VersionState
from adapterd.daemon.errors import AlreadyRunning
from adapterd.daemon.ledger import LEDGER_NAME, Ledger
from adapterd.daemon.repair import repair
from adapterd.daemon.salvage import damage_of
from adapterd.daemon.state_folder import own_state

from .cli_runner import CommandLine
from .real_core import publish, real_core

PAGE = 4096


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path) -> Path:
    """A state folder with five versions of "mood", 4 the champion and 3 the one before; 400 events."""
    folder = tmp_path_factory.mktemp("repair")
    with real_core(folder, tiny_base_folder) as core:
        for version in range(2, 6):
            publish(core, "mood", version)
        for version in (3, 4):
            core.lifecycle.promote("mood", version, expected=None, actor="test", reason="better")
        for number in range(400):
            core.ledger.events.emit("drop.claimed", f"event {number} of many, so that there are pages of them")
    return folder / "state"


@pytest.fixture
def state(template: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    copy = tmp_path / "state"
    shutil.copytree(template, copy)
    return copy


@pytest.fixture
def ledger(state: Path) -> Iterator[Callable[[], Ledger]]:
    """Opens the ledger as it is now."""
    opened: list[Ledger] = []

    def open_() -> Ledger:
        opened.append(Ledger(state / LEDGER_NAME))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def weights(state: Path, version: int) -> Path:
    return state / "adapters" / "mood" / f"{version:06d}" / "adapter_model.safetensors"


def spoil(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def test_what_is_sound_is_not_touched(state: Path, ledger: Callable[[], Ledger]) -> None:
    before = ledger().events.last_id()
    assert repair(state) == []
    assert ledger().events.last_id() == before


def test_a_folder_that_a_daemon_owns_is_left_alone(state: Path) -> None:
    with ExitStack() as cleanup:
        own_state(state, cleanup)
        with pytest.raises(AlreadyRunning):
            repair(state)


def test_a_version_without_a_row_becomes_a_candidate(state: Path, ledger: Callable[[], Ledger]) -> None:
    with sqlite3.connect(state / LEDGER_NAME) as connection:
        connection.execute("DELETE FROM versions WHERE version = 5")
    connection.close()
    (done,) = repair(state)
    assert (done.kind, done.task, done.version) == ("adopted", "mood", 5)
    row = ledger().versions.get("mood", 5)
    assert (row.state, row.parent, row.metrics) == (VersionState.CANDIDATE, 4, {"loss": 0.2})
    assert ledger().tasks.next_version("mood") == 6
    assert repair(state) == []


def test_where_the_champion_is_damaged_the_one_before_takes_its_place(
    state: Path, ledger: Callable[[], Ledger]
) -> None:
    spoil(weights(state, 4))
    (done,) = repair(state)
    assert done.kind == "damaged"
    assert "mood@3 is champion in its place" in done.message
    assert ledger().aliases.of("mood") == {"champion": 3}
    assert ledger().versions.get("mood", 4).state is VersionState.DELETED
    assert not weights(state, 4).exists()
    (kept,) = (state / "damaged" / "mood").iterdir()
    assert kept.name.startswith("000004-")
    assert (kept / "adapter_model.safetensors").is_file()


def test_an_ancestor_stands_in_where_the_previous_one_is_damaged_too(state: Path, ledger: Callable[[], Ledger]) -> None:
    shutil.rmtree(weights(state, 3).parent)
    spoil(weights(state, 4))
    assert {(one.kind, one.version) for one in repair(state)} == {("damaged", 3), ("damaged", 4)}
    assert ledger().aliases.of("mood") == {"champion": 2}


def test_a_task_whose_versions_are_all_damaged_has_no_champion(state: Path, ledger: Callable[[], Ledger]) -> None:
    for version in range(1, 6):
        spoil(weights(state, version))
    assert len(repair(state)) == 5
    assert ledger().aliases.of("mood") == {}


def test_what_an_interrupted_publish_left_is_removed(state: Path) -> None:
    left = state / "adapters" / "mood" / ".tmp-000006-abc"
    left.mkdir()
    assert [one.kind for one in repair(state)] == ["leftover"]
    assert not left.exists()


@pytest.mark.parametrize("part", [0.3, 0.5, 0.7, 0.9])
def test_of_a_damaged_ledger_what_can_be_read_is_kept(state: Path, ledger: Callable[[], Ledger], part: float) -> None:
    path = state / LEDGER_NAME
    assert damage_of(path) == ""
    pages = path.stat().st_size // PAGE
    with path.open("r+b") as file:
        file.seek(int(pages * part) * PAGE)
        file.write(os.urandom(2 * PAGE))
    if not damage_of(path):
        pytest.skip("the pages are free ones")
    done = repair(state)
    assert done[0].kind == "ledger"
    assert damage_of(path) == ""
    assert len(list(state.glob(f"{LEDGER_NAME}.damaged-*"))) >= 1
    # Whatever pages are lost, all versions are known again, from the ledger or from the store.
    assert [row.version for row in ledger().versions.find("mood")] == [1, 2, 3, 4, 5]
    assert ledger().tasks.next_version("mood") == 6
    assert repair(state) == []


def test_a_ledger_that_is_none_any_more_is_made_anew_from_the_store(state: Path, ledger: Callable[[], Ledger]) -> None:
    (state / LEDGER_NAME).write_bytes(b"no database" * 1000)
    kinds = [one.kind for one in repair(state)]
    assert kinds == ["ledger", *["adopted"] * 5]
    assert {row.state for row in ledger().versions.find("mood")} == {VersionState.CANDIDATE}
    assert (state / LEDGER_NAME).stat().st_mode & 0o777 == 0o600


def test_each_repair_is_an_event(state: Path, ledger: Callable[[], Ledger]) -> None:
    spoil(weights(state, 2))
    repair(state)
    last = ledger().events.after(0)[-1]
    assert (last.kind, last.task, last.version, last.actor) == ("repair.damaged", "mood", 2, "daemon")


def test_the_command_says_what_it_did(state: Path, alone: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERD_STATE", str(state))
    assert "nothing to repair" in alone("doctor", "--repair").out
    spoil(weights(state, 2))
    (said,) = json.loads(alone("doctor", "--repair", "--json").out)["repairs"]
    assert (said["kind"], said["task"], said["version"]) == ("damaged", "mood", 2)

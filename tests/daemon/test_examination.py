"""What the doctor measures on this machine, in folders of a test."""

import json
import os
import socket
from pathlib import Path

import pytest
from adapterd.daemon.cli_options import Whereabouts
from adapterd.daemon.doctor import Check
from adapterd.daemon.examination import examine_machine

from .fake_daemon import FakeDaemon

pytestmark = pytest.mark.usefixtures("clean_environment")


def findings(place: Whereabouts | None = None) -> dict[str, Check]:
    """Every check by its name."""
    checks = examine_machine(place or Whereabouts())
    assert len({check.name for check in checks}) == len(checks)
    return {check.name: check for check in checks}


def statuses(place: Whereabouts | None = None) -> dict[str, str]:
    """Every check's status by its name, those left out that depend on this machine."""
    depends = ("libraries", "disk", "memory", "cores", "inotify")
    return {name: check.status for name, check in findings(place).items() if name not in depends}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder, there already."""
    folder = tmp_path / "state-home" / "adapterd"
    folder.mkdir(parents=True, mode=0o750)
    return folder


def test_fresh_machine_has_nothing_wrong_and_nothing_yet() -> None:
    assert statuses() == {
        **dict.fromkeys(("python", "settings", "state", "clock", "inbox", "device", "address"), "ok"),
        "base": "warn",
        "daemon": "warn",
    }


def test_running_daemon_answers(fake: FakeDaemon, state: Path) -> None:
    found = findings(Whereabouts(address=fake.address))
    assert found["daemon"].message == f"adapterd 0.1.0 answers at {fake.address}"
    assert found["socket"].status == "ok"


def test_warnings_of_the_daemon_are_passed_on(fake: FakeDaemon) -> None:
    fake.warnings = ("the disk is nearly full",)
    check = findings(Whereabouts(address=fake.address))["daemon"]
    assert check.status == "warn"
    assert "nearly full" in check.message


def test_file_where_the_socket_should_be(state: Path) -> None:
    (state / "adapterd.sock").touch()
    assert statuses()["socket"] == "fail"


def test_socket_that_nobody_listens_at_is_told_from_the_daemons(state: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(state / "adapterd.sock"))
    (state / "adapterd.sock").chmod(0o660)
    found = findings()
    assert (found["socket"].status, found["daemon"].status) == ("ok", "warn")


def test_address_that_other_machines_reach_is_refused() -> None:
    assert statuses(Whereabouts(address="0.0.0.0:50051"))["address"] == "fail"


def test_open_state_folder(state: Path) -> None:
    state.chmod(0o755)
    assert statuses()["privacy"] == "warn"
    state.chmod(0o777)
    assert statuses()["privacy"] == "fail"


def test_file_where_the_state_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "state-home").mkdir()
    (tmp_path / "state-home" / "adapterd").touch()
    assert statuses()["state"] == "fail"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_state_folder_of_another_user_is_not_called_broken(state: Path) -> None:
    state.parent.chmod(0)
    try:
        found = findings()
    finally:
        state.parent.chmod(0o700)
    assert (found["state"].status, found["inbox"].status) == ("warn", "warn")
    assert "base" not in found


def test_ledger_from_the_future(state: Path) -> None:
    (state / "adapterd.sqlite3").touch()
    os.utime(state / "adapterd.sqlite3", (4e9, 4e9))
    assert statuses()["clock"] == "warn"


def test_wrong_settings_end_what_depends_on_them(tmp_path: Path) -> None:
    (tmp_path / "adapterd.toml").write_text("settle_s = -1")
    found = findings()
    assert found["settings"].status == "fail"
    assert set(found) == {"python", "libraries", "settings"}


def test_wrong_task_settings_end_nothing(state: Path) -> None:
    (state / "inbox" / "mood").mkdir(parents=True)
    (state / "inbox" / "mood" / "task.toml").write_text("nonsense = 1")
    found = findings()
    assert found["settings"].status == "fail"
    assert found["inbox"].status == "ok"


def test_local_base_is_looked_at_where_it_lies(clean_environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "my-base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(100))
    clean_environment.setenv("ADAPTERD_BASE", str(folder))
    assert findings()["base"].message == f"{folder} in {folder}"


def test_damaged_base_is_found(clean_environment: pytest.MonkeyPatch, state: Path) -> None:
    folder = state / "bases" / "tiny-1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    note = {"sha256": "0" * 64, "size": 5, "mtime_ns": 1}
    (folder / "source.json").write_text(json.dumps({"name": "tiny", "files": {"config.json": note}}))
    clean_environment.setenv("ADAPTERD_BASE", "tiny")
    check = findings()["base"]
    assert check.status == "fail"
    assert "config.json differs" in check.message

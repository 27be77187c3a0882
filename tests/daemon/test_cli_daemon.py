"""serve, status, doctor, config check, base pull and list."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from adapterd.daemon.config import Settings

from .cli_runner import CommandLine
from .fake_daemon import FakeDaemon


def test_serve_hands_over_the_settings_and_ends_with_its_status(
    alone: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[tuple[Settings, Path | None]] = []
    stand_in = ModuleType("adapterd.daemon.serve")

    def run(settings: Settings, config: Path | None = None) -> int:
        seen.append((settings, config))
        return 3

    stand_in.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "adapterd.daemon.serve", stand_in)
    (tmp_path / "mine.toml").write_text('base = "tiny"')
    ended = alone("serve", "--config", tmp_path / "mine.toml", "--address", "127.0.0.1:0")
    assert ended.status == 3
    assert [(settings.base, settings.bind, config) for settings, config in seen] == [
        ("tiny", "127.0.0.1:0", tmp_path / "mine.toml")
    ]


def test_serve_with_wrong_settings_exits_1_before_anything_is_loaded(alone: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "adapterd.toml").write_text("[training]\nrank = 0")
    ended = alone("serve")
    assert ended.status == 1
    assert "training.rank" in ended.err


def test_status_is_one_screen(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.warnings = ("the disk is nearly full",)
    ended = adapterd("status")
    assert ended.status == 0
    for found in ("0.1.0", "4711", "tiny, nf4 on cpu", "512 MB", "2 of 32 slots", "mood@2", "training", "42%"):
        assert found in ended.out
    assert "the disk is nearly full" in ended.out
    assert len(ended.out.splitlines()) < 24


def test_status_of_an_empty_daemon_says_how_to_begin(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.versions.clear()
    assert "adapterd drop TASK FILE" in adapterd("status").out


def test_status_json_is_one_document(adapterd: CommandLine, fake: FakeDaemon) -> None:
    document = json.loads(adapterd("status", "--json").out)
    assert document["schema"] == 1
    assert document["tasks"][0]["champion"] == 2
    assert document["jobs"][0]["progress"] == 0.42
    assert document["started"] == "2026-07-28T12:00:00.000Z"
    assert document["address"] == fake.address


def test_config_check_names_every_setting_with_its_source(alone: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "adapterd.toml").write_text("[training]\nrank = 4\n")
    alone.patch.setenv("ADAPTERD_TRAINING__EPOCHS", "7")
    ended = alone("config", "check")
    assert ended.status == 0
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in ended.out.splitlines()}
    assert rows["training.rank"] == ["4", "adapterd.toml"]
    assert rows["training.epochs"] == ["7", "$ADAPTERD_TRAINING__EPOCHS"]
    assert rows["gate.margin_accuracy"] == ["0.05", "default"]


def test_config_check_exits_1_and_says_what_is_wrong_beside_all_values(alone: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "adapterd.toml").write_text("[training]\nrank = 0\nranc = 3\n")
    ended = alone("config", "check")
    assert ended.status == 1
    assert "training.rank" in ended.err
    assert "training.ranc: no such setting" in ended.err
    assert "training.rank" in ended.out


def test_config_check_warns_of_a_variable_that_names_no_setting(alone: CommandLine) -> None:
    alone.patch.setenv("ADAPTERD_TRANING__RANK", "4")
    ended = alone("config", "check")
    assert ended.status == 0
    assert "warning: $ADAPTERD_TRANING__RANK" in ended.err


def test_config_check_json(alone: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "adapterd.toml").write_text("settle_s = -1")
    ended = alone("config", "check", "--json")
    document = json.loads(ended.out)
    assert ended.status == 1
    assert document["schema"] == 1
    assert document["ok"] is False
    assert document["file"] == "adapterd.toml"
    assert "settle_s" in document["errors"][0]
    settle = next(row for row in document["settings"] if row["name"] == "settle_s")
    assert {"value": -1, "source": "adapterd.toml"}.items() <= settle.items()


def test_config_check_of_a_missing_file_is_an_error(alone: CommandLine, tmp_path: Path) -> None:
    ended = alone("config", "check", "--config", tmp_path / "none.toml")
    assert ended.status == 1
    assert "does not exist" in ended.err


def test_doctor_prints_every_check_and_exits_1_only_if_one_fails(adapterd: CommandLine, tmp_path: Path) -> None:
    ended = adapterd("doctor")
    assert ended.status == 0
    for name in ("python", "state", "inbox", "disk", "base", "memory", "daemon", "cores", "clock"):
        assert f" {name} " in ended.out
    (tmp_path / "adapterd.toml").write_text("settle_s = -1")
    ended = adapterd("doctor", "--json")
    document = json.loads(ended.out)
    assert ended.status == 1
    assert (document["schema"], document["ok"]) == (1, False)
    assert [check["name"] for check in document["checks"] if check["status"] == "fail"] == ["settings"]


@pytest.fixture
def with_base(alone: CommandLine, tmp_path: Path) -> Path:
    """A folder in `bases` that is a base as far as can be seen from outside."""
    folder = tmp_path / "state-home" / "adapterd" / "bases" / "tiny-1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(2000))
    source = {"name": "tiny", "licence": "Apache-2.0", "origin": {"made": "from a seed"}, "files": {}}
    (folder / "source.json").write_text(json.dumps(source))
    return folder


def test_base_list_shows_what_lies_there(alone: CommandLine, with_base: Path) -> None:
    ended = alone("base", "list")
    assert ended.status == 0
    assert ended.out.splitlines()[1].split() == ["tiny", "2.09", "kB", "Apache-2.0", str(with_base)]
    document = json.loads(alone("base", "list", "--json").out)
    assert document["configured"] == "smollm2-135m"
    assert document["bases"][0]["origin"] == {"made": "from a seed"}


def test_base_list_of_nothing_says_so(alone: CommandLine) -> None:
    ended = alone("base", "list")
    assert (ended.status, ended.out) == (0, "")
    assert "base pull" in ended.err


def test_base_pull_makes_the_base_once(alone: CommandLine, tmp_path: Path) -> None:
    alone.patch.setenv("ADAPTERD_BASE", "tiny")
    first, second = alone("base", "pull", "--json"), alone("base", "pull", "--json")
    folder = Path(json.loads(first.out)["folder"])
    assert (folder / "model.safetensors").is_file()
    assert tmp_path in folder.parents
    assert json.loads(second.out)["folder"] == str(folder)
    assert "tiny" in alone("base", "list").out
    checks = {check["name"]: check for check in json.loads(alone("doctor", "--json").out)["checks"]}
    assert checks["base"]["status"] == "ok"
    (folder / "model.safetensors").write_bytes(b"other")
    checks = {check["name"]: check for check in json.loads(alone("doctor", "--json").out)["checks"]}
    assert checks["base"]["status"] == "fail"
    assert "base pull" in checks["base"]["hint"]

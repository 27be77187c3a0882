"""Folders on the person's side of an export or import."""

import os
import stat
from pathlib import Path

import pytest
from adapterd.adapters.errors import UnsafeImport
from adapterd.adapters.signature import SIGNATURE, SUMS
from adapterd.daemon.errors import NotAllowed
from adapterd.daemon.peft_folder import adapter_files, fresh_folder, packed_adapter
from adapterd.daemon.transfer import unpack


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A folder as PEFT leaves it after a training."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "README.md", "optimizer.pt"):
        (folder / name).write_text(name)
    (folder / "checkpoint-1").mkdir()
    return folder


def break_off_in(target: Path) -> None:
    """Fill a target half, and stop."""
    with fresh_folder(target) as temp:
        (temp / "a").write_text("1")
        raise KeyboardInterrupt


def test_import_takes_the_adapter_alone(adapter: Path, tmp_path: Path) -> None:
    assert [path.name for path in adapter_files(adapter)] == ["adapter_config.json", "adapter_model.safetensors"]
    target = tmp_path / "target"
    target.mkdir()
    written = unpack(packed_adapter(adapter), target)
    assert {path.name: path.read_text() for path in written} == {
        name: name for name in ("adapter_config.json", "adapter_model.safetensors")
    }


def test_import_takes_what_an_export_has_besides(adapter: Path) -> None:
    (adapter / "template.json").touch()
    assert "template.json" in [path.name for path in adapter_files(adapter)]


def test_import_takes_along_who_vouches_for_it(adapter: Path) -> None:
    for name in (SUMS, SIGNATURE):
        (adapter / name).touch()
    assert {SUMS, SIGNATURE} <= {path.name for path in adapter_files(adapter)}


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_folder_that_is_no_adapter_is_refused(adapter: Path, missing: str) -> None:
    (adapter / missing).unlink()
    with pytest.raises(UnsafeImport, match=missing):
        adapter_files(adapter)


def test_pickled_weights_are_refused_with_a_way_out(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(UnsafeImport, match="pickle") as refused:
        adapter_files(adapter)
    assert "safe_serialization" in refused.value.hint


def test_target_holds_everything_or_does_not_exist(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    with fresh_folder(target) as temp:
        (temp / "a").write_text("1")
        assert list(target.iterdir()) == [temp]
    assert [path.name for path in target.iterdir()] == ["a"]

    with pytest.raises(KeyboardInterrupt):
        break_off_in(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_exported_files_are_as_open_as_any_that_the_person_makes(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with fresh_folder(tmp_path / "target") as temp:
            (temp / "a").touch(mode=0o600)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "target" / "a").stat().st_mode) == 0o640


def test_empty_target_stays_empty_after_a_failure(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(KeyboardInterrupt):
        break_off_in(tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []


def test_target_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "mine").write_text("mine")
    with pytest.raises(NotAllowed, match="not empty"), fresh_folder(tmp_path / "target"):
        pass
    assert (tmp_path / "target" / "mine").read_text() == "mine"

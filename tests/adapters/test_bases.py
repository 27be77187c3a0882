"""Obtaining a base: once, whole, and again when it is damaged."""

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from adapterd.adapters import bases as bases_module
from adapterd.adapters.base import ensure_base
from adapterd.adapters.checkpoint import check_folder, fingerprint
from adapterd.adapters.durable import TEMP_PREFIX
from adapterd.adapters.errors import BaseUnavailable
from adapterd.adapters.provenance import SOURCE_FILE
from filelock import FileLock

WEIGHTS = "model.safetensors"


@pytest.fixture
def bases(tmp_path: Path) -> Path:
    return tmp_path / "state" / "bases"


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def _shown(bases: Path) -> list[str]:
    return sorted(path.name for path in bases.iterdir() if not path.name.endswith(".lock"))


def test_an_embedded_base_is_made_once(bases: Path) -> None:
    folder = ensure_base(bases, "tiny")
    check_folder(folder)
    assert folder.parent == bases
    assert _shown(bases) == [folder.name]
    before = _times(folder)
    assert ensure_base(bases, "tiny") == folder
    assert _times(folder) == before


def test_a_base_says_where_it_came_from(bases: Path) -> None:
    source = json.loads((ensure_base(bases, "tiny") / SOURCE_FILE).read_bytes())
    assert (source["name"], source["licence"]) == ("tiny", "Apache-2.0")
    assert WEIGHTS in source["files"]


@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "source"])
def test_a_damaged_base_is_set_aside_and_obtained_anew(
    bases: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = ensure_base(bases, "tiny")
    sound = fingerprint(folder, "nf4")
    weights = folder / WEIGHTS
    whole = weights.read_bytes()
    if harm == "flip":
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif harm == "cut":
        weights.write_bytes(whole[:1000])
    elif harm == "gone":
        weights.unlink()
    else:
        (folder / SOURCE_FILE).write_text("{", "utf-8")
    with caplog.at_level(logging.WARNING):
        assert ensure_base(bases, "tiny") == folder
    assert fingerprint(folder, "nf4") == sound
    assert weights.read_bytes() == whole
    assert _shown(bases) == [f"{TEMP_PREFIX}damaged-{folder.name}", folder.name]
    assert "is damaged" in caplog.text


def test_what_a_kill_left_is_removed(bases: Path) -> None:
    leftover = bases / f"{TEMP_PREFIX}tiny-1"
    leftover.mkdir(parents=True)
    (leftover / WEIGHTS).write_bytes(b"half")
    folder = ensure_base(bases, "tiny")
    assert _shown(bases) == [folder.name]


def test_two_at_once_obtain_it_once(bases: Path) -> None:
    barrier = threading.Barrier(4)

    def obtain(_: int) -> Path:
        barrier.wait(10)
        return ensure_base(bases, "tiny")

    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(obtain, range(4)))
    assert len(folders) == 1
    assert _shown(bases) == [folders.pop().name]


def test_a_lock_that_is_never_given_back_is_an_error_and_no_hang(bases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases_module, "LOCK_TIMEOUT", 0.05)
    bases.mkdir(parents=True)
    with FileLock(bases / ".tiny-1.lock"), pytest.raises(BaseUnavailable, match="another process has been obtaining"):
        ensure_base(bases, "tiny")


def test_a_local_folder_is_used_where_it_is(bases: Path, tiny_base_folder: Path) -> None:
    before = _times(tiny_base_folder)
    assert ensure_base(bases, str(tiny_base_folder)) == tiny_base_folder
    assert _times(tiny_base_folder) == before
    assert not bases.exists()


def test_a_local_folder_that_is_no_base_is_refused(bases: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseUnavailable, match=r"config\.json cannot be read"):
        ensure_base(bases, str(tmp_path))


@pytest.mark.parametrize("name", ["", "smollm3", "/no/such/folder", "./x", "a/b/c", "../x/y", "a b/c", "x/", "~/model"])
def test_a_name_that_means_nothing_says_what_would(bases: Path, name: str) -> None:
    with pytest.raises(BaseUnavailable) as caught:
        ensure_base(bases, name)
    assert "smollm2-135m" in caught.value.hint


def test_only_the_hub_has_revisions(bases: Path, tiny_base_folder: Path) -> None:
    for name in ("tiny", "smollm2-135m", str(tiny_base_folder)):
        with pytest.raises(BaseUnavailable, match="no revisions"):
            ensure_base(bases, name, "main")


def test_a_folder_that_cannot_be_written_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "bases").touch()
    with pytest.raises(BaseUnavailable, match="cannot be written") as caught:
        ensure_base(tmp_path / "bases", "tiny")
    assert caught.value.hint


def test_a_relative_folder_of_bases_is_that_below_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = ensure_base(Path("bases"), "tiny")
    assert made.is_absolute()
    assert made.parent == tmp_path / "bases"

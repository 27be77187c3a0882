"""What was written into a base's folder, and whether it is still there."""

import json
import os
from pathlib import Path

import pytest
from adapterd.adapters import provenance
from adapterd.adapters.provenance import SOURCE_FILE, damage, sha256_of, write_source

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "weights").write_bytes(b"hello")
    (tmp_path / "config").write_bytes(b"{}")
    write_source(tmp_path, name="x", licence="MIT", origin={"wheel": "w"})
    return tmp_path


def _stamp(path: Path) -> None:
    """Give a changed file the size and time that it had."""
    noted = json.loads((path.parent / SOURCE_FILE).read_bytes())["files"][path.name]
    os.utime(path, ns=(noted["mtime_ns"], noted["mtime_ns"]))


def test_the_source_names_origin_licence_and_hashes(folder: Path) -> None:
    source = json.loads((folder / SOURCE_FILE).read_bytes())
    assert (source["format"], source["name"], source["licence"], source["origin"]) == (1, "x", "MIT", {"wheel": "w"})
    assert source["files"]["weights"]["sha256"] == HELLO
    assert set(source["files"]) == {"weights", "config"}


def test_an_untouched_folder_is_sound(folder: Path) -> None:
    assert damage(folder) is None


def test_a_touched_but_equal_file_is_sound(folder: Path) -> None:
    os.utime(folder / "weights", (1, 1))
    assert damage(folder) is None


@pytest.mark.parametrize("content", [b"hellO", b"hell", b"hello!", b""])
def test_a_changed_file_is_found(folder: Path, content: bytes) -> None:
    (folder / "weights").write_bytes(content)
    os.utime(folder / "weights", (2, 2))
    assert damage(folder) == "weights differs from what was written (sha256)"


def test_a_missing_file_is_found(folder: Path) -> None:
    (folder / "config").unlink()
    assert damage(folder) == "config is missing"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"files": {"a": 1}}', '{"files": {"a": {"size": "x"}}}', None])
def test_a_broken_or_missing_source_is_damage(folder: Path, content: str | None) -> None:
    (folder / SOURCE_FILE).unlink()
    if content is not None:
        (folder / SOURCE_FILE).write_text(content, "utf-8")
    assert damage(folder) == f"{SOURCE_FILE} is missing or not what was written"


def test_an_unchanged_file_is_not_read_again(folder: Path) -> None:
    (folder / "weights").write_bytes(b"HELLO")
    _stamp(folder / "weights")
    assert sha256_of(folder / "weights") == HELLO  # what was noted: size and time are those of then


def test_a_file_without_a_note_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"hello")
    assert sha256_of(path) == HELLO
    hits = provenance._sha256.cache_info().hits
    assert sha256_of(path) == HELLO
    assert provenance._sha256.cache_info().hits == hits + 1
    path.write_bytes(b"hello!")
    assert sha256_of(path) != HELLO

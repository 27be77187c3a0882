"""Which bases lie there."""

import json
from pathlib import Path

import pytest
from adapterd.daemon.bases import find_base, installed_bases, weight_bytes


def make(folder: Path, name: str = "", **origin: str) -> Path:
    """A base as far as can be seen from outside."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(1000))
    if name:
        source = {"format": 1, "name": name, "licence": "Apache-2.0", "origin": origin, "files": {}}
        (folder / "source.json").write_text(json.dumps(source))
    return folder


def test_unfinished_and_damaged_bases_are_none(tmp_path: Path) -> None:
    make(tmp_path / "tiny-1", "tiny")
    make(tmp_path / ".tmp-tiny-2", "tiny")
    make(tmp_path / ".damaged-tiny-1", "tiny")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".lock").touch()
    assert [base.name for base in installed_bases(tmp_path)] == ["tiny"]
    assert installed_bases(tmp_path / "none") == []


def test_base_is_found_by_the_name_in_the_configuration(tmp_path: Path) -> None:
    make(tmp_path / "some-folder", "owner/model", commit="abc")
    assert find_base(tmp_path, "owner/other", None) is None
    found = find_base(tmp_path, "owner/model", None)
    assert found is not None
    assert (found.folder, found.licence) == (tmp_path / "some-folder", "Apache-2.0")
    assert weight_bytes(found) == 1000
    assert found.size > 1000


def test_local_folder_is_a_base_where_it_lies(tmp_path: Path) -> None:
    folder = make(tmp_path / "elsewhere")
    found = find_base(tmp_path / "bases", str(folder), None)
    assert found is not None
    assert (found.folder, found.name) == (folder, "")


@pytest.mark.parametrize(("revision", "there"), [("main", True), ("abc", True), ("other", False)])
def test_revision_has_to_be_the_one_that_was_fetched(tmp_path: Path, revision: str, there: bool) -> None:
    make(tmp_path / "owner--model--main", "owner/model", commit="abc")
    assert (find_base(tmp_path, "owner/model", revision) is not None) is there

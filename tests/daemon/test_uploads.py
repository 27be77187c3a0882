"""Files that come over gRPC."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from adapterd.adapters.errors import BadRequest
from adapterd.daemon.errors import NotAllowed
from adapterd.daemon.uploads import check_filename, receive, sweep

MIB = 1 << 20


def test_a_file_appears_whole_under_its_name(tmp_path: Path) -> None:
    upload = receive(tmp_path, "sms", "new.jsonl", [b'{"a"', b"", b": 1}\n"], max_bytes=MIB)
    assert upload.filename == "new.jsonl"
    assert upload.sha256 == hashlib.sha256(b'{"a": 1}\n').hexdigest()
    assert upload.size == 9
    assert [path.name for path in (tmp_path / "sms").iterdir()] == ["new.jsonl"]
    assert (tmp_path / "sms" / "new.jsonl").read_bytes() == b'{"a": 1}\n'


def test_while_it_comes_it_has_a_name_that_the_inbox_ignores(tmp_path: Path) -> None:
    seen: list[str] = []

    def pieces() -> Iterator[bytes]:
        yield b"1"
        seen.extend(path.name for path in (tmp_path / "sms").iterdir())

    receive(tmp_path, "sms", "new.csv", pieces(), max_bytes=MIB)
    assert len(seen) == 1
    assert seen[0].startswith(".")
    assert seen[0].endswith(".part")


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    names = [receive(tmp_path, "sms", "a.v1.jsonl.gz", [bytes([n])], max_bytes=MIB).filename for n in range(3)]
    assert names == ["a.v1.jsonl.gz", "a-2.v1.jsonl.gz", "a-3.v1.jsonl.gz"]
    assert [(tmp_path / "sms" / name).read_bytes() for name in names] == [b"\0", b"\1", b"\2"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../up.jsonl",
        "a/b.jsonl",
        "a\\b.jsonl",
        ".hidden.jsonl",
        "a\nb.jsonl",
        "a\0.jsonl",
        "a\x1b[31m.jsonl",
        "a\u202egnp.jsonl",
        "noend",
        "task.toml",
        "a.exe",
        "a.jsonl.part",
        "é" * 98 + ".jsonl",
    ],
)
def test_names_that_are_not_safe_or_say_nothing_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        receive(tmp_path, "sms", name, [b"1"], max_bytes=MIB)
    assert caught.value.details["field"] == "filename"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.jsonl", "a b.CSV", "é.tsv.zst", "數據.parquet", "a.json.gz", "a" * 194 + ".jsonl"])
def test_plain_names_are_taken(name: str) -> None:
    assert check_filename(name) == name


@pytest.mark.parametrize("pieces", [[], [b"", b""]])
def test_an_empty_file_is_refused_and_leaves_nothing(tmp_path: Path, pieces: list[bytes]) -> None:
    with pytest.raises(BadRequest):
        receive(tmp_path, "sms", "a.jsonl", pieces, max_bytes=MIB)
    assert not list((tmp_path / "sms").iterdir())


def test_a_file_that_is_too_large_is_refused_while_it_comes_and_leaves_nothing(tmp_path: Path) -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1000
            yield bytes(1000)

    with pytest.raises(BadRequest, match="5,000"):
        receive(tmp_path, "sms", "a.jsonl", endless(), max_bytes=5000)
    assert read == 6000
    assert not list((tmp_path / "sms").iterdir())
    assert receive(tmp_path, "sms", "a.jsonl", [bytes(5000)], max_bytes=5000).size == 5000


def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    def gone() -> Iterator[bytes]:
        yield b"1"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        receive(tmp_path, "sms", "a.jsonl", gone(), max_bytes=MIB)
    assert not list((tmp_path / "sms").iterdir())


@pytest.mark.parametrize("task", ["", "base", "A", "../x", "a/b"])
def test_a_wrong_task_is_refused(tmp_path: Path, task: str) -> None:
    with pytest.raises(BadRequest):
        receive(tmp_path, task, "a.jsonl", [b"1"], max_bytes=MIB)
    assert not list(tmp_path.iterdir())


def test_a_link_is_not_followed_out_of_the_inbox(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "sms").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotAllowed):
        receive(tmp_path / "inbox", "sms", "a.jsonl", [b"1"], max_bytes=MIB)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_file_in_the_place_of_the_folder_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "sms").touch()
    with pytest.raises(NotAllowed):
        receive(tmp_path, "sms", "a.jsonl", [b"1"], max_bytes=MIB)


def test_the_sweep_removes_what_a_kill_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "sms").mkdir()
    for name in (".upload-1.part", "a.jsonl", ".upload-2", "b.part"):
        (tmp_path / "sms" / name).touch()
    sweep(tmp_path)
    assert sorted(path.name for path in (tmp_path / "sms").iterdir()) == [".upload-2", "a.jsonl", "b.part"]


def test_a_file_of_which_only_a_part_came_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="it is not whole"):
        receive(tmp_path, "mood", "a.jsonl", [b"12345"], max_bytes=100, told_bytes=9)
    assert list((tmp_path / "mood").iterdir()) == []
    assert receive(tmp_path, "mood", "a.jsonl", [b"12345", b"6789"], max_bytes=100, told_bytes=9).size == 9

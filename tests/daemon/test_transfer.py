"""Folders that travel as tars, from people who are not trusted."""

import io
import itertools
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adapterd.adapters.errors import UnsafeImport
from adapterd.daemon.transfer import MAX_FILES, PIECE_BYTES, pack, unpack

Edit = Callable[[tarfile.TarInfo], None]


def tar(*members: tuple[str, bytes], form: int = tarfile.GNU_FORMAT, edit: Edit = lambda member: None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            edit(member)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def pieces(data: bytes, seed: int = 0) -> Iterator[bytes]:
    """`data` in pieces of many sizes, none among them."""
    sizes = random.Random(seed)
    while data:
        size = sizes.choice([0, 1, 7, 511, 512, 513, 4096])
        yield data[:size]
        data = data[size:]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_come_out_as_they_went_in(tmp_path: Path, form: int) -> None:
    files = {"adapter_config.json": b"{}", "empty": b"", "weights.safetensors": bytes(range(256)) * 40}

    def with_odd_time(member: tarfile.TarInfo) -> None:
        member.mtime = 0.5  # which makes Python write an extended header in the pax format

    written = unpack(pieces(tar(*files.items(), form=form, edit=with_odd_time)), tmp_path)
    assert {path.name: path.read_bytes() for path in written} == files
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}


def test_what_tar_makes_of_a_folder_is_taken(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "a").write_bytes(b"1")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(source, arcname=".")
    assert unpack([stream.getvalue()], target) == [target / "a"]


def test_packing_is_deterministic_and_names_no_more_than_the_files(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    (tmp_path / "one" / "b").write_bytes(b"2")
    (tmp_path / "one" / "a").write_bytes(bytes(PIECE_BYTES + 1))
    (tmp_path / "two" / "a").write_bytes(bytes(PIECE_BYTES + 1))
    (tmp_path / "two" / "b").write_bytes(b"2")
    (tmp_path / "two" / "b").chmod(0o600)
    one, two = (list(pack(tmp_path / folder)) for folder in ("one", "two"))
    assert one == two
    assert max(map(len, one)) <= PIECE_BYTES
    with tarfile.open(fileobj=io.BytesIO(b"".join(one))) as archive:
        assert [(member.name, member.mtime, member.uid, member.uname) for member in archive] == [
            ("a", 0, 0, ""),
            ("b", 0, 0, ""),
        ]


def test_what_was_packed_unpacks(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "weights").write_bytes(bytes(range(256)) * 5000)
    unpack(pack(source), target)
    assert (target / "weights").read_bytes() == bytes(range(256)) * 5000


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../up", "folder/file", "./../up", "..", ".hidden", "a\\b", "a\nb", "folder/", "./a/../b"]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(UnsafeImport):
        unpack([tar((name, b"x"))], tmp_path / "target")
    assert [path.name for path in tmp_path.rglob("*")] == ["target"]


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.FIFOTYPE,
        tarfile.DIRTYPE,
        tarfile.GNUTYPE_SPARSE,
        b"?",
    ],
)
def test_only_regular_files_are_taken(tmp_path: Path, kind: bytes) -> None:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = kind, "/etc/passwd", 0

    with pytest.raises(UnsafeImport):
        unpack([tar(("name", b""), edit=change)], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeImport, match="twice"):
        unpack([tar(("a", b"1"), ("./a", b"2"))], tmp_path)


def test_more_bytes_than_allowed_are_refused_while_they_come(tmp_path: Path) -> None:
    with pytest.raises(UnsafeImport, match="50,000"):
        unpack(pieces(tar(("a", bytes(100_000)))), tmp_path, max_bytes=50_000)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 50_000


def test_bytes_after_the_end_count_too(tmp_path: Path) -> None:
    with pytest.raises(UnsafeImport, match="50,000"):
        unpack(itertools.chain([tar(("a", b"1"))], itertools.repeat(bytes(1000))), tmp_path, max_bytes=50_000)


def test_more_files_than_allowed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeImport, match=str(MAX_FILES)):
        unpack([tar(*((f"f{number}", b"") for number in range(MAX_FILES + 1)))], tmp_path)


def test_a_huge_extended_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30
    with pytest.raises(UnsafeImport, match="extended header"):
        unpack([header.tobuf(tarfile.GNU_FORMAT)], tmp_path)


def test_a_size_below_zero_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("a")
    header.size = -5
    with pytest.raises(UnsafeImport):
        unpack([header.tobuf(tarfile.GNU_FORMAT), bytes(2048)], tmp_path)


@pytest.mark.parametrize("length", [0, 100, 512, 600, 1024])
def test_a_tar_that_ends_early_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(UnsafeImport):
        unpack([tar(("a", bytes(600)))[:length]], tmp_path)


def test_what_is_no_tar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeImport, match="no tar"):
        unpack([b"PK\x03\x04" * 1000], tmp_path)

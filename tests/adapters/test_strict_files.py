"""Reading what somebody may have prepared."""

import errno
import json
import os
from pathlib import Path

import pytest
from adapterd.adapters.strict_files import UnfitError, canonical_json, parse_object, read_regular
from hypothesis import given, settings
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_a_canonical_object_is_read_back_and_written_the_same(value: dict[str, object]) -> None:
    data = canonical_json(value)
    assert parse_object(data, "x") == value
    assert canonical_json(parse_object(data, "x")) == data
    assert canonical_json(dict(reversed(value.items()))) == data


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_unfit(data: bytes) -> None:
    try:
        value = parse_object(data, "x")
    except UnfitError:
        return
    assert value == json.loads(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[1]", "no JSON object"),
        (b'{"a": 1, "a": 2}', "key twice"),
        (b'{"a": {"b": 1, "b": 1}}', "key twice"),
        (b'{"a": NaN}', "no finite number"),
        (b'{"a": -Infinity}', "no finite number"),
        (b'{"a": 1e999}', "no finite number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "no JSON"),
        (b'\xff\xfe{"a": 1}', "no JSON"),
        (b'{"a": 1', "no JSON"),
        (b"", "no JSON"),
    ],
)
def test_json_that_only_looks_like_it_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(UnfitError, match=why):
        parse_object(data, "config")


def test_a_lack_of_descriptors_says_nothing_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    (tmp_path / "file").touch()
    monkeypatch.setattr("os.open", too_many)
    with pytest.raises(OSError, match="Too many"):
        read_regular(tmp_path / "file", 10)


def test_only_a_regular_file_of_bounded_size_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(file, 5) == b"12345"
    for name, why in (
        ("link", "cannot be read"),
        ("pipe", "no regular"),
        ("none", "cannot be read"),
        (".", "regular|read"),
    ):
        with pytest.raises(UnfitError, match=why):
            read_regular(tmp_path / name, 100)
    with pytest.raises(UnfitError, match="5 bytes, more than 4"):
        read_regular(file, 4)

"""Any bytes at all give rows, bad rows or one UnreadableFile; never another error, never a row that vanishes."""

import csv
import gzip
import io
import json
import sys
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adapterd.continual.errors import UnreadableFile
from adapterd.continual.formats import BadRow, Limits, RawRow, Unread, format_of, read_rows
from adapterd.continual.parquet_decoder import decode
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

SMALL = Limits(max_decoded_bytes=1 << 16, max_row_chars=3_000, max_depth=8)
IN_TMP_PATH = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Text that UTF-8 can hold: everything but halves of surrogate pairs.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FILLED = TEXT.filter(lambda text: bool(text.strip()))


def read(folder: Path, name: str, data: bytes | str, limits: Limits = SMALL) -> list[RawRow | BadRow]:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(read_rows(path, limits))


def values(rows: list[RawRow | BadRow]) -> list[object]:
    return [row.value if isinstance(row, RawRow) else row.reason for row in rows]


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("A.JSON", "json"),
        ("a.b.csv.gz", "csv"),
        ("a.tsv.zst", "tsv"),
        ("a.parquet", "parquet"),
        ("a.txt", None),
        ("a.gz", None),
        ("csv", None),
        (".jsonl", None),
        ("a.csv.bz2", None),
    ],
)
def test_the_name_tells_the_format(name: str, kind: str | None) -> None:
    assert format_of(name) == kind


def test_every_format_reads_the_same_rows(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"text": 'two\nlines, "quoted"', "label": "a"},
        {"text": "öß\U0001f600", "label": "b"},
    ]
    jsonl = "".join(json.dumps(row) + "\n" for row in rows)
    quoted = 'text,label\n"two\nlines, ""quoted""",a\nöß\U0001f600,b\n'
    files: dict[str, bytes] = {
        "rows.jsonl": jsonl.encode(),
        "rows.ndjson": jsonl.rstrip("\n").encode(),
        "rows.json": json.dumps(rows, indent=2, ensure_ascii=False).encode(),
        "rows.csv": quoted.encode(),
        "rows.tsv": quoted.replace("text,label", "text\tlabel").replace(",a", "\ta").replace(",b", "\tb").encode(),
        "rows.parquet": parquet(pa.Table.from_pylist(rows)),
    }
    for name, data in files.items():
        for packed, suffix in ((data, ""), (gzip.compress(data), ".gz"), (zstd(data), ".zst")):
            assert values(read(tmp_path, name + suffix, packed)) == rows, name + suffix


def test_a_gzip_of_several_members_and_a_zst_of_several_frames_are_read_to_their_end(tmp_path: Path) -> None:
    one, two = b'{"text": "one"}\n', b'{"text": "two"}\n'
    expected = [{"text": "one"}, {"text": "two"}]
    assert values(read(tmp_path, "a.jsonl.gz", gzip.compress(one) + gzip.compress(two))) == expected
    assert values(read(tmp_path, "a.jsonl.zst", zstd(one) + zstd(two))) == expected


@pytest.mark.parametrize("cut", [1, 3, 8, 20])
def test_a_truncated_compressed_file_is_unreadable(tmp_path: Path, cut: int) -> None:
    text = b"".join(b'{"text": "row %d"}\n' % number for number in range(1000))
    for suffix, packed in ((".gz", gzip.compress(text)), (".zst", zstd(text)), (".zst", zstd(text) + zstd(text))):
        with pytest.raises(UnreadableFile, match="damaged or ends in the middle"):
            read(tmp_path, "a.jsonl" + suffix, packed[:-cut])


def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path) -> None:
    bomb = b'{"text": "a"}\n' + b"\n" * (16 << 20)
    for suffix, packed in ((".gz", gzip.compress(bomb)), (".zst", zstd(bomb))):
        for name in ("a.jsonl", "a.csv"):
            with pytest.raises(UnreadableFile, match=r"^a\.\w+\.\w+: it decodes to more than 65,536 bytes$"):
                read(tmp_path, name + suffix, packed)
    with pytest.raises(UnreadableFile, match="decodes to more"):
        read(tmp_path, "plain.jsonl", bomb)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.jsonl.gz", "a.csv.zst", "a.parquet"])
@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b" \r\n\r\n"])
def test_a_file_without_rows_is_unreadable(tmp_path: Path, name: str, data: bytes) -> None:
    data = gzip.compress(data) if name.endswith(".gz") else zstd(data) if name.endswith(".zst") else data
    with pytest.raises(UnreadableFile) as caught:
        read(tmp_path, name, data)
    assert caught.value.message.startswith(f"{name}: ")
    assert caught.value.hint
    assert caught.value.details == {"file": name}


@pytest.mark.parametrize(
    ("name", "data", "hint"),
    [
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "name it .gz"),
        ("a.csv.gz", zstd(b"text\na\n"), "name it .zst"),
        ("a.csv", b"PK\x03\x04" + b"\0" * 20, "Excel"),
        ("a.json", b"PAR1" + b"\0" * 20, ".parquet"),
        ("a.csv", "text,label\na,b\n".encode("utf-16"), "save it as UTF-8"),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16-be"), ""),
        ("a.csv", "text\nné\n".encode("latin-1"), "save it as UTF-8"),
        ("a.json", '[{"text": "né"}]'.encode("latin-1"), "save it as UTF-8"),
        ("a.xlsx", b"PK\x03\x04", ".jsonl"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_unreadable_with_a_hint(
    tmp_path: Path, name: str, data: bytes, hint: str
) -> None:
    if not hint:  # UTF-16 without a mark is ASCII and NULs: no line of it is JSON
        assert [type(row) for row in read(tmp_path, name, data)] == [BadRow]
        return
    with pytest.raises(UnreadableFile) as caught:
        read(tmp_path, name, data)
    assert hint in caught.value.hint


def test_a_folder_is_unreadable_and_a_missing_file_is_the_disks_error(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UnreadableFile, match="not a regular file"):
        list(read_rows(tmp_path / "folder.jsonl", SMALL))
    with pytest.raises(FileNotFoundError):
        list(read_rows(tmp_path / "missing.jsonl", SMALL))


def test_limits_refuse_nonsense() -> None:
    for wrong in ({"max_decoded_bytes": 0}, {"max_row_chars": 0}, {"max_depth": 0}, {"max_depth": 900}):
        with pytest.raises(ValueError, match="max_"):
            Limits(**wrong)


# JSON Lines ----------------------------------------------------------------------------------------------------------


def test_jsonl_reports_each_bad_line_by_its_number_and_goes_on(tmp_path: Path) -> None:
    lines = [
        b'\xef\xbb\xbf{"text": "a byte order mark is no text"}',
        b"",
        b'{"text": "one"',
        b'{"text": NaN}',
        b'{"text": -Infinity}',
        b'{"text": 1e999}',
        b'{"text": "a", "text": "b"}',
        b'{"a": {"b": 1, "b": 2}}',
        b"[" * 100_000,
        b'{"n": ' + b"1" * 2_000 + b"}",
        b'{"text": "\\ud83d"}',
        b'{"\\udc00": 1}',
        b'{"text": "n\xe9"}',
        b'["text"]',
        b'{"text": "\x00"}',
        b'{"text": "' + b"x" * 20_000 + b'"}',
        b'{"text": "last"}',
    ]
    rows = read(tmp_path, "a.jsonl", b"\n".join(lines), Limits(max_row_chars=3_000, max_depth=8))
    assert [(row.line, row.reason) for row in rows if isinstance(row, BadRow)] == [
        (3, "not JSON: Expecting ',' delimiter (character 15)"),
        (4, "NaN is not JSON"),
        (5, "-Infinity is not JSON"),
        (6, "the number 1e999 is beyond the range of a float"),
        (7, "the key 'text' stands twice in one object"),
        (8, "the key 'b' stands twice in one object"),
        (9, "longer than 3,000 characters"),
        (11, "holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"),
        (12, "holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"),
        (13, "not UTF-8: byte 12 of the line"),
        (14, 'not an object such as {"text": …}'),
        (15, "not JSON: Invalid control character at (character 11)"),
        (16, "longer than 3,000 characters"),
    ]
    assert [(row.line, row.value) for row in rows if isinstance(row, RawRow)] == [
        (1, {"text": "a byte order mark is no text"}),
        (10, {"n": int("1" * 2_000)}),
        (17, {"text": "last"}),
    ]
    assert [row.text for row in rows if row.line == 13] == ['{"text": "n\\xe9"}']
    assert all(len(row.text) <= 2_000 for row in rows)


def test_integers_of_thousands_of_digits_and_deep_nesting_are_bad_rows(tmp_path: Path) -> None:
    limits = Limits(max_row_chars=300_000)
    data = '{"n": ' + "1" * 5_000 + "}\n" + '{"d": ' + "[" * 100_000 + "\n" + '{"s": "' + "[" * 100 + '"}'
    assert values(read(tmp_path, "a.jsonl", data, limits)) == [
        "holds an integer of thousands of digits",
        "nested more than 32 deep",
        {"s": "[" * 100},
    ]


def test_a_line_separator_within_a_string_does_not_end_the_row(tmp_path: Path) -> None:
    assert values(read(tmp_path, "a.jsonl", '{"text": "a\u2028b\x85c"}\r\n{"text": "d"}')) == [
        {"text": "a\u2028b\x85c"},
        {"text": "d"},
    ]


# JSON ----------------------------------------------------------------------------------------------------------------


def test_an_object_alone_is_one_row(tmp_path: Path) -> None:
    assert values(read(tmp_path, "a.json", ' {"text": "a", "more": [{"x": 1}]}\n')) == [
        {"text": "a", "more": [{"x": 1}]}
    ]


def test_a_bad_element_of_an_array_does_not_hide_its_neighbours(tmp_path: Path) -> None:
    data = '[{"text": "[,]\\""}, 7, {"text": NaN}, {"text": "' + "x" * 5_000 + '"}, {"a": [}], {"text": "z"},]'
    rows = read(tmp_path, "a.json", data)
    assert [row.line for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert values(rows) == [
        {"text": '[,]"'},
        'not an object such as {"text": …}',
        "NaN is not JSON",
        "longer than 3,000 characters",
        "not JSON: Expecting value (character 8)",
        {"text": "z"},
        "not JSON: Expecting value (character 1)",
    ]


@pytest.mark.parametrize(
    ("data", "reason", "hint"),
    [
        ("[]", "holds no rows", "at least one row"),
        ("7", "neither an array nor an object", ".jsonl"),
        ('{"text": "a"}\n{"text": "b"}', "more text after the end", ".jsonl"),
        ('[{"text": "a"}] x', "more text after the end", ".jsonl"),
        ('[{"text": "a"}', "ends in the middle", "cut off"),
        ('[{"text": "a', "ends in the middle", "cut off"),
        ('{"text": "a"', "ends in the middle", "cut off"),
        ('[{"text": "a"}}', "closed by a brace", ""),
    ],
)
def test_a_json_file_that_is_not_one_document_is_unreadable(tmp_path: Path, data: str, reason: str, hint: str) -> None:
    with pytest.raises(UnreadableFile, match=reason) as caught:
        read(tmp_path, "a.json", data)
    assert hint in caught.value.hint


def test_an_array_far_larger_than_the_memory_of_a_row_is_streamed(tmp_path: Path) -> None:
    rows = [{"text": "x" * 40 + str(number)} for number in range(30_000)]
    limits = Limits(max_row_chars=100)
    assert values(read(tmp_path, "a.json", json.dumps(rows), limits)) == rows


# CSV -----------------------------------------------------------------------------------------------------------------


def test_csv_reports_each_bad_record_by_the_line_it_begins_in(tmp_path: Path) -> None:
    data = (
        "\ufefftext,label\r\n"
        '"two\r\nlines",a\r\n'
        "\r\n"
        "ragged\r\n"
        "too,many,fields\r\n"
        '"misplaced" quote,b\r\n'
        'a 5" pipe,c\r\n'
        f"{'x' * 4_000},d\r\n"
        f'"{"y" * 2_000}\r\n{"z" * 2_000}, ""quoted""",e\r\n'
        "n\0ul,f\r\n"
        f"{'w' * 40_000},g\r\n"
        '"",""'
    )
    rows = read(tmp_path, "a.csv", data)
    assert [(row.line, row.value if isinstance(row, RawRow) else row.reason) for row in rows] == [
        (2, {"text": "two\r\nlines", "label": "a"}),
        (5, "has 1 fields where the header has 2"),
        (6, "has 3 fields where the header has 2"),
        (7, "has text after a closing quote; quotes within a field are doubled"),
        (8, {"text": 'a 5" pipe', "label": "c"}),
        (9, "is longer than 3,000 characters"),
        (10, "is longer than 3,000 characters (lines 10 to 11)"),
        (12, "holds a NUL"),
        (13, "is longer than 3,000 characters"),
        (14, {"text": "", "label": ""}),
    ]
    assert rows[0].text == '"two\r\nlines",a'


def test_a_field_beyond_the_csv_modules_limit_is_read(tmp_path: Path) -> None:
    text = "long " * 40_000
    limits = Limits(max_row_chars=300_000)
    assert values(read(tmp_path, "a.csv", f'text\n"{text}"\n', limits)) == [{"text": text}]


def test_an_overlong_line_that_opens_a_quote_ends_where_the_quote_does(tmp_path: Path) -> None:
    data = f'text,label\n"{"x" * 50_000} ""\nmore""\nend",a\n"next, one",b\n'
    assert [(row.line, type(row)) for row in read(tmp_path, "a.csv", data)] == [(2, BadRow), (5, RawRow)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ('text\nfine\n"never closed\nmore\n', "quote in line 3 is never closed"),
        ('text,label\n"open,a\nb "here" c,d\n', "opens a field in line 2 is closed in line 3"),
        ("text;label\na;b\n", "is one column"),
        ("text\tlabel\na\tb\n", "is one column"),
        ("text,text\na,b\n", "'text' twice"),
        (",\na,b\n", "names no column"),
        ("text,label\ra,b\rc,d\r", "carriage returns"),
        ('"text"x,label\na,b\n', "the header in line 1 has text after"),
        ("text,label\n", "no rows"),
    ],
)
def test_a_csv_whose_rows_cannot_be_told_apart_is_unreadable(tmp_path: Path, data: str, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason) as caught:
        read(tmp_path, "a.csv", data)
    assert caught.value.hint


def test_the_index_column_that_pandas_writes_is_ignored(tmp_path: Path) -> None:
    assert values(read(tmp_path, "a.csv", ", text ,label\n0,a,b\n")) == [{"text": "a", "label": "b"}]


@IN_TMP_PATH
@given(
    table=st.lists(st.lists(TEXT, min_size=2, max_size=2), min_size=1, max_size=5),
    separator=st.sampled_from([",", "\t"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
@example(table=[["\r", "a"]], separator=",", line_end="\r\n")
def test_csv_reads_back_what_pythons_writer_wrote(
    tmp_path: Path, table: list[list[str]], separator: str, line_end: str
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *table])
    rows = read(tmp_path, "a.csv" if separator == "," else "a.tsv", out.getvalue())
    assert values(rows) == [
        "holds a NUL" if "\0" in first + second else {"a": first, "b": second} for first, second in table
    ]


# Parquet -------------------------------------------------------------------------------------------------------------


def test_parquet_gives_nested_messages_labels_and_what_it_does_not_read(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    table = pa.table(
        {
            "messages": [messages, None],
            "label": [3, None],
            "category": pa.array(["a", "b"]).dictionary_encode(),
            "raw": pa.array([b"bytes", b"n\xe9"]),
            "embedding": pa.array([[1.0, 2.0], [3.0]]),
            "when": pa.array([0, 1], pa.timestamp("ns")),
        }
    )
    unread = {"embedding": Unread("list<element: double>"), "when": Unread("timestamp[ns]")}
    rows = read(tmp_path, "a.parquet", parquet(table))
    assert values(rows) == [
        {"messages": messages, "label": 3, "category": "a", "raw": "bytes", **unread},
        "the column 'raw' is not UTF-8",
    ]
    assert [row.line for row in rows] == [1, 2]


def test_a_parquet_file_of_289_bytes_that_decodes_to_two_gigabytes_is_stopped_early(tmp_path: Path) -> None:
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), pa.array(["x" * 1_000_000]))
    data = parquet(pa.table({"text": repeated}), compression="zstd", store_schema=False)
    assert len(data) < 300
    (tmp_path / "bomb.parquet").write_bytes(data)
    rows = read_rows(tmp_path / "bomb.parquet", Limits(max_decoded_bytes=20_500_000, max_row_chars=2_000_000))
    assert [type(next(rows)) for _ in range(20)] == [RawRow] * 20
    with pytest.raises(UnreadableFile, match="decodes to more than 20,500,000 bytes"):
        next(rows)


def test_a_parquet_file_whose_single_row_takes_all_memory_is_unreadable(tmp_path: Path) -> None:
    content = pa.DictionaryArray.from_arrays(pa.array([0] * 200_000, pa.int32()), pa.array(["x" * 100_000]))
    turns = pa.StructArray.from_arrays([content], ["content"])
    table = pa.table({"messages": pa.ListArray.from_arrays(pa.array([0, 100_000, 200_000], pa.int32()), turns)})
    data = parquet(table, compression="zstd", store_schema=False)
    with pytest.raises(UnreadableFile, match="decoding it takes more than 2048 MiB of memory"):
        read(tmp_path, "a.parquet", data)


def test_a_parquet_footer_on_which_arrow_can_abort_is_unreadable(tmp_path: Path) -> None:
    data = parquet(pa.table({"text": ["one", None]}))
    counts = bytes.fromhex("19260202")  # of two definition levels; one of them is taken away
    footer, length = data[:-8], int.from_bytes(data[-8:-4], "little")
    damaged = footer.replace(counts, bytes.fromhex("191602")) + (length - 1).to_bytes(4, "little") + b"PAR1"
    assert len(damaged) == len(data) - 1
    with pytest.raises(UnreadableFile, match=r"damaged|makes the decoder fail"):
        read(tmp_path, "a.parquet", damaged)


def test_a_parquet_file_is_not_blamed_for_a_decoder_that_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ChildProcessError, match="does not start"):
        read(tmp_path, "a.parquet", PARQUET_SAMPLE)


def test_a_parquet_row_that_is_too_long_is_a_bad_row(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "x" * 3_500, "y" * 20_000, "b"]})
    assert values(read(tmp_path, "a.parquet", parquet(table))) == [
        {"text": "a"},
        "longer than 3,000 characters",
        "longer than 3,000 characters",
        {"text": "b"},
    ]


def test_parquet_without_columns_to_choose_from_is_unreadable(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(UnreadableFile, match="two columns named 'text'"):
        read(tmp_path, "a.parquet", parquet(twice))
    with pytest.raises(UnreadableFile, match="no column holds text"):
        read(tmp_path, "a.parquet", parquet(pa.table({"when": pa.array([0], pa.timestamp("s"))})))


def test_rows_of_several_row_groups_and_writers_settings_are_all_read(tmp_path: Path) -> None:
    rows = [{"text": f"row {number}", "label": number % 3} for number in range(1_000)]
    table = pa.Table.from_pylist(rows)
    for options in (
        {"row_group_size": 37, "data_page_version": "2.0"},
        {"compression": "NONE", "data_page_size": 64},
        {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
    ):
        assert values(read(tmp_path, "a.parquet", parquet(table, **options))) == rows


# Anything ------------------------------------------------------------------------------------------------------------


SAMPLES = {
    "a.jsonl": b'{"text": "one", "label": [1, {"a": null}]}\n{"text": "\\u00e9\\ud83d\\ude00"}\n\n{"text": "two"}',
    "a.json": b'[{"text": "one", "n": -1.5e3}, {"text": "t\\"w\\\\o"}]',
    "a.csv": b'text,label\n"one, ""1""",a\ntwo,b\r\n"th\nree",c\n',
    "a.tsv": b"text\tlabel\none\ta\n",
    "a.jsonl.gz": gzip.compress(b'{"text": "one"}\n{"text": "two"}\n', mtime=0),
    "a.csv.zst": zstd(b"text,label\none,a\n"),
}
PARQUET_SAMPLE = parquet(
    pa.table({"text": ["one", None], "label": [1, 2], "messages": [[{"role": "user", "content": "x"}], []]})
)


def gives_rows_or_unreadable(folder: Path, name: str, data: bytes) -> None:
    try:
        rows = read(folder, name, data)
    except UnreadableFile as error:
        error.message.encode()
        complete = error.message.startswith(name) and error.hint
        if complete:
            return
        raise
    assert rows
    places = [row.line for row in rows]
    assert places == sorted(set(places))
    for row in rows:
        assert len(row.text) <= 2_000
        row.text.encode()
        if isinstance(row, BadRow):
            row.reason.encode()
        else:
            json.dumps(row.value, ensure_ascii=False, default=str).encode()


@IN_TMP_PATH
@given(name=st.sampled_from(sorted(SAMPLES)), data=st.binary(max_size=300))
def test_any_bytes_give_rows_or_an_unreadable_file(tmp_path: Path, name: str, data: bytes) -> None:
    gives_rows_or_unreadable(tmp_path, name, data)


@settings(IN_TMP_PATH, max_examples=300)
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    at=st.floats(0, 1),
    patch=st.binary(max_size=6),
    removed=st.integers(0, 6),
)
def test_a_damaged_file_gives_rows_or_is_unreadable(
    tmp_path: Path, name: str, at: float, patch: bytes, removed: int
) -> None:
    data = SAMPLES[name]
    place = int(at * len(data))
    gives_rows_or_unreadable(tmp_path, name, data[:place] + patch + data[place + removed :])


JSON_LIKE = st.lists(
    st.sampled_from(
        ['{"text":', '"a"', "}", "{", "[", "]", ",", ":", '"', "\\", "\\ud800", "NaN", "1", " ", "\n", "é"]
    ),
    max_size=30,
).map("".join)


@IN_TMP_PATH
@given(name=st.sampled_from(["a.json", "a.jsonl", "a.csv"]), text=JSON_LIKE)
def test_text_that_is_nearly_json_gives_rows_or_an_unreadable_file(tmp_path: Path, name: str, text: str) -> None:
    gives_rows_or_unreadable(tmp_path, name, text.encode())


@IN_TMP_PATH
@given(text=JSON_LIKE)
def test_json_holds_for_us_only_what_holds_for_python(tmp_path: Path, text: str) -> None:
    try:
        rows = read(tmp_path, "a.json", text)
    except UnreadableFile:
        return
    if all(isinstance(row, RawRow) for row in rows):
        document = json.loads(text)
        assert values(rows) == (document if isinstance(document, list) else [document])


@IN_TMP_PATH
@given(rows=st.lists(st.dictionaries(TEXT, st.none() | st.integers() | TEXT, min_size=1), min_size=1, max_size=5))
def test_json_reads_back_what_python_wrote(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert values(read(tmp_path, "a.jsonl", lines)) == rows
    for indent in (None, 1):
        assert values(read(tmp_path, "a.json", json.dumps(rows, indent=indent))) == rows


@IN_TMP_PATH
@given(rows=st.lists(st.fixed_dictionaries({"text": FILLED, "label": st.integers(-(2**40), 2**40)}), min_size=1))
def test_the_parquet_decoder_reads_back_what_arrow_wrote(rows: list[dict[str, object]]) -> None:
    messages = list(decode(io.BytesIO(parquet(pa.Table.from_pylist(rows))), 3_000, 8))
    assert messages == [["unread", {}], *(["row", row] for row in rows), ["end"]]


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_parquet_file_gives_rows_or_is_unreadable(tmp_path: Path, seed: int) -> None:
    data, draw = bytearray(PARQUET_SAMPLE), Random(seed)
    for _ in range(5):
        data[draw.randrange(len(data))] = draw.randrange(256)
    gives_rows_or_unreadable(tmp_path, "a.parquet", bytes(data))

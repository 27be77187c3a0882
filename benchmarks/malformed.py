"""Files that no reader should trust, drawn from a seed: damaged, hostile, or of another kind than their name says."""

import gzip
import io
import json
import struct
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq


class Malformed(NamedTuple):
    """`kind`: what is wrong with it, if anything is."""

    name: str
    content: bytes
    kind: str


Maker = Callable[[Random], tuple[str, bytes]]


def malformed(count: int, seed: int) -> Iterator[Malformed]:
    """`count` files, of every kind in turn."""
    random = Random(seed)
    kinds = list(KINDS.items())
    for number in range(count):
        kind, make = kinds[number % len(kinds)]
        ending, content = make(random)
        yield Malformed(f"{number:05d}-{kind}.{ending}", content, kind)


def _rows(random: Random, count: int = 20) -> list[dict[str, object]]:
    return [{"text": f"row {random.random():.12f} of a file", "label": random.choice("abc")} for _ in range(count)]


def _lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(random: Random, rows: int = 50) -> bytes:
    table = pa.table({"text": [f"row {random.random()}" for _ in range(rows)], "label": ["a"] * rows})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _zstd(content: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(content)
    return bytes(out.getvalue())


def _cut(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(1, len(content))]


def _flipped(content: bytes, random: Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(random.randrange(1, 30)):
        damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
    return bytes(damaged)


def _one_row(value: str) -> bytes:
    return b'{"text": ' + value.encode("utf-8", "surrogatepass") + b', "label": "a"}\n'


def _among(random: Random, line: bytes) -> bytes:
    lines = _lines(_rows(random)).splitlines(keepends=True)
    lines.insert(random.randrange(len(lines)), line)
    return b"".join(lines)


def _parquet_bomb(random: Random) -> bytes:
    """Few bytes of dictionary-coded text that decode to a gigabyte."""
    text = "x" * random.randrange(50_000, 150_000)
    out = io.BytesIO()
    pq.write_table(pa.table({"text": [text] * 10_000, "label": ["a"] * 10_000}), out, compression="zstd")
    return out.getvalue()


KINDS: dict[str, Maker] = {
    "truncated-jsonl": lambda r: ("jsonl", _cut(_lines(_rows(r)), r)),
    "truncated-json": lambda r: ("json", _cut(json.dumps(_rows(r)).encode(), r)),
    "truncated-gz": lambda r: ("jsonl.gz", _cut(gzip.compress(_lines(_rows(r))), r)),
    "truncated-zst": lambda r: ("jsonl.zst", _cut(_zstd(_lines(_rows(r))), r)),
    "truncated-parquet": lambda r: ("parquet", _cut(_parquet(r), r)),
    "flipped-jsonl": lambda r: ("jsonl", _flipped(_lines(_rows(r)), r)),
    "flipped-gz": lambda r: ("csv.gz", _flipped(gzip.compress(b"text,label\na,b\n" * 50), r)),
    "flipped-zst": lambda r: ("jsonl.zst", _flipped(_zstd(_lines(_rows(r))), r)),
    "flipped-parquet": lambda r: ("parquet", _flipped(_parquet(r), r)),
    "utf-16": lambda r: ("jsonl", _lines(_rows(r)).decode().encode("utf-16")),
    "latin-1": lambda r: ("csv", "text,label\ncafé olé,a\n".encode("latin-1") * r.randrange(1, 20)),
    "byte-order-mark": lambda r: ("jsonl", b"\xef\xbb\xbf" + _lines(_rows(r))),
    "nan": lambda r: ("jsonl", _among(r, b'{"text": "x", "label": NaN}\n')),
    "deep-nesting": lambda r: ("jsonl", _among(r, _one_row("[" * (n := r.randrange(50, 90_000)) + "]" * n))),
    "deep-nesting-json": lambda r: ("json", b"[" * r.randrange(1_000, 100_000)),
    "huge-integer": lambda r: ("jsonl", _among(r, _one_row("9" * r.randrange(400, 100_000)))),
    "lone-surrogate": lambda r: ("jsonl", _among(r, _one_row('"\\ud83d"'))),
    "raw-surrogate": lambda r: ("jsonl", _among(r, _one_row('"\ud83d"'))),
    "nul": lambda r: ("csv", b"text,label\n" + b"a\0b,c\n" * r.randrange(1, 20)),
    "nul-jsonl": lambda r: ("jsonl", _among(r, b"\0" * r.randrange(1, 5000) + b"\n")),
    "duplicate-key": lambda r: ("jsonl", _among(r, b'{"text": "a", "text": "b", "label": "c"}\n')),
    "wrong-columns": lambda r: ("csv", b"sentence,klass\n" + b"a,b\n" * r.randrange(101, 150)),
    "wrong-separator": lambda r: ("csv", b"text;label\n" + b"a;b\n" * r.randrange(1, 50)),
    "open-quote": lambda r: ("csv", b'text,label\n"never closed,b\n' + b"a,b\n" * r.randrange(1, 50)),
    "ragged": lambda r: ("csv", b"text,label\n" + b"".join(b"a," * r.randrange(9) + b"b\n" for _ in range(150))),
    "empty": lambda r: (r.choice(["jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "csv.zst"]), b""),
    "blank": lambda r: (r.choice(["jsonl", "json", "csv"]), b" \n" * r.randrange(1, 100)),
    "garbage": lambda r: (r.choice(["jsonl", "json", "csv", "parquet", "jsonl.gz", "tsv.zst"]), r.randbytes(3000)),
    "another-kind": lambda r: (r.choice(["jsonl", "csv", "jsonl.gz"]), _parquet(r)),
    "no-parquet": lambda r: ("parquet", b"PAR1" + struct.pack("<i", r.randrange(1 << 30)) + r.randbytes(99) + b"PAR1"),
    "other-types": lambda r: (
        "jsonl",
        _lines([{"text": r.choice([1, None, [], {}]), "label": {}} for _ in range(150)]),
    ),
    "no-objects": lambda r: ("json", json.dumps([r.choice([1, "a", None, []]) for _ in range(150)]).encode()),
    "long-row": lambda r: ("jsonl", _among(r, _one_row('"' + "x" * r.choice([200_001, 10_000_000]) + '"'))),
    "long-field": lambda r: ("csv", b"text,label\n" + b"x" * r.choice([200_001, 10_000_000]) + b",a\n"),
    "gz-bomb": lambda r: ("jsonl.gz", gzip.compress(b" " * (r.choice([1, 1, 1, 1, 1, 1, 1, 150]) << 20), 6)),
    "zst-bomb": lambda r: ("csv.zst", _zstd(b"text,label\n" + b"x" * (r.choice([1, 1, 1, 1, 1, 1, 1, 150]) << 20))),
}
"""What a file's ending is, and what it holds, by what is wrong with it; bombs in Parquet are made apart."""


def parquet_bomb(seed: int) -> Malformed:
    """A Parquet file of some kilobytes that decodes to a gigabyte."""
    return Malformed(f"{seed:05d}-parquet-bomb.parquet", _parquet_bomb(Random(seed)), "parquet-bomb")

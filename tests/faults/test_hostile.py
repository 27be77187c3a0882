"""Adapters and inbox entries that were made to do harm: each is refused or set aside, and nothing else changes."""

import gzip
import io
import json
import os
import socket
import stat
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from adapterd.adapters.durable import TEMP_PREFIX
from adapterd.daemon.client import Client
from adapterd.daemon.errors import RemoteError
from adapterd.v1 import adapters_pb2, learning_pb2
from safetensors.torch import save

from ..adapters.adapter_folder import lora_config, lora_tensors, safetensors_file
from .conftest import Figure, Size, Tell
from .sandbox import Sandbox, until

pytestmark = pytest.mark.e2e

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
SECRET = b"the master password is swordfish"
EVIL = "evil-4711"
REFUSALS = ("INVALID_ARGUMENT", "DATA_LOSS", "FAILED_PRECONDITION")
Tar = bytes


def weights(**changes: torch.Tensor) -> bytes:
    return save({**lora_tensors(), **changes})


def config(**changes: Any) -> bytes:
    return json.dumps(lora_config(**changes)).encode()


def tar(files: dict[str, bytes], *members: tuple[tarfile.TarInfo, bytes]) -> Tar:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def adapter(**files: bytes) -> dict[str, bytes]:
    """A sound one, with files in the place of its own."""
    sound = {WEIGHTS: weights(), CONFIG: config()}
    return sound | {name.replace("__", "."): content for name, content in files.items()}


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def with_header(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The sound weights, whose header says something else."""
    data = weights()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    change(header)
    return safetensors_file(header, data[8 + length :])


def hostile_adapter(chance: Random, number: int, outside: Path) -> Tar:
    """One of many kinds, drawn anew each time."""
    name = chance.choice(sorted(lora_tensors()))
    tensor = lora_tensors()[name]
    place = chance.randrange(tensor.numel())
    nan = tensor.clone()
    nan.view(-1)[place] = chance.choice([float("nan"), float("inf"), float("-inf")])
    up = "../" * chance.randint(1, 12)
    kinds: list[Callable[[], Tar]] = [
        lambda: tar(adapter(), (member(f"{up}{EVIL}"), b"x")),
        lambda: tar(adapter(), (member(f"{outside}/{EVIL}"), b"x")),
        lambda: tar(adapter(), (member(f"..\\..\\{EVIL}"), b"x")),
        lambda: tar(adapter(), (member(f"a/{up}{EVIL}"), b"x")),
        lambda: tar(adapter(), (member("link", tarfile.SYMTYPE, str(outside / "secret")), b"")),
        lambda: tar({CONFIG: adapter()[CONFIG]}, (member(WEIGHTS, tarfile.SYMTYPE, str(outside / "secret")), b"")),
        lambda: tar(adapter(), (member("link", tarfile.LNKTYPE, str(outside / "secret")), b"")),
        lambda: tar(adapter(), (member("pipe", tarfile.FIFOTYPE), b"")),
        lambda: tar(adapter(), (member("disk", chance.choice([tarfile.CHRTYPE, tarfile.BLKTYPE])), b"")),
        lambda: tar(adapter(), (member(WEIGHTS), weights())),
        lambda: tar({f"{at}.txt": b"" for at in range(65)}),
        lambda: tar(adapter()).rstrip(b"\0")[: -chance.randint(1, 40_000)],  # a tar ends in zeros that mean nothing
        lambda: chance.randbytes(chance.randint(0, 5000)),
        lambda: tar(adapter(**{f"x__{chance.choice(['bin', 'pt', 'pkl', 'pth', 'ckpt'])}": b"cos\nsystem\n."})),
        lambda: tar(adapter(adapter_model__safetensors=weights(**{name: nan}))),
        lambda: tar(adapter(adapter_model__safetensors=weights(**{name: tensor[:, :-1].contiguous()}))),
        lambda: tar(adapter(adapter_model__safetensors=weights(**{name: torch.zeros(0, 3)}))),
        lambda: tar(adapter(adapter_model__safetensors=weights(**{f"base_model.model.{EVIL}.lora_A.weight": tensor}))),
        lambda: tar(adapter(adapter_model__safetensors=save({f"{up}{EVIL}": tensor}))),
        lambda: tar(adapter(adapter_model__safetensors=struct.pack("<Q", 200 << 30) + b"{}")),
        lambda: tar(adapter(adapter_model__safetensors=struct.pack("<Q", 2**64 - 1) + chance.randbytes(99))),
        lambda: tar(adapter(adapter_model__safetensors=safetensors_file(b"[" * chance.randint(100, 200_000)))),
        lambda: tar(adapter(adapter_model__safetensors=with_header(lambda it: it[name].update(shape=[2**40, 2**40])))),
        lambda: tar(
            adapter(adapter_model__safetensors=with_header(lambda it: it[name].update(data_offsets=[0, 2**60])))
        ),
        lambda: tar(
            adapter(adapter_model__safetensors=with_header(lambda it: it[name].update(data_offsets=[-9, 2**10])))
        ),
        lambda: tar(adapter(adapter_model__safetensors=with_header(lambda it: it[name].update(dtype="F1024")))),
        lambda: tar(adapter(adapter_model__safetensors=with_header(lambda it: it.pop(name)))),
        lambda: tar(adapter(adapter_model__safetensors=weights()[: -chance.randint(1, 1000)])),
        lambda: tar(adapter(adapter_config__json=b'{"peft_type": "LORA", "peft_type": "LORA"' + b"," * number)),
        lambda: tar(adapter(adapter_config__json=b"[" * 100_000)),
        lambda: tar(adapter(adapter_config__json=config(r=chance.choice([0, -1, 2**63, "4"])))),
        lambda: tar(adapter(adapter_config__json=config(lora_alpha=1e308))),
        lambda: tar(adapter(adapter_config__json=config(peft_type=EVIL))),
        lambda: tar(adapter(adapter_config__json=config(modules_to_save=["lm_head"]))),
        lambda: tar(adapter(adapter_config__json=config(use_dora=True))),
        lambda: tar(adapter(adapter_config__json=config(bias="all"))),
        lambda: tar({WEIGHTS: weights()}),
        lambda: tar({CONFIG: adapter()[CONFIG]}),
        lambda: tar(adapter(template__json=b'{"labels": "' + b"\xff" + b'"}')),
        lambda: tar(adapter(manifest__json=b"{" * 9)),
    ]
    return kinds[number % len(kinds)]()


@pytest.mark.timeout(3600)
def test_hostile_adapters_are_all_refused(box: Sandbox, tmp_path: Path, size: Size, figure: Figure, tell: Tell) -> None:
    outside = secret_folder(tmp_path)
    chance, count = Random(0), size(80, 500)
    box.start()
    until(box.serving)
    with box.client() as client:
        taken = client.adapters.Import(upload("sound", tar(adapter())))
        assert taken.task == "sound"  # so that what is refused below is refused for its fault alone
        for number in range(count):
            archive = hostile_adapter(chance, number, outside)
            task = chance.choice(["mood", "sound"])
            status, said = outcome(client, task, archive)
            assert status in REFUSALS, f"adapter {number}: {status} {said}"
            tell(f"{number + 1} of {count} hostile adapters")
        versions = client.adapters.ListVersions(adapters_pb2.ListVersionsRequest()).versions
    assert [(row.task, row.version) for row in versions] == [("sound", 1)]
    assert box.kill(15) == 0
    nothing_came_through(box, outside)
    figure("hostile adapters, accepted", f"{count}, 0")


def outcome(client: Client, task: str, archive: Tar) -> tuple[str, str]:
    """The status of an import, and what was said."""
    try:
        version = client.adapters.Import(upload(task, archive))
    except RemoteError as error:
        return error.status, error.message
    return "OK", f"it became {version.task}@{version.version}"


def upload(task: str, archive: bytes) -> Iterator[adapters_pb2.ImportRequest]:
    yield adapters_pb2.ImportRequest(task=task, chunk=archive[:100_000])
    for at in range(100_000, len(archive), 100_000):
        yield adapters_pb2.ImportRequest(chunk=archive[at : at + 100_000])


def hostile_entry(chance: Random, number: int, folder: Path, outside: Path) -> None:
    """Put one thing into a task's folder, or beside it."""
    path = folder / f"{number}.jsonl"
    secret = outside / "secret"
    long = "x" * chance.choice([200, 240])

    def bomb(suffix: str, write: Callable[[Path], object]) -> None:
        temp = folder / f".{number}"
        write(temp)
        temp.rename(folder / f"{number}{suffix}")

    def parquet_bomb(temp: Path) -> None:
        column = pa.array([""]).dictionary_encode()
        rows = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000_000, pa.int32()), column.dictionary)
        pq.write_table(pa.table({"text": rows, "label": rows}), temp)

    def special(mode: int) -> None:
        os.mknod(path, mode | 0o644, os.makedev(1, 5))

    def listening() -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path)[-100:] if len(str(path)) > 100 else str(path))

    kinds: list[Callable[[], object]] = [
        lambda: path.symlink_to(secret),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to(path),
        lambda: path.with_suffix(".jsonl.done").symlink_to(secret),
        lambda: os.link(secret, path),
        lambda: os.mkfifo(path),
        lambda: special(stat.S_IFCHR),
        lambda: folder_of(path),
        lambda: bomb(".jsonl.gz", lambda it: it.write_bytes(gzip.compress(b"[" * 20_000_000, 1))),
        lambda: bomb(".parquet", parquet_bomb),
        lambda: bomb(".jsonl", lambda it: it.write_bytes(b'{"text": ' + b"[" * 100_000 + b"\n")),
        lambda: bomb(".jsonl", lambda it: it.write_bytes(chance.randbytes(4000))),
        lambda: bomb(".parquet", lambda it: it.write_bytes(b"PAR1" + chance.randbytes(4000) + b"PAR1")),
        lambda: bomb(".csv", lambda it: it.write_bytes(b'text,label\n"' + b"a" * 300_000)),
        lambda: bomb(".jsonl", lambda it: it.write_bytes(b"")),
        lambda: bomb(".pkl", lambda it: it.write_bytes(b"cos\nsystem\n(S'touch " + EVIL.encode() + b"'\ntR.")),
        lambda: bomb(".zip", lambda it: it.write_bytes(b"PK\x03\x04" + chance.randbytes(200))),
        lambda: bomb(f"-{long}.jsonl", lambda it: it.write_bytes(b"no JSON\n" * 200)),
        lambda: bomb("-\n\x1b[31m.jsonl", lambda it: it.write_bytes(b"no JSON\n" * 200)),
        lambda: bomb(os.fsdecode(b"-\xff\xfe.jsonl"), lambda it: it.write_bytes(b"no JSON\n" * 200)),
        (folder.parent / f"..{number}").mkdir,
        (folder.parent / f"Bad Task {number}").mkdir,
        lambda: (folder.parent / f"{number}.jsonl").write_bytes(SECRET),
        lambda: (folder.parent / f"link{number}").symlink_to(outside, target_is_directory=True),
        lambda: sparse(folder / f"{number}-sparse.jsonl"),
    ]
    kinds[number % len(kinds)]()


def folder_of(path: Path) -> None:
    """A folder in the place of a file."""
    path.mkdir()
    (path / "rows.jsonl").write_bytes(SECRET)


def sparse(path: Path) -> None:
    """A terabyte of zeros that takes no room."""
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.timeout(3600)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device files")
def test_hostile_inbox_entries_teach_nothing_and_hold_up_nothing(
    box: Sandbox, tmp_path: Path, size: Size, figure: Figure, tell: Tell
) -> None:
    outside = secret_folder(tmp_path)
    chance, count = Random(1), size(25, 500)
    folder = box.inbox / "mood"
    folder.mkdir()
    box.start()
    until(box.serving)
    for number in range(count):
        hostile_entry(chance, number, folder, outside)
        tell(f"{number + 1} of {count} hostile entries")
    box.drop("sound", 1)
    until(lambda: not box.unfinished(), lambda: str(box.rows("SELECT id, state, reason FROM drops")), 1800)
    states = "SELECT state, count(*) AS count FROM drops WHERE task != 'sound' GROUP BY state"
    until(
        lambda: {row["state"] for row in box.rows(states)} <= {"quarantined", "failed", "held"},
        lambda: str(box.rows(states)),
        1800,
    )
    assert {row["task"] for row in box.rows("SELECT task FROM versions")} == {"sound"}
    with box.client() as client:
        assert client.learning.GetStatus(learning_pb2.GetStatusRequest()).pid == box.pid
    figure("hostile inbox entries, learned from", f"{count}, 0")
    figure("hostile inbox entries: drops refused", sum(row["count"] for row in box.rows(states)))
    assert box.kill(15) == 0
    nothing_came_through(box, outside)


def secret_folder(tmp_path: Path) -> Path:
    """A folder that is none of the daemon's, with a file that nobody who drops files could read."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    return outside


def nothing_came_through(box: Sandbox, outside: Path) -> None:
    """Neither is anything outside the state folder touched, nor did the secret get into it, nor is a leftover there."""
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == SECRET
    for folder, _, files in os.walk(box.state):
        for name in files:
            path = Path(folder) / name
            assert EVIL not in name
            assert path.lstat().st_size > 1 << 30 or not stat.S_ISREG(path.lstat().st_mode) or SECRET not in read(path)
    assert not [path for path in box.folder.rglob(f"*{EVIL}*") if box.inbox not in path.parents]
    assert not list((box.state / "transfer").rglob(f"{TEMP_PREFIX}*"))


def read(path: Path) -> bytes:
    """The beginning of a file, which holds all of what is small."""
    with path.open("rb") as file:
        return file.read(1 << 20)

"""Every RPC, with requests that a machine made up: none ends in an error that nobody foresaw, and the daemon lives."""

import struct
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from adapterd.v1 import adapters_pb2, inference_pb2, learning_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from .conftest import Figure, Size, Tell
from .sandbox import Sandbox, until

pytestmark = pytest.mark.e2e

METHODS = [
    method
    for module in (inference_pb2, adapters_pb2, learning_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
TEXTS = (
    *("", "mood", "mood@1", "mood@champion", "mood@canary", "base", "base@1", "mood@0", "mood@-1", "mood@99999999999"),
    *("../../etc/passwd", "/etc/passwd", "mood/../../x", "a" * 64, "A", "mood@@1", "@", ".", "..", "\0", "x\0y"),
    *("é" * 70, "数据", "\u202e\u0000\ufeff", "\U0010ffff" * 100, "%s%n%x", "'; DROP TABLE drops; --", "{{7*7}}"),
    *(
        "\n\r\t\x1b[31m",
        "NaN",
        "1e999",
        "rows.jsonl",
        "rows.pkl",
        "x" * 100_000,
        "👩‍👩‍👧‍👦" * 50,
        "\ud7ff",
        "good",
        "bad",
    ),
)
NUMBERS = (0, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1, -1, -(2**31), -(2**63))
FLOATS = (0.0, -0.0, 0.1, 0.999, 1.0, 1.5, -1.0, 1e-300, 1e308, float("inf"), float("-inf"), float("nan"))
# What only time decides, or a limit.
FORESEEN = frozenset(grpc.StatusCode) - {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
DEADLINE_S = 1.5


@pytest.mark.timeout(3600)
def test_no_request_brings_the_daemon_down(box: Sandbox, size: Size, figure: Figure, tell: Tell) -> None:
    count = size(400, 10_000)
    box.drop("mood", 1)
    box.start()
    box.work_off()
    until(box.serving)
    codes, lock, odd = Counter[str](), threading.Lock(), list[str]()

    def one(number: int) -> None:
        chance = Random(number)
        method = METHODS[number % len(METHODS)]
        code, said = call(channel, method, [request(chance, method) for _ in range(chance.randint(0, 3))], chance)
        with lock:
            codes[code.name] += 1
            if code not in FORESEEN:
                odd.append(f"{method.name} ({number}): {code.name} {said}")
            if number % 50 == 0:
                tell(f"{codes.total()} of {count} calls")

    with (
        grpc.insecure_channel(f"unix:{box.state / 'adapterd.sock'}") as channel,
        ThreadPoolExecutor(4) as pool,
    ):
        list(pool.map(one, range(count)))
    assert not odd, odd[:5]
    assert box.serving()
    assert box.pid
    figure("fuzzed calls, by how they ended", ", ".join(f"{count} {name}" for name, count in codes.most_common()))
    assert box.kill(15) == 0
    assert not stray(box), stray(box)
    log = box.log.read_text("utf-8")
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]


def request(chance: Random, method: Any) -> bytes:
    """Bytes that are a message, a message spoilt, or none at all."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randint(0, 300))
    message = GetMessageClass(method.input_type)()
    fill(chance, message, depth=0)
    data = bytearray(message.SerializeToString())
    if data and chance.random() < 0.25:
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def fill(chance: Random, message: Message, depth: int) -> None:
    """Set some of the fields, to what hurts."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.35:
            continue
        if field.is_repeated:
            values = getattr(message, field.name)
            for _ in range(chance.choice([1, 2, 40])):
                if field.message_type is not None:
                    fill(chance, values.add(), depth + 1)
                else:
                    values.append(value(chance, field))
        elif field.message_type is not None:
            if depth < 4:
                getattr(message, field.name).SetInParent()
                fill(chance, getattr(message, field.name), depth + 1)
        else:
            setattr(message, field.name, value(chance, field))


def value(chance: Random, field: Any) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return chance.randbytes(chance.choice([0, 1, 512, 5000]))
        return chance.choice(TEXTS)
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return chance.choice(FLOATS) if kind == FieldDescriptor.CPPTYPE_DOUBLE else as_float(chance.choice(FLOATS))
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return chance.choice([0, 1, 2, 99])
    low, high = {
        FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
        FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
        FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
        FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    }[kind]
    return min(max(chance.choice(NUMBERS), low), high)


def as_float(number: float) -> float:
    """As 32 bits have it, the largest finite one in place of what they do not reach."""
    return float(struct.unpack("f", struct.pack("f", max(min(number, 3e38), -3e38)))[0])


def call(channel: grpc.Channel, method: Any, requests: list[bytes], chance: Random) -> tuple[grpc.StatusCode, str]:
    """Call a method, and hang up in the middle now and then."""
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    bound = getattr(channel, kind)(f"/{method.containing_service.full_name}/{method.name}")
    sent: Any = iter(requests) if method.client_streaming else (requests or [b""])[0]
    try:
        if method.server_streaming:
            answers = bound(sent, timeout=DEADLINE_S)
            for number, _ in enumerate(answers):
                if number > chance.randint(0, 20):
                    answers.cancel()
                    break
        else:
            bound(sent, timeout=DEADLINE_S)
    except grpc.RpcError as error:
        failed: Any = error
        return failed.code(), failed.details() or ""
    return grpc.StatusCode.OK, ""


def stray(box: Sandbox) -> list[Path]:
    """What lies beside the state folder, the inbox and the sandbox's own files."""
    known = {box.state, box.inbox, box.config, box.log}
    return [path for path in box.folder.iterdir() if path not in known]

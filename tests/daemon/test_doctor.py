"""What the doctor says of what was measured."""

import dataclasses
import inspect
import stat
from pathlib import Path
from typing import get_args

import pytest
from adapterd.daemon import doctor
from adapterd.daemon.doctor import Check

FOLDER = Path("/state")

CASES: list[tuple[Check, str]] = [
    (doctor.check_python((3, 11, 0)), "ok"),
    (doctor.check_python((3, 14, 2)), "ok"),
    (doctor.check_python((3, 10, 14)), "fail"),
    (doctor.check_libraries([("torch", ">=2.10", "2.13.0", True)]), "ok"),
    (doctor.check_libraries([("torch", ">=2.10", "2.9.0", False)]), "warn"),
    (doctor.check_libraries([("torch", ">=2.10", None, False), ("peft", ">=1", "0.1", False)]), "fail"),
    (doctor.check_settings((), ()), "ok"),
    (doctor.check_settings((), ("$ADAPTERD_X names no setting",)), "warn"),
    (doctor.check_settings(("training.rank: wrong",), ("a warning",)), "fail"),
    (doctor.check_base("tiny", FOLDER, ""), "ok"),
    (doctor.check_base("tiny", None, ""), "warn"),
    (doctor.check_base("tiny", FOLDER, "model.safetensors differs"), "fail"),
    (doctor.check_folder("inbox", FOLDER, exists=True, writable=True), "ok"),
    (doctor.check_folder("inbox", FOLDER, exists=False, writable=True), "ok"),
    (doctor.check_folder("inbox", FOLDER, exists=True, writable=False), "fail"),
    (doctor.check_folder("inbox", FOLDER, exists=False, writable=False), "fail"),
    (doctor.check_visible("state", FOLDER), "warn"),
    (doctor.check_same_device(1, 1), "ok"),
    (doctor.check_same_device(1, 2), "warn"),
    (doctor.check_disk(2_000_000_000, FOLDER), "ok"),
    (doctor.check_disk(1_999_999_999, FOLDER), "warn"),
    (doctor.check_disk(200_000_000, FOLDER), "warn"),
    (doctor.check_disk(199_999_999, FOLDER), "fail"),
    (doctor.check_privacy(FOLDER, stat.S_IFDIR | 0o750), "ok"),
    (doctor.check_privacy(FOLDER, stat.S_IFDIR | 0o755), "warn"),
    (doctor.check_privacy(FOLDER, stat.S_IFDIR | 0o751), "warn"),
    (doctor.check_privacy(FOLDER, stat.S_IFDIR | 0o772), "fail"),
    (doctor.check_socket(FOLDER, stat.S_IFSOCK | 0o660), "ok"),
    (doctor.check_socket(FOLDER, stat.S_IFSOCK | 0o755), "ok"),  # connecting takes the right to write
    (doctor.check_socket(FOLDER, stat.S_IFSOCK | 0o666), "fail"),
    (doctor.check_socket(FOLDER, stat.S_IFREG | 0o600), "fail"),
    (doctor.check_address("127.0.0.1:1", "", ""), "ok"),
    (doctor.check_address("0.0.0.0:1", "not on this machine alone", "write 127.0.0.1:PORT"), "fail"),
    (doctor.check_daemon("unix:/x", "0.1.0", (), ""), "ok"),
    (doctor.check_daemon("unix:/x", "0.1.0", ("the disk is nearly full",), ""), "warn"),
    (doctor.check_daemon("unix:/x", None, (), ""), "warn"),
    (doctor.check_daemon("unix:/x", None, (), "it answers nonsense"), "warn"),
    (doctor.check_clock(doctor.RELEASED + 1, 0), "ok"),
    (doctor.check_clock(doctor.RELEASED + 1, doctor.RELEASED + 200), "ok"),
    (doctor.check_clock(doctor.RELEASED + 1, doctor.RELEASED + 900), "warn"),
    (doctor.check_clock(0, 0), "fail"),
    (doctor.check_cores(2), "ok"),
    (doctor.check_cores(1), "warn"),
    (doctor.check_memory(4 * 10**9, 8 * 10**9, 2 * 10**9), "ok"),
    (doctor.check_memory(1 * 10**9, 8 * 10**9, 2 * 10**9), "warn"),
    (doctor.check_memory(1 * 10**9, 1 * 10**9, 2 * 10**9), "fail"),
    (doctor.check_inotify(8192, 10), "ok"),
    (doctor.check_inotify(10, 9), "warn"),
]


@pytest.mark.parametrize(("check", "status"), CASES, ids=[check.message for check, _ in CASES])
def test_finding_has_the_right_weight(check: Check, status: str) -> None:
    assert check.status == status


@pytest.mark.parametrize("check", [check for check, _ in CASES], ids=[check.message for check, _ in CASES])
def test_every_complaint_says_what_to_do(check: Check) -> None:
    assert check.message
    assert bool(check.hint) == (check.status != "ok")


def test_every_check_and_every_weight_is_tried_here() -> None:
    checks = {name for name, _ in inspect.getmembers(doctor, inspect.isfunction) if name.startswith("check_")}
    source = inspect.getsource(inspect.getmodule(test_finding_has_the_right_weight))  # type: ignore[arg-type]
    assert [name for name in sorted(checks) if f"doctor.{name}(" not in source] == []
    assert {status for _, status in CASES} == set(get_args(doctor.Status))


def test_libraries_of_a_checkout_that_is_not_installed_cannot_be_judged() -> None:
    assert doctor.check_libraries([]).status == "warn"


def test_memory_need_grows_with_the_base_and_its_bits() -> None:
    needs = [doctor.memory_need(270_000_000, held) for held in ("nf4", "int8", "bfloat16", "float32")]
    assert needs == sorted(set(needs))
    assert len(doctor.HELD_SHARE) == len(needs)
    assert doctor.memory_need(0, "nf4") == doctor.RUNTIME_BYTES


def test_a_check_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        doctor.check_cores(2).status = "fail"  # type: ignore[misc]

"""The auditing process: what it is asked, and what it does about a file that breaks it."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from adapterd.continual.audit.findings import Concern
from adapterd.daemon.audit_process import AuditProcess
from adapterd.daemon.auditing import Auditing, Reading, audit_drop, read
from adapterd.daemon.dataset import Dataset
from adapterd.daemon.errors import AuditorFailed

MEMORY = 2 << 30


@pytest.fixture
def process() -> Iterator[AuditProcess]:
    process = AuditProcess()
    yield process
    process.stop()


def reading(folder: Path, text: str, **changes: Any) -> Reading:
    file = folder / "new.jsonl"
    file.write_text(text, "utf-8")
    request = Reading(
        "mood", 1, str(folder / "data"), str(folder / "bad"), str(file), {}, 100, redact=[], region="", presidio=""
    )
    return Reading(**(asdict(request) | changes))


def auditing(folder: Path, drop: int, history: list[int], **changes: Any) -> Auditing:
    heldout = {"share": 0.2, "min_rows": 2, "max_rows": 50}
    names = {
        "data": str(folder / "data"),
        "quarantine": str(folder / "bad"),
        "tokenizer": "",
        "region": "",
        "presidio": "",
    }
    request = Auditing(
        "mood",
        drop,
        history=history,
        golden=0,
        is_golden=False,
        labels=[],
        heldout=heldout,
        seed=0,
        max_length=64,
        **names,
    )
    return Auditing(**(asdict(request) | changes))


def answered(
    process: AuditProcess, request: dict[str, Any], seconds: float = 60.0, memory: int = MEMORY
) -> dict[str, Any]:
    process.ask(request, memory_bytes=memory, seconds=seconds)
    end = time.monotonic() + seconds + 10
    while (answer := process.answer(0.2)) is None:
        assert time.monotonic() < end
    return answer


def rows(count: int, first: int = 0) -> list[dict[str, str]]:
    words = [
        "amber",
        "birch",
        "cedar",
        "delta",
        "ember",
        "fjord",
        "grove",
        "haven",
        "inlet",
        "jetty",
        "knoll",
        "lagoon",
    ]
    return [
        {
            "text": f"{words[n % 12]} {words[n // 12 % 12]} {words[(n * 7 + first) % 12]} number {n * 7919}",
            "label": "ab"[n % 2],
        }
        for n in range(first, first + count)
    ]


def lines(values: list[dict[str, str]]) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def test_it_reads_and_refuses_one_file_after_the_other(process: AuditProcess, tmp_path: Path) -> None:
    good = reading(tmp_path, lines(rows(3)) + "no JSON\n" + lines(rows(1)))
    answer = answered(process, {"read": asdict(good)})
    counts = {"rows": 3, "bad_rows": 1, "repeated_rows": 1, "redacted_rows": 0}
    assert answer["done"] | {"bad": []} == {**counts, "keep_file": True, "bad": []}
    stored = Dataset(tmp_path / "data", tmp_path / "bad").read_rows("mood", 1)
    assert [(row.line, row.again) for row in stored] == [(1, (5,)), (2, ()), (3, ())]
    unfit = reading(tmp_path, "no JSON\n" * 4, max_bad_rows=2)
    answer = answered(process, {"read": asdict(unfit)})
    assert "3 of the first 3 rows are bad" in answer["refused"]


def test_a_file_that_needs_too_much_memory_ends_the_process_and_the_next_is_read(
    process: AuditProcess, tmp_path: Path
) -> None:
    large = lines([{"text": f"{n} " + "x" * 150_000, "label": "a"} for n in range(2500)])
    request = reading(tmp_path, large)
    with pytest.raises(AuditorFailed, match=r"limits\.audit_memory_bytes = 268,435,456"):
        answered(process, {"read": asdict(request)}, memory=1 << 28)
    assert answered(process, {"read": asdict(reading(tmp_path, lines(rows(2))))})["done"]["rows"] == 2


def test_a_request_that_takes_too_long_is_ended(process: AuditProcess, tmp_path: Path) -> None:
    request = {"read": asdict(reading(tmp_path, lines(rows(2))))}
    process.ask(request, memory_bytes=MEMORY, seconds=0.0)
    with pytest.raises(AuditorFailed, match=r"limits\.audit_seconds = 0"):
        process.answer(1.0)
    assert answered(process, request)["done"]["rows"] == 2


def test_an_error_of_ours_is_an_answer_and_the_process_goes_on(process: AuditProcess, tmp_path: Path) -> None:
    request = asdict(reading(tmp_path, lines(rows(2))))
    assert (
        "FileNotFoundError" in answered(process, {"read": {**request, "path": str(tmp_path / "gone.jsonl")}})["fault"]
    )
    assert answered(process, {"read": request})["done"]["rows"] == 2


def test_what_is_redacted_is_kept_nowhere(tmp_path: Path) -> None:
    text = lines([{"text": "write to a.b@example.org", "label": "a"}]) + '{"text": 3, "mail": "c.d@example.org"}\n'
    found = read(reading(tmp_path, text, redact=["personal"]))
    assert (found["rows"], found["redacted_rows"], found["keep_file"]) == (1, 1, False)
    kept = "".join(path.read_text("utf-8") for path in tmp_path.rglob("rows.jsonl"))
    assert "example.org" not in kept
    assert kept.count("[EMAIL]") == 2
    audited = audit_drop(auditing(tmp_path, 1, []))
    assert audited["audit"]["counts"][Concern.PERSONAL] == 1


def test_rows_that_ask_the_same_fall_on_one_side(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "data", tmp_path / "bad")
    first = rows(60)
    read(reading(tmp_path, lines([*first, *({**row, "text": row["text"].upper()} for row in first)])))
    found = audit_drop(auditing(tmp_path, 1, []))
    assert found["audit"]["effective_rows"] == 60
    judged = {row.prompt.casefold() for part in ("heldout", "validation") for row in dataset.read("mood", 1, part)}
    learned = [row.prompt.casefold() for row in dataset.read("mood", 1, "train")]
    assert judged.isdisjoint(learned)
    assert len(learned) == 2 * len(set(learned))
    assert found["leaking_rows"] == len(judged)

    # A later drop that asks again: on the side where the question is already. What judges is told of as such.
    heldout = len(dataset.read("mood", 1, "heldout"))
    request = reading(tmp_path, lines([{**row, "text": row["text"] + "!"} for row in first]), drop=2)
    read(request)
    again = audit_drop(auditing(tmp_path, 2, [1]))
    assert {row.prompt[:-1].casefold() for row in dataset.read("mood", 2, "train")} == set(learned)
    assert (again["heldout_rows"], again["leaking_rows"]) == (0, len(judged))
    concerns = [finding.concern for finding in dataset.read_findings("mood", 2)]
    assert (concerns.count(Concern.LEAK), concerns.count(Concern.NEAR_DUPLICATE)) == (heldout, 60 - heldout)


def test_what_was_learned_and_sent_again_is_no_leak_for_a_later_drop(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "data", tmp_path / "bad")
    first = rows(60)
    for drop, sent in ((1, first), (2, [*first, *rows(20, 100)])):
        read(reading(tmp_path, lines(sent), drop=drop))
        audit_drop(auditing(tmp_path, drop, [*range(1, drop)]))
    read(reading(tmp_path, lines([{**row, "text": row["text"] + "!"} for row in first]), drop=3))
    found = audit_drop(auditing(tmp_path, 3, [1, 2]))
    learned = {row.prompt for row in dataset.read("mood", 1, "train")}
    assert {row.prompt[:-1] for row in dataset.read("mood", 3, "train")} == learned
    assert found["leaking_rows"] == 60 - len(learned)
    concerns = [finding.concern for finding in dataset.read_findings("mood", 3)]
    assert concerns.count(Concern.LEAK) == len(dataset.read("mood", 1, "heldout"))


def test_a_golden_set_takes_nothing_that_asks_what_was_learned_or_stopped_by(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "data", tmp_path / "bad")
    first = rows(60)
    read(reading(tmp_path, lines(first)))
    audit_drop(auditing(tmp_path, 1, []))
    read(reading(tmp_path, lines([{**row, "text": row["text"] + "!"} for row in first]), drop=2))
    audit_drop(auditing(tmp_path, 2, [1], is_golden=True))
    asked = {row.prompt[:-1] for row in dataset.read("mood", 2, "heldout")}
    assert asked == {row.prompt for row in dataset.read("mood", 1, "heldout")}

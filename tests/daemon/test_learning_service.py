"""Data that comes in, and what the daemon says of it."""

import dataclasses
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapterd.adapters.base import Base
from adapterd.continual.audit.findings import Concern, Finding
from adapterd.continual.examples import parse_row
from adapterd.daemon.client import Client
from adapterd.daemon.core import Core
from adapterd.daemon.dataset import Dataset, StoredRow
from adapterd.daemon.errors import RemoteError
from adapterd.daemon.learning_sections import Limits
from adapterd.daemon.ledger import DropRow
from adapterd.daemon.problems import LOW_DISK_BYTES, STALE_S, problems
from adapterd.daemon.states import DropState
from adapterd.v1 import common_pb2, learning_pb2

from .real_core import NOW, real_core, rows, served, until

DATA = rows(["a fine day", "a bad day"])


@pytest.fixture
def core(tmp_path: Path, tiny_base: Base) -> Iterator[Core]:
    with real_core(tmp_path, tiny_base, limits=Limits(max_file_bytes=10_000)) as core:
        yield core


@pytest.fixture
def client(core: Core) -> Iterator[Client]:
    with served(core) as client:
        yield client


def submit(client: Client, task: str, filename: str, *chunks: bytes) -> learning_pb2.SubmitDataResponse:
    def requests() -> Iterator[learning_pb2.SubmitDataRequest]:
        yield learning_pb2.SubmitDataRequest(task=task, filename=filename)
        for chunk in chunks:
            yield learning_pb2.SubmitDataRequest(chunk=chunk)

    return client.learning.SubmitData(requests())


def claim(core: Core, task: str, name: str, *states: DropState) -> DropRow:
    """A drop that went through `states`."""
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    drop, _ = core.ledger.drops.claim(task, name, sha256, 17, core.settings.state / "spool" / name)
    for state in states:
        core.ledger.drops.move(drop.id, state, reason=f"became {state.value}")
    return core.ledger.drops.get(drop.id)


def refused(call: Any) -> tuple[str, str]:
    with pytest.raises(RemoteError) as caught:
        call()
    assert caught.value.message
    return caught.value.status, caught.value.cause


def listed(client: Client, **how: str) -> list[str]:
    return [drop.filename for drop in client.learning.ListDrops(learning_pb2.ListDropsRequest(**how)).drops]


def test_a_file_lies_in_the_inbox_when_the_answer_comes(client: Client, core: Core) -> None:
    answer = submit(client, "fresh", "new.jsonl", DATA[:20], b"", DATA[20:])
    assert (answer.task, answer.filename) == ("fresh", "new.jsonl")
    assert answer.sha256 == hashlib.sha256(DATA).hexdigest()
    assert (core.settings.inbox_dir / "fresh" / "new.jsonl").read_bytes() == DATA


def test_a_file_may_come_with_the_first_message(client: Client, core: Core) -> None:
    first = learning_pb2.SubmitDataRequest(task="mood", filename="new.jsonl", chunk=DATA)
    client.learning.SubmitData([first])
    assert (core.settings.inbox_dir / "mood" / "new.jsonl").read_bytes() == DATA


def test_the_inbox_claims_what_was_submitted(client: Client, core: Core) -> None:
    answer = submit(client, "mood", "new.jsonl", DATA)
    for second in range(3):
        core.inbox.scan(NOW + second * 10)
    assert listed(client, task="mood", sha256=answer.sha256) == ["new.jsonl"]


@pytest.mark.parametrize(
    ("task", "name", "content", "field"),
    [
        ("A b", "a.jsonl", b"1", "task"),
        ("", "a.jsonl", b"1", "task"),
        ("mood", "", b"1", "filename"),
        ("mood", "../a.jsonl", b"1", "filename"),
        ("mood", "a.exe", b"1", "filename"),
        ("mood", "a.jsonl", b"", "chunk"),
        ("mood", "a.jsonl", bytes(10_001), "chunk"),
    ],
)
def test_a_file_that_is_not_taken_names_the_field(
    client: Client, core: Core, task: str, name: str, content: bytes, field: str
) -> None:
    with pytest.raises(RemoteError) as caught:
        submit(client, task, name, content)
    assert (caught.value.status, caught.value.details["field"]) == ("INVALID_ARGUMENT", field)
    assert not [path for path in core.settings.inbox_dir.rglob("*") if path.is_file()]


def test_a_task_may_take_larger_files_than_others(client: Client, core: Core) -> None:
    (core.settings.inbox_dir / "large").mkdir()
    (core.settings.inbox_dir / "large" / "task.toml").write_text("[limits]\nmax_file_bytes = 20_000\n")
    assert submit(client, "large", "a.jsonl", bytes(15_000)).filename == "a.jsonl"


def test_a_stream_that_breaks_off_is_no_file(client: Client, core: Core) -> None:
    begun = threading.Event()

    def broken() -> Iterator[learning_pb2.SubmitDataRequest]:
        yield learning_pb2.SubmitDataRequest(task="mood", filename="a.jsonl", chunk=DATA)
        assert until((core.settings.inbox_dir / "mood").is_dir)
        begun.set()
        raise ConnectionError("the disk of the client is gone")

    for _ in range(5):
        with pytest.raises(ConnectionError):
            client.learning.SubmitData(broken())
    assert begun.is_set()
    assert until(lambda: not list((core.settings.inbox_dir / "mood").iterdir()))


def test_one_stream_is_one_file(client: Client) -> None:
    requests = [learning_pb2.SubmitDataRequest(task="mood", filename=name, chunk=b"1") for name in ("a.csv", "b.csv")]
    assert refused(lambda: client.learning.SubmitData(requests))[0] == "INVALID_ARGUMENT"
    assert refused(lambda: client.learning.SubmitData([]))[0] == "INVALID_ARGUMENT"


def test_drops_are_listed_newest_first_and_as_asked(client: Client, core: Core) -> None:
    for task, name in (("mood", "1.csv"), ("mood", "2.csv"), ("other", "3.csv")):
        claim(core, task, name)
    assert listed(client) == ["3.csv", "2.csv", "1.csv"]
    assert listed(client, task="mood") == ["2.csv", "1.csv"]
    assert listed(client, sha256=hashlib.sha256(b"1.csv").hexdigest()) == ["1.csv"]
    assert listed(client, task="nobody") == []


def test_a_drop_says_how_far_it_is(client: Client, core: Core) -> None:
    row = claim(core, "mood", "1.csv", DropState.PARSED, DropState.HELD)
    drop = client.learning.GetDrop(learning_pb2.GetDropRequest(id=row.id))
    assert (drop.task, drop.state, drop.reason, drop.bytes) == (
        "mood",
        common_pb2.DROP_STATE_HELD,
        "became held",
        17,
    )
    assert json.loads(drop.details_json) == row.details
    assert drop.arrived.ToMicroseconds() == round(row.arrived * 1e6)


@pytest.mark.parametrize(("number", "status"), [(0, "NOT_FOUND"), (99, "NOT_FOUND"), (2**64 - 1, "INVALID_ARGUMENT")])
def test_a_number_of_nothing_has_its_status_everywhere(client: Client, number: int, status: str) -> None:
    learning = client.learning
    for call in (
        lambda: learning.GetDrop(learning_pb2.GetDropRequest(id=number)),
        lambda: learning.ReleaseDrop(learning_pb2.ReleaseDropRequest(id=number)),
        lambda: learning.CancelJob(learning_pb2.CancelJobRequest(id=number)),
    ):
        assert refused(call)[0] == status


def test_a_held_drop_is_released(client: Client, core: Core) -> None:
    row = claim(core, "mood", "1.csv", DropState.PARSED, DropState.HELD)
    released = client.learning.ReleaseDrop(learning_pb2.ReleaseDropRequest(id=row.id))
    assert released.state not in (common_pb2.DROP_STATE_HELD, common_pb2.DROP_STATE_UNSPECIFIED)
    again = refused(lambda: client.learning.ReleaseDrop(learning_pb2.ReleaseDropRequest(id=row.id)))
    assert again == ("FAILED_PRECONDITION", "NOT_ALLOWED")


def test_jobs_are_listed_newest_first_and_can_be_cancelled(client: Client, core: Core) -> None:
    steps = (DropState.PARSED, DropState.AUDITED, DropState.PLANNED)
    jobs = [core.ledger.jobs.queue("mood", claim(core, "mood", name, *steps).id) for name in ("1.csv", "2.csv")]
    rows = client.learning.ListJobs(learning_pb2.ListJobsRequest(task="mood")).jobs
    assert [row.id for row in rows] == [jobs[1].id, jobs[0].id]
    cancelled = client.learning.CancelJob(learning_pb2.CancelJobRequest(id=jobs[0].id))
    assert cancelled.state == learning_pb2.JOB_STATE_CANCELLED
    again = refused(lambda: client.learning.CancelJob(learning_pb2.CancelJobRequest(id=jobs[0].id)))
    assert again == ("FAILED_PRECONDITION", "NOT_ALLOWED")


def test_a_report_is_a_document_about_the_task(client: Client) -> None:
    report = client.learning.GetReport(learning_pb2.GetReportRequest(task="mood"))
    document = json.loads(report.report_json)
    assert (report.task, document["task"]) == ("mood", "mood")
    assert [row["version"] for row in document["versions"]] == [1]
    assert refused(lambda: client.learning.GetReport(learning_pb2.GetReportRequest(task="nobody")))[0] == "NOT_FOUND"


def events(client: Client, **how: Any) -> Iterator[common_pb2.Event]:
    return client.learning.Events(learning_pb2.EventsRequest(**how), timeout=10)


def test_past_events_come_in_their_order_and_end(client: Client, core: Core) -> None:
    start = core.ledger.events.last_id()
    with core.ledger.transaction():
        for number in range(1100):  # more than are read at once
            core.ledger.events.emit("drop.parsed", str(number), task="mood" if number % 2 else "other", drop=number)
    assert [int(event.message) for event in events(client, after=start)] == list(range(1100))
    assert [int(event.message) for event in events(client, after=start, task="other")] == list(range(0, 1100, 2))
    assert list(events(client, after=start + 1100)) == []


def test_an_event_says_what_it_is_about(client: Client, core: Core) -> None:
    start = core.ledger.events.last_id()
    row = core.ledger.events.emit("alias.moved", "it moved", task="mood", drop=2, version=3, details={"to": "é"})
    (event,) = events(client, after=start)
    assert (event.id, event.kind, event.task, event.drop, event.version) == (row.id, "alias.moved", "mood", 2, 3)
    assert json.loads(event.details_json) == {"to": "é"}
    assert event.time.ToMicroseconds() == round(row.time * 1e6)


def test_following_goes_on_with_what_happens(client: Client, core: Core) -> None:
    start = core.ledger.events.last_id()
    core.ledger.events.emit("drop.parsed", "before", task="mood")
    stream = events(client, after=start, follow=True)
    assert next(stream).message == "before"
    core.ledger.events.emit("drop.done", "after", task="mood")
    assert next(stream).message == "after"


def test_an_event_that_comes_while_others_are_read_is_told_once(
    client: Client, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = core.ledger.events.last_id()
    core.ledger.events.emit("drop.parsed", "first", task="mood")
    core.ledger.events.emit("drop.done", "second", task="mood")
    # As if the second had come between the look at the newest id and the reading.
    monkeypatch.setattr(core.ledger.events, "last_id", lambda: start + 1)
    stream = events(client, after=start, follow=True)
    assert [next(stream).message, next(stream).message] == ["first", "second"]
    core.ledger.events.emit("drop.parsed", "third", task="mood")
    assert next(stream).message == "third"


def test_following_one_task_skips_the_others(client: Client, core: Core) -> None:
    stream = events(client, after=core.ledger.events.last_id(), follow=True, task="mood")
    for task, message in (("other", "not this"), ("mood", "this"), ("other", "not this"), ("mood", "and this")):
        core.ledger.events.emit("drop.parsed", message, task=task)
    assert [next(stream).message, next(stream).message] == ["this", "and this"]


def test_followers_have_seats_and_requests_go_on(tmp_path: Path, tiny_base: Base) -> None:
    with real_core(tmp_path, tiny_base, max_concurrent_rpcs=8) as core, served(core) as client:
        seated = [events(client, follow=True) for _ in range(2)]
        for stream in seated:
            next(stream)
        assert refused(lambda: next(events(client, follow=True))) == ("RESOURCE_EXHAUSTED", "TOO_MANY_FOLLOWERS")
        assert list(events(client))
        assert listed(client) == []


def test_the_status_says_what_the_daemon_is_and_holds(client: Client, core: Core) -> None:
    claim(core, "mood", "1.csv", DropState.PARSED, DropState.HELD)
    status = client.learning.GetStatus(learning_pb2.GetStatusRequest())
    assert (status.base, status.quantization, status.device) == ("tiny", "none", "cpu")
    assert status.fingerprint == core.base.fingerprint
    assert (status.state_dir, status.inbox) == (str(core.settings.state), str(core.settings.inbox_dir))
    assert status.address == core.settings.bind
    assert status.started.ToMicroseconds() == round(core.started * 1e6)
    assert status.pid == os.getpid()
    assert status.memory_bytes > 10_000_000
    assert (status.slots, status.slots_used, status.leases) == (core.manager.usage().slots, 1, 0)
    assert (status.queued, status.running) == (0, 0)
    assert [task.name for task in status.tasks] == ["mood"]
    assert any("held" in warning for warning in status.warnings)


def test_a_daemon_without_trouble_has_no_problems(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Disk(free=LOW_DISK_BYTES))
    assert problems(core, core.worker.heartbeat) == []


class Disk:
    """What `shutil.disk_usage` says."""

    def __init__(self, free: int) -> None:
        self.free = free


def test_every_problem_is_a_sentence_of_its_own(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Disk(free=LOW_DISK_BYTES - 1))
    for number in range(12):
        claim(core, "mood", f"{number}.csv", DropState.PARSED, DropState.HELD)
    core.engine.stop()
    found = problems(core, core.worker.heartbeat + STALE_S + 1)
    assert "engine" in found[0]
    assert sum("is held: became held" in line for line in found) == 10
    assert any(line.startswith("2 more drops") for line in found)
    assert any("worker" in line for line in found)
    assert any("MiB are free" in line for line in found)


def test_an_engine_that_hangs_in_a_step_is_a_problem(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Disk(free=LOW_DISK_BYTES))
    stats = core.engine.stats()
    hanging = dataclasses.replace(stats, heartbeat=time.monotonic() - STALE_S - 1)
    monkeypatch.setattr(core.engine, "stats", lambda: hanging)
    (problem,) = problems(core, core.worker.heartbeat)
    assert problem.startswith("the engine has been at one step for 901 s")


def test_findings_and_a_sample_of_rows_are_read_from_the_drop(client: Client, core: Core) -> None:
    drop = claim(core, "mood", "a.jsonl", DropState.PARSED)
    dataset = Dataset.below(core.settings.state)
    stored = [StoredRow(line, parse_row({"text": f"row {line}", "label": "yes"})) for line in range(1, 31)]
    dataset.write_rows("mood", drop.id, stored)
    dataset.write("mood", drop.id, "train", [row.example for row in stored[:20]])
    dataset.write("mood", drop.id, "heldout", [row.example for row in stored[20:28]])
    dataset.write_findings("mood", drop.id, [Finding(Concern.LEAK, 3, "leaks", other=0, drop=1)])
    (finding,) = client.learning.ListFindings(learning_pb2.ListFindingsRequest(drop=drop.id))
    assert (finding.concern, finding.line, finding.other_drop) == ("leak", 3, 1)

    def sampled(count: int, seed: int = 0) -> list[tuple[int, str]]:
        request = learning_pb2.SampleRowsRequest(task="mood", count=count, seed=seed)
        return [(row.line, row.side) for row in client.learning.SampleRows(request).rows]

    every = sampled(50)
    assert [line for line, _ in every] == list(range(1, 31))
    assert [side for _, side in every] == ["train"] * 20 + ["heldout"] * 8 + ["unused"] * 2
    assert sampled(5) == sampled(5) != sampled(5, seed=1)
    assert refused(lambda: sampled(0))[0] == "INVALID_ARGUMENT"
    request = learning_pb2.SampleRowsRequest(task="mood", count=1, drop=99)
    assert refused(lambda: client.learning.SampleRows(request))[0] == "NOT_FOUND"

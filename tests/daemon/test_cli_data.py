"""drop, drops, release, cancel, events, tasks."""

import hashlib
import json
from pathlib import Path

import pytest
from adapterd.v1 import common_pb2, learning_pb2

from .cli_runner import CommandLine
from .fake_daemon import FakeDaemon, drop, event, version

CLAIMED, TRAINING, DONE = (
    common_pb2.DROP_STATE_CLAIMED,
    common_pb2.DROP_STATE_TRAINING,
    common_pb2.DROP_STATE_DONE,
)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file to drop, larger than one message."""
    path = tmp_path / "new rows.jsonl"
    path.write_bytes(b'{"text": "fine", "label": "good"}\n' * 20_000)
    return path


def progress(number: int, **details: object) -> common_pb2.Event:
    """A step forward in the training of drop 3."""
    return event(number, "training.progress", "job 1", drop=3, details=details)


@pytest.fixture
def learned(fake: FakeDaemon) -> FakeDaemon:
    """The daemon makes version 2 of whatever is dropped; other drops' events are among those of the drop."""
    fake.events = [event(7, "drop.done", "an old one", drop=2)]
    fake.after_drop = [
        (event(8, "drop.claimed", "drop 3 came", drop=3), drop(3, CLAIMED, version=0)),
        (event(9, "drop.held", "another drop is held", drop=2), drop(3, CLAIMED, version=0)),
        (event(10, "training.started", "job 1 started", drop=3), drop(3, TRAINING, version=0)),
        (progress(11, phase="training", progress=0.5, step=3, steps=6, loss=1.25), drop(3, TRAINING, version=0)),
        (event(12, "drop.done", "drop 3 became mood@2", drop=3), drop(3, DONE, version=2)),
    ]
    return fake


def test_drop_hands_over_every_byte(adapterd: CommandLine, fake: FakeDaemon, rows: Path) -> None:
    ended = adapterd("drop", "mood", rows)
    assert ended.status == 0
    assert fake.received == {"new rows.jsonl": rows.read_bytes()}
    assert "adapterd drops mood" in ended.out


def test_drop_of_an_empty_file_is_the_daemons_to_judge(adapterd: CommandLine, fake: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    assert adapterd("drop", "mood", tmp_path / "empty.jsonl").status == 0
    assert fake.received == {"empty.jsonl": b""}


def test_drop_json_names_the_file_and_its_hash(adapterd: CommandLine, rows: Path) -> None:
    document = json.loads(adapterd("drop", "mood", rows, "--json").out)
    assert (document["schema"], document["task"], document["filename"]) == (1, "mood", "new rows.jsonl")
    assert len(document["sha256"]) == 64


def test_drop_wait_follows_to_the_verdict(adapterd: CommandLine, learned: FakeDaemon, rows: Path) -> None:
    ended = adapterd("drop", "mood", rows, "--wait")
    assert ended.status == 0
    said = [line.split("  ", 1)[1] for line in ended.err.splitlines()]
    assert said == ["drop 3 came", "job 1 started", "drop 3 became mood@2"]
    assert "new drop 2 improves" in ended.out
    assert "CANDIDATE" in ended.out
    assert "+0.4000" in ended.out


def test_drop_wait_shows_phase_loss_and_time_on_a_terminal(
    adapterd: CommandLine, learned: FakeDaemon, rows: Path
) -> None:
    ended = adapterd("drop", "mood", rows, "--wait", terminal=True)
    assert ended.status == 0
    assert "job 1 started" in ended.err
    assert "training  step 3/6  loss 1.250" in ended.err
    assert "drop 3 became mood@2" in ended.err


def test_drop_wait_json_is_one_document_on_standard_output(
    adapterd: CommandLine, learned: FakeDaemon, rows: Path
) -> None:
    document = json.loads(adapterd("drop", "mood", rows, "--wait", "--json").out)
    assert document["drop"]["state"] == "done"
    assert document["version"]["version"] == 2


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (common_pb2.DROP_STATE_HELD, "held"),
        (common_pb2.DROP_STATE_QUARANTINED, "quarantined"),
        (common_pb2.DROP_STATE_FAILED, "failed"),
    ],
)
def test_drop_wait_exits_1_unless_the_drop_is_done(
    adapterd: CommandLine, fake: FakeDaemon, rows: Path, state: int, word: str
) -> None:
    refused = drop(3, state, version=0, reason="only 3 new rows")
    fake.after_drop = [(event(1, f"drop.{word}", "only 3 new rows", drop=3), refused)]
    ended = adapterd("drop", "mood", rows, "--wait")
    assert ended.status == 1
    assert word in ended.out
    assert "only 3 new rows" in ended.out


def test_drop_wait_of_known_bytes_shows_what_became_of_them(
    adapterd: CommandLine, fake: FakeDaemon, rows: Path
) -> None:
    fake.drops[1].sha256 = hashlib.sha256(rows.read_bytes()).hexdigest()
    ended = adapterd("drop", "mood", rows, "--wait")
    assert ended.status == 0
    assert "mood@1" in ended.out


def test_drop_wait_of_rows_that_are_known_is_done_without_a_version(
    adapterd: CommandLine, fake: FakeDaemon, rows: Path
) -> None:
    known = drop(3, DONE, version=0, plan="rehearse", reason="all 100 rows are known from earlier drops")
    fake.after_drop = [(event(1, "drop.done", "nothing to learn", drop=3), known)]
    ended = adapterd("drop", "mood", rows, "--wait")
    assert ended.status == 0
    assert "all 100 rows are known" in ended.out
    document = json.loads(adapterd("drop", "mood", rows, "--wait", "--json").out)
    assert document["version"] is None


def test_drop_wait_says_that_nothing_is_lost_if_the_daemon_goes_away(
    adapterd: CommandLine, fake: FakeDaemon, rows: Path
) -> None:
    fake.after_drop = [(event(1, "drop.claimed", "drop 3 came", drop=3), drop(3, CLAIMED, version=0))]
    fake.stopping.set()
    ended = adapterd("drop", "mood", rows, "--wait")
    assert ended.status == 1
    assert "nothing is lost" in ended.err


def test_tasks_says_what_answers(adapterd: CommandLine) -> None:
    assert adapterd("tasks").out.splitlines()[1].split() == ["mood", "mood@2", "available", "1", "2", "2"]
    document = json.loads(adapterd("tasks", "--json").out)
    assert document["tasks"][0]["previous"] == 1
    assert document["tasks"][0]["canary"] is None


def test_nothing_to_list_is_no_error_and_prints_nothing(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.versions.clear()
    fake.drops.clear()
    for arguments in (["tasks"], ["drops"], ["list"], ["list", "other"]):
        ended = adapterd(*arguments)
        assert (ended.status, ended.out) == (0, "")
        assert ended.err
    assert json.loads(adapterd("drops", "--json").out) == {"schema": 1, "drops": []}


def test_drops_shows_each_file_and_why_it_is_there(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.drops[3] = drop(3, common_pb2.DROP_STATE_HELD, version=0, reason="only 3 new rows", filename="a\x1b[2Jb.csv")
    out = adapterd("drops", "mood").out
    assert "only 3 new rows" in out
    assert "a\ufffd[2Jb.csv" in out
    document = json.loads(adapterd("drops", "--json").out)
    assert document["drops"][0]["details"] == {"duplicates": 3}
    assert document["drops"][2]["version"] is None


def test_release_lets_a_drop_go_on(adapterd: CommandLine, fake: FakeDaemon) -> None:
    assert "audited" in adapterd("release", "1").out
    assert json.loads(adapterd("release", "1", "--json").out)["state"] == "audited"
    assert adapterd("release", "99").status == 1


def test_cancel_ends_a_drops_training_and_the_drop_is_held(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.drops[2].state = TRAINING
    states = {3: learning_pb2.JOB_STATE_FAILED, 4: learning_pb2.JOB_STATE_RUNNING}
    fake.jobs = [learning_pb2.Job(id=job, task="mood", drop=2, state=state) for job, state in states.items()]
    assert adapterd("cancel", "2").out == "drop 2 of mood is held: job 4 was cancelled by a person\n"
    again = adapterd("cancel", "2")
    assert again.status == 1
    assert "no training of it waits or runs" in again.err
    assert adapterd("cancel", "99").status == 1


def test_events_shows_the_last_ones(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.events = [event(number, "drop.done", f"drop {number} is done", drop=number) for number in range(1, 101)]
    shown = adapterd("events").out.splitlines()
    assert len(shown) == 20
    assert shown[-1].endswith("drop 100 is done")
    assert len(adapterd("events", "-n", "3").out.splitlines()) == 3
    assert len(adapterd("events", "--after", "40").out.splitlines()) == 60
    assert adapterd("events", "--task", "other").out == ""


def test_events_json_is_one_document_and_with_follow_one_a_line(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.events = [event(number, "drop.done", "é", drop=number, details={"n": number}) for number in (1, 2)]
    document = json.loads(adapterd("events", "--json").out)
    assert [row["id"] for row in document["events"]] == [1, 2]
    fake.stopping.set()
    lines = [json.loads(line) for line in adapterd("events", "-f", "--json").out.splitlines()]
    assert [(line["schema"], line["id"], line["details"]) for line in lines] == [(1, 1, {"n": 1}), (1, 2, {"n": 2})]


def test_events_follow_shows_nothing_twice(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.events = [event(number, "drop.done", f"drop {number}", drop=number) for number in range(1, 31)]
    fake.stopping.set()
    assert len(adapterd("events", "-f", "-n", "5").out.splitlines()) == 5
    assert adapterd("events", "-f", "-n", "0").out == ""


def test_version_that_a_rejected_drop_became_is_shown_with_the_reason(
    adapterd: CommandLine, fake: FakeDaemon, rows: Path
) -> None:
    fake.versions[2] = version(
        2, state=common_pb2.VERSION_STATE_REJECTED, verdict="reject", reason="drop 1 is forgotten"
    )
    fake.after_drop = [(event(1, "drop.done", "drop 3 became mood@2", drop=3), drop(3, DONE, version=2))]
    ended = adapterd("drop", "mood", rows, "--wait")
    assert ended.status == 0
    assert "reject" in ended.out
    assert "drop 1 is forgotten" in ended.out


AUDIT = {
    "rows": 100,
    "effective_rows": 90,
    "counts": {"balance": 1, "contradiction": 2},
    "findings": {
        "balance": [{"concern": "balance", "line": 0, "said": '"a" has one row', "other": 0, "drop": 0}],
        "contradiction": [
            {"concern": "contradiction", "line": line, "said": "asks what line 3 asks", "other": 3, "drop": 0}
            for line in (7, 9)
        ],
    },
}


def test_what_the_audit_found_stands_beside_its_drop_with_rows(
    adapterd: CommandLine, fake: FakeDaemon, tmp_path: Path
) -> None:
    fake.drops[5] = drop(5, details_json=json.dumps({"audit": AUDIT}))
    assert "1 balance, 2 contradiction" in adapterd("drops").out
    shown = adapterd("show", "5").out
    assert "the audit of 100 rows, 90 of which ask something of their own" in shown
    assert "line 7 asks what line 3 asks" in shown
    assert "every finding" not in shown
    every = adapterd("show", "5", "--findings").out
    assert "every finding" in every
    document = json.loads(adapterd("show", "5", "--findings", "--json").out)
    assert document["details"]["audit"] == AUDIT
    assert document["findings"][0] == {
        "concern": "contradiction",
        "line": 7,
        "said": "asks what line 3 asks",
        "other_line": 3,
        "other_drop": None,
    }
    page = tmp_path / "drop.html"
    assert adapterd("show", "5", "--html", str(page)).out == ""
    assert "<html" in page.read_text("utf-8")
    assert "asks what line 3 asks" in page.read_text("utf-8")


def test_sample_shows_rows_and_what_they_are_for(adapterd: CommandLine, fake: FakeDaemon) -> None:
    shown = adapterd("sample", "mood", "20", "--drop", "2", "--seed", "3").out
    assert "a fine day" in shown
    assert "train" in shown
    (request,) = fake.requests
    assert (request.task, request.count, request.drop, request.seed) == ("mood", 20, 2, 3)
    document = json.loads(adapterd("sample", "mood", "--json").out)
    assert document["rows"][0]["row"]["prompt"] == "a fine\nday"

"""Corrected answers wait, durably, until they are enough for a drop of their own."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from adapterd.adapters.errors import BadRequest
from adapterd.daemon.client import Client
from adapterd.daemon.core import Core
from adapterd.daemon.corrections import Corrections
from adapterd.daemon.errors import RemoteError
from adapterd.daemon.learning_sections import Feedback
from adapterd.daemon.questions import Asked
from adapterd.daemon.recent_answers import REMEMBERED, Answered, RecentAnswers
from adapterd.v1 import inference_pb2, learning_pb2

from .real_core import real_core, served

ANSWERED = Answered("mood", 1, "", "champion", Asked("a fine day", None))


@pytest.fixture
def core(tmp_path: Path, tiny_base_folder: Path) -> Iterator[Core]:
    with real_core(tmp_path, tiny_base_folder) as core:
        yield core


def corrections(core: Core, rows: int = 10, hours: float = 24.0) -> Corrections:
    core.corrections.use(core.settings.model_copy(update={"feedback": Feedback(rows=rows, hours=hours)}))
    return core.corrections


def inbox(core: Core) -> list[dict[str, object]]:
    """The rows of all files in the task's inbox."""
    files = (core.settings.inbox_dir / "mood").glob("corrections-*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def ask(client: Client, adapter: str = "mood") -> str:
    """The id of an answer."""
    request = inference_pb2.ScoreRequest(
        adapter=adapter, input=inference_pb2.Input(prompt="a fine day"), continuations=["yes", "no"]
    )
    return client.inference.Score(request).request_id


def correct(client: Client, request_id: str, right: str) -> learning_pb2.FeedbackResponse:
    return client.learning.Feedback(learning_pb2.FeedbackRequest(request_id=request_id, correction=right))


def test_a_served_answer_is_corrected_once_and_counts_as_a_bad_one(core: Core) -> None:
    with served(core) as client:
        asked = ask(client)
        with pytest.raises(RemoteError, match="none of the task's labels"):
            correct(client, asked, "perhaps")
        taken = correct(client, asked, "no")
        assert (taken.served_by.version, taken.waiting) == (1, 1)
        with pytest.raises(RemoteError, match="waits for a rating"):
            correct(client, asked, "no")
        with pytest.raises(RemoteError, match="the base had answered"):
            correct(client, ask(client, "base"), "no")
        request = learning_pb2.FeedbackRequest(request_id=asked, rating=learning_pb2.RATING_GOOD, correction="no")
        with pytest.raises(RemoteError, match="needs no correction"):
            client.learning.Feedback(request)
    kept = (core.settings.state / "corrections" / "mood.jsonl").read_text("utf-8")
    assert json.loads(kept) == {"text": "a fine day", "label": "no"}
    told = [row.kind for row in core.ledger.events.after(0, "mood")]
    assert told[-2:] == ["answer.corrected", "answer.rated"]


def test_enough_corrections_become_a_file_in_the_inbox_and_too_few_wait(core: Core) -> None:
    kept = corrections(core)
    for number in range(9):
        kept.add(replace_prompt(f"day {number}"), "yes")
    kept.step(time.time())
    assert inbox(core) == []
    kept.add(replace_prompt("day 9"), "no")
    kept.step(time.time())
    assert [row["text"] for row in inbox(core)] == [f"day {number}" for number in range(10)]
    kept.step(time.time())
    assert len(inbox(core)) == 10


def test_eight_are_enough_once_they_have_waited(core: Core) -> None:
    kept = corrections(core, rows=100, hours=1.0)
    for number in range(8):
        kept.add(replace_prompt(f"day {number}"), "yes")
    kept.step(time.time() + 3500)
    assert inbox(core) == []
    kept.step(time.time() + 3700)
    assert len(inbox(core)) == 8


def test_a_conversation_is_corrected_as_one(core: Core) -> None:
    kept = corrections(core, rows=1)
    kept.add(ANSWERED._replace(asked=Asked(None, (("system", "be brief"), ("user", "hello")))), "hi")
    (line,) = (core.settings.state / "corrections" / "mood.jsonl").read_text("utf-8").splitlines()
    assert [turn["role"] for turn in json.loads(line)["messages"]] == ["system", "user", "assistant"]


def test_what_is_not_remembered_or_empty_cannot_be_corrected(core: Core) -> None:
    with pytest.raises(BadRequest, match="what was asked is not kept"):
        corrections(core).add(ANSWERED._replace(asked=None), "yes")
    with pytest.raises(BadRequest, match="the correction is empty"):
        corrections(core).add(ANSWERED, " ")
    assert not corrections(core, rows=0).wanted


def test_corrections_are_forgotten_with_the_rows_that_say_the_same(core: Core) -> None:
    kept = corrections(core)
    kept.add(replace_prompt("Ada was here"), "yes")
    kept.add(replace_prompt("nobody was here"), "no")
    core.forgetting.forget(None, text="ADA", actor="test")
    assert "Ada" not in (core.settings.state / "corrections" / "mood.jsonl").read_text("utf-8")
    assert kept.add(ANSWERED, "yes") == 2


def test_the_oldest_answers_make_room_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    recent = RecentAnswers()
    for number in range(REMEMBERED + 1):
        recent.remember(str(number), ANSWERED)
    with pytest.raises(Exception, match="waits for a rating"):
        recent.take("0")
    assert recent.take("1") == ANSWERED
    monkeypatch.setattr("adapterd.daemon.recent_answers._MOST_CHARS", 25)
    recent = RecentAnswers()
    for name in "abc":
        recent.remember(name, ANSWERED)  # of ten characters
    with pytest.raises(Exception, match="waits for a rating"):
        recent.take("a")
    assert recent.take("b") == recent.take("c") == ANSWERED


def replace_prompt(text: str) -> Answered:
    return ANSWERED._replace(asked=replace(Asked("", None), prompt=text))

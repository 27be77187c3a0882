"""query, feedback and report."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from adapterd.v1 import inference_pb2, learning_pb2

from .cli_runner import CommandLine
from .fake_daemon import FakeDaemon, report


def asked(fake: FakeDaemon) -> Any:
    """The one request that the daemon got."""
    (request,) = fake.requests
    return request


def test_what_the_readme_shows_of_a_program_runs(fake: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    program = program.replace("unix:/run/adapterd/adapterd.sock", fake.address).replace("tickets", "mood")
    exec(program, {})
    assert capsys.readouterr().out == "access by version 2\nIt is fine."


def test_query_streams_the_answer(adapterd: CommandLine, fake: FakeDaemon) -> None:
    ended = adapterd("query", "mood", "how is it?")
    assert (ended.status, ended.out, ended.err) == (0, "It is fine.\n", "")
    assert asked(fake) == inference_pb2.GenerateRequest(
        adapter="mood", input=inference_pb2.Input(prompt="how is it?"), sampling=inference_pb2.Sampling()
    )


def test_query_says_who_answered_on_a_terminal_alone(adapterd: CommandLine) -> None:
    ended = adapterd("query", "mood", "hi", terminal=True)
    assert ended.out == "It is fine.\n"
    assert "mood@2 (champion), 3 tokens in" in ended.err
    assert "base, 3 tokens" in adapterd("query", "base", "hi", terminal=True).err
    assert "cut there" in adapterd("query", "base", "hi", "--no-stream", terminal=True).err


def test_query_passes_the_sampling_on(adapterd: CommandLine, fake: FakeDaemon) -> None:
    adapterd("query", "mood@1", "hi", "--max-tokens", "5", "--temperature", "0.5", "--no-stream")
    assert asked(fake).adapter == "mood@1"
    assert (asked(fake).sampling.max_tokens, asked(fake).sampling.temperature) == (5, 0.5)


def test_query_reads_the_prompt_from_standard_input(adapterd: CommandLine, fake: FakeDaemon) -> None:
    adapterd("query", "mood", "-", stdin="zwei\nZeilen ü\n".encode())
    assert asked(fake).input.prompt == "zwei\nZeilen ü"


def test_query_of_input_that_is_no_text_is_wrong_usage(adapterd: CommandLine, fake: FakeDaemon) -> None:
    assert adapterd("query", "mood", "-", stdin=b"\xff\xfe").status == 2
    assert fake.requests == []


def test_query_json_is_one_document(adapterd: CommandLine) -> None:
    document = json.loads(adapterd("query", "mood@canary", "hi", "--json").out or "{}")
    assert document == {}
    document = json.loads(adapterd("query", "mood", "hi", "--json").out)
    assert document == {
        "schema": 1,
        "text": "It is fine.",
        "finish_reason": "length",
        "served_by": {"task": "mood", "version": 2, "digest": f"{2:064x}", "alias": "champion"},
        "usage": {"prompt_tokens": 4, "completion_tokens": 3},
        "request_id": "0123456789abcdef",
    }


def test_feedback_names_the_request_and_says_whose_answer_it_was(adapterd: CommandLine, fake: FakeDaemon) -> None:
    assert adapterd("feedback", "0123456789abcdef", "bad").out == "bad, for mood@2\n"
    assert fake.requests == [
        learning_pb2.FeedbackRequest(request_id="0123456789abcdef", rating=learning_pb2.RATING_BAD)
    ]
    document = json.loads(adapterd("feedback", "0123456789abcdef", "good", "--json").out)
    assert (document["rating"], document["served_by"]["version"]) == ("good", 2)
    assert adapterd("feedback", "0123456789abcdef", "splendid").status == 2


def test_a_correction_says_that_the_answer_was_bad_and_how_many_wait(adapterd: CommandLine, fake: FakeDaemon) -> None:
    ended = adapterd("feedback", "0123456789abcdef", "--correct", "yes")
    assert ended.out == "bad, for mood@2; 3 corrections wait for their drop\n"
    assert fake.requests[-1] == learning_pb2.FeedbackRequest(
        request_id="0123456789abcdef", rating=learning_pb2.RATING_BAD, correction="yes"
    )
    document = json.loads(adapterd("feedback", "0123456789abcdef", "--correct", "yes", "--json").out)
    assert (document["rating"], document["waiting"]) == ("bad", 3)
    assert adapterd("feedback", "0123456789abcdef").status == 2


def test_query_json_of_the_base_names_no_task(adapterd: CommandLine) -> None:
    document = json.loads(adapterd("query", "base", "hi", "--json").out)
    assert document["served_by"] == {"task": None, "version": None, "digest": "f" * 64, "alias": None}


def test_query_with_choices_prints_the_choice_and_the_scores(adapterd: CommandLine, fake: FakeDaemon) -> None:
    ended = adapterd("query", "mood", "hi", "--choices", "good, bad,ok")
    lines = ended.out.splitlines()
    assert lines[0] == "ok"
    assert [line.split() for line in lines[3:]] == [
        ["ok", "66.5%", "-2.000"],
        ["bad", "24.5%", "-3.000"],
        ["good", "9.0%", "-4.000"],
    ]
    assert list(asked(fake).continuations) == ["good", "bad", "ok"]


def test_query_with_choices_json(adapterd: CommandLine) -> None:
    document = json.loads(adapterd("query", "mood", "hi", "--choices", "good,ok", "--json").out)
    assert (document["schema"], document["choice"]) == (1, "ok")
    assert document["scores"] == {"good": -4.0, "ok": -2.0}
    assert document["served_by"]["version"] == 2


def test_query_of_a_full_queue_is_a_message(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.queue_full = True
    ended = adapterd("query", "mood", "hi")
    assert (ended.status, ended.out) == (1, "")
    assert "64 requests wait already" in ended.err


def test_answer_does_not_steer_the_terminal_and_is_whole_in_a_pipe(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.words = ("a\x1b[2Jb\n", "\tc")
    assert adapterd("query", "mood", "hi").out == "a\x1b[2Jb\n\tc\n"
    assert adapterd("query", "mood", "hi", terminal=True).out == "a\ufffd[2Jb\n\tc\n"


def test_report_shows_every_version_on_every_drop(adapterd: CommandLine) -> None:
    lines = [line.split() for line in adapterd("report", "mood").out.splitlines()]
    at = lines.index(["VERSION", "DROP", "1", "DROP", "2"])
    assert lines[at + 1 : at + 4] == [
        ["base", "0.3000", "0.3000"],
        ["mood@1", "previous", "0.6000"],
        ["mood@2", "champion", "0.5500", "0.7000"],
    ]
    assert any(line[-5:] == ["champion", "mood@1", "mood@2", "gate", "improves"] for line in lines)


def test_report_json_is_the_daemons_document(adapterd: CommandLine) -> None:
    assert json.loads(adapterd("report", "mood", "--json").out) == report()


def test_report_of_a_task_without_versions_is_no_error(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.report = {"schema": 1, "task": "mood", "versions": [], "drops": [], "history": [], "aliases": {}}
    assert adapterd("report", "mood").status == 0


def test_plot_without_matplotlib_says_how_to_get_it(
    adapterd: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ended = adapterd("report", "mood", "--plot", tmp_path / "figures.png")
    assert ended.status == 1
    assert "pip install 'adapterd[plot]'" in ended.err


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_plot_draws_into_the_file(adapterd: CommandLine, tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    ended = adapterd("report", "mood", "--plot", tmp_path / f"figures.{ending}")
    assert ended.status == 0
    assert (tmp_path / f"figures.{ending}").stat().st_size > 1000


def test_plot_that_cannot_be_drawn_says_why(adapterd: CommandLine, fake: FakeDaemon, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert ".svg" in adapterd("report", "mood", "--plot", tmp_path / "figures.nonsense").err
    assert "no folder" in adapterd("report", "mood", "--plot", tmp_path / "none" / "figures.png").err
    fake.report["versions"] = []
    assert "figures to draw" in adapterd("report", "mood", "--plot", tmp_path / "figures.png").err

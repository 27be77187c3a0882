"""forget."""

import json

import pytest
from adapterd.v1 import learning_pb2

from .cli_runner import CommandLine
from .fake_daemon import FakeDaemon


def asked(fake: FakeDaemon) -> list[tuple[str, bool]]:
    """What the daemon was asked to forget, and whether only to look."""
    return [(row.text, row.dry_run) for row in fake.requests if isinstance(row, learning_pb2.ForgetRequest)]


def test_forget_shows_what_it_found_and_who_learned_from_it_before_it_asks(
    adapterd: CommandLine, fake: FakeDaemon
) -> None:
    ended = adapterd("forget", "--match", "Ada", stdin=b"n\n", terminal=True)
    assert ended.status == 1
    assert asked(fake) == [("Ada", True)]
    assert "b.jsonl" in ended.out
    assert "`--drop 4` removes all of it" in " ".join(ended.out.split())
    assert "mood@2" in ended.out

    ended = adapterd("forget", "--match", "Ada", stdin=b"y\n", terminal=True)
    assert ended.status == 0
    assert asked(fake) == [("Ada", True), ("Ada", True), ("Ada", False)]
    assert "`adapterd forget mood --retrain`" in ended.err


def test_a_dry_run_forgets_nothing_and_nothing_is_asked_where_nothing_is_found(
    adapterd: CommandLine, fake: FakeDaemon
) -> None:
    assert adapterd("forget", "--match", "Ada", "--dry-run").status == 0
    ended = adapterd("forget", "mood", "--match", "nobody", "--yes")
    assert (ended.status, "no row that is kept has it" in ended.out) == (0, True)
    assert asked(fake) == [("Ada", True), ("nobody", True)]


def test_forget_with_json_says_rows_versions_and_what_is_learned_again(adapterd: CommandLine, fake: FakeDaemon) -> None:
    ended = adapterd("forget", "mood", "--drop", "2", "--retrain", "--yes", "--json")
    document = json.loads(ended.out)
    assert [(one["drop"], one["rows"], one["unsearched"]) for one in document["found"]] == [(2, 3, False), (4, 0, True)]
    assert document["versions"] == [{"task": "mood", "version": 2, "aliases": ["champion"], "drops": [2]}]
    assert document["retraining"] == {"task": "mood", "champion": 1, "deleted": [2], "drops": [2, 3]}


def test_retraining_alone_says_what_was_gone_back_to(adapterd: CommandLine, fake: FakeDaemon) -> None:
    ended = adapterd("forget", "mood", "--retrain", "--yes")
    assert "mood@2 deleted; mood@1 is champion until drops 2, 3 are learned again" in ended.out
    assert asked(fake) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--match TEXT and --drop DROP"),
        (["--match", "a", "--drop", "1"], "--match TEXT and --drop DROP"),
        (["--retrain"], "--retrain is for one task"),
        (["--match", "a"], "nobody can be asked here"),
    ],
)
def test_forget_says_how_it_is_used(adapterd: CommandLine, fake: FakeDaemon, arguments: list[str], said: str) -> None:
    ended = adapterd("forget", *arguments)
    assert ended.status == 2
    assert said in ended.err
    assert fake.requests == []

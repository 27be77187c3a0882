"""Canaries: who gets them, what is counted, and how a trial ends."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from adapterd.adapters.errors import BadRequest, CorruptVersion
from adapterd.adapters.refs import AdapterRef
from adapterd.daemon.canary_watch import CanaryWatch
from adapterd.daemon.client import Client
from adapterd.daemon.core import Core
from adapterd.daemon.errors import AliasConflict, NotAllowed, RemoteError
from adapterd.daemon.serving_sections import Canary
from adapterd.v1 import common_pb2, inference_pb2, learning_pb2

from .real_core import publish, real_core, served


@pytest.fixture
def core(tmp_path: Path, tiny_base_folder: Path) -> Iterator[Core]:
    """The task "mood" with version 1 as champion and 2 as canary for half of the requests; 12 decide."""
    with real_core(tmp_path, tiny_base_folder) as core:
        publish(core, "mood", 2)
        publish(core, "mood", 3)
        core.canaries.use(core.settings.model_copy(update={"canary": Canary(min_requests=12)}))
        core.lifecycle.canary("mood", 2, 0.5, actor="test", reason="let us see")
        yield core


def who(core: Core, key: str, name: str = "mood") -> tuple[int, str]:
    with core.manager.lease(AdapterRef.parse(name), f"request-{key}", request_key=key) as lease:
        return lease.version, lease.alias


def ask(core: Core, requests: int, *, canary_fails: bool = False) -> None:
    """As the inference service counts them."""
    for number in range(requests):
        with core.manager.lease(AdapterRef.parse("mood"), f"asked-{number}") as lease:
            if canary_fails and lease.version == 2:
                core.canaries.failed(lease)
            else:
                core.canaries.answered(lease, 0.02 + number % 3 / 1000, 10)


def kinds(core: Core) -> list[str]:
    return [event.kind for event in core.ledger.events.after(0, "mood", 1000)]


def test_a_canary_gets_its_share_and_a_key_always_sees_one_side(core: Core) -> None:
    seen = {f"user-{number}": who(core, f"user-{number}") for number in range(400)}
    counts = Counter(seen.values())
    assert set(counts) == {(1, "champion"), (2, "canary")}
    assert 150 < counts[(2, "canary")] < 250
    assert all(who(core, key) == side for key, side in list(seen.items())[:50])


def test_numbers_and_aliases_are_not_parted(core: Core) -> None:
    for number in range(20):
        assert who(core, str(number), "mood@1") == (1, "")
        assert who(core, str(number), "mood@canary") == (2, "canary")


def test_a_canary_that_holds_is_promoted_and_says_so(core: Core) -> None:
    ask(core, 60)
    core.canaries.step(0.0)
    assert core.ledger.aliases.of("mood") == {"champion": 2, "previous": 1}
    assert core.ledger.canaries.find() == []
    move = core.ledger.aliases.history("mood")[-1]
    assert move.actor == "canary"
    assert core.ledger.versions.get("mood", 2).state == "available"
    assert {who(core, str(number)) for number in range(30)} == {(2, "champion")}


def test_a_canary_that_fails_is_taken_back_and_the_champion_stays(core: Core) -> None:
    ask(core, 60, canary_fails=True)
    core.canaries.step(0.0)
    assert core.ledger.aliases.of("mood") == {"champion": 1}
    assert "canary.reverted" in kinds(core)
    assert {who(core, str(number)) for number in range(30)} == {(1, "champion")}


def test_what_was_counted_survives_a_restart(core: Core) -> None:
    ask(core, 8)
    core.canaries.step(0.0)
    row = core.ledger.canaries.of("mood")
    assert row is not None
    assert row.of_champion.requests + row.of_canary.requests == 8
    fresh = CanaryWatch(core.settings, core.ledger, core.manager, core.lifecycle)
    fresh.step(0.0)
    assert core.ledger.canaries.of("mood") == row


def test_a_trial_begins_anew_beside_a_new_champion(core: Core) -> None:
    ask(core, 8)
    core.canaries.step(0.0)
    core.lifecycle.promote("mood", 3, expected=1, actor="test", reason="I know better")
    core.canaries.step(0.0)
    row = core.ledger.canaries.of("mood")
    assert row is not None
    assert (row.version, row.champion, row.of_canary.requests) == (2, 3, 0)


def test_another_canary_takes_the_place_of_the_first(core: Core) -> None:
    moved = core.lifecycle.canary("mood", 3, 0.25, actor="test", reason="this one rather")
    assert (moved.origin, moved.to) == (2, 3)
    row = core.ledger.canaries.of("mood")
    assert row is not None
    assert (row.version, row.share) == (3, 0.25)


def test_ending_a_canary_leaves_the_champion_alone(core: Core) -> None:
    moved = core.lifecycle.end_canary("mood", actor="test", reason="enough")
    assert (moved.alias, moved.origin, moved.to) == ("canary", 2, None)
    assert {who(core, str(number)) for number in range(30)} == {(1, "champion")}
    core.lifecycle.canary("mood", 3, 0.5, actor="test", reason="this one")
    with pytest.raises(AliasConflict):
        core.lifecycle.end_canary("mood", expected=2, actor="test", reason="the other one fails")
    core.lifecycle.end_canary("mood", expected=3, actor="test", reason="enough")
    with pytest.raises(NotAllowed, match="no canary"):
        core.lifecycle.end_canary("mood", actor="test", reason="again")


def test_no_canary_beside_nothing_nor_of_the_champion_nor_with_all_requests(core: Core) -> None:
    publish(core, "new", 1)
    with pytest.raises(NotAllowed, match="no champion"):
        core.lifecycle.canary("new", 1, 0.5, actor="test", reason="")
    with pytest.raises(NotAllowed, match="champion already"):
        core.lifecycle.canary("mood", 1, 0.5, actor="test", reason="")
    with pytest.raises(BadRequest, match="share"):
        core.lifecycle.canary("mood", 3, 1.0, actor="test", reason="")


def test_a_canary_that_cannot_be_loaded_is_never_asked_and_taken_back(tmp_path: Path, tiny_base_folder: Path) -> None:
    with real_core(tmp_path, tiny_base_folder) as core:
        row = publish(core, "mood", 2)
        core.lifecycle.canary("mood", 2, 0.9, actor="test", reason="let us see")
        # As after a restart with a broken file: the alias is set, and the version not in the engine.
        core.manager.forget("mood", 2)
        weights = core.store.folder("mood", 2) / "adapter_model.safetensors"
        weights.chmod(0o600)
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
        core.lifecycle.sync()
        assert {who(core, str(number)) for number in range(30)} == {(1, "champion")}
        with pytest.raises(CorruptVersion):
            core.manager.ensure("mood", 2, row.digest)
        core.canaries.step(0.0)
        assert core.ledger.aliases.of("mood") == {"champion": 1}


def test_an_answer_is_rated_once_and_counts_for_who_gave_it(core: Core) -> None:
    with served(core) as client:
        answers = [
            client.inference.Complete(
                inference_pb2.GenerateRequest(
                    adapter="mood",
                    input=inference_pb2.Input(prompt="a fine day"),
                    sampling=inference_pb2.Sampling(max_tokens=2),
                    request_key=f"user-{number}",
                )
            )
            for number in range(8)
        ]
        ratings = Counter(rated(client, answer.request_id).version for answer in answers)
        with pytest.raises(RemoteError, match="waits for a rating"):
            rated(client, answers[0].request_id)
    assert set(ratings) == {1, 2}
    core.canaries.step(0.0)
    row = core.ledger.canaries.of("mood")
    assert row is not None
    assert (row.of_champion.bad, row.of_canary.bad) == (ratings[1], ratings[2])
    assert row.of_champion.requests + row.of_canary.requests == 8
    assert kinds(core).count("answer.rated") == 8


def rated(client: Client, request_id: str) -> common_pb2.ServedBy:
    """Call an answer bad; returns whose it was."""
    request = learning_pb2.FeedbackRequest(request_id=request_id, rating=learning_pb2.RATING_BAD)
    return client.learning.Feedback(request).served_by


def test_a_task_file_that_is_wrong_leaves_the_daemons_rules_in_force(core: Core) -> None:
    folder = core.settings.inbox_dir / "mood"
    folder.mkdir(parents=True)
    (folder / "task.toml").write_text("[canary]\nmin_requests = 'many'\n", "utf-8")
    ask(core, 60)
    core.canaries.step(0.0)
    assert core.ledger.aliases.of("mood")["champion"] == 2

"""What two versions do differently, from the ledger's figures, the rows on disk and the store's weights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapterd.adapters.base import Base
from adapterd.adapters.states import VersionState
from adapterd.continual.examples import Example, Kind
from adapterd.daemon.comparison import changed_rows
from adapterd.daemon.core import Core
from adapterd.daemon.dataset import Dataset
from adapterd.daemon.errors import RemoteError
from adapterd.v1 import adapters_pb2

from .real_core import publish, real_core, served


def figures(ids: str, losses: list[float], correct: list[bool | None]) -> dict[str, Any]:
    return {"ids": list(ids), "losses": losses, "correct": correct}


def test_rows_with_labels_change_with_their_answer_and_others_with_their_loss() -> None:
    before = figures("abcde", [1.0, 1.0, 1.0, 1.0, 1.0], [True, False, True, None, None])
    after = figures("edcba", [1.05, 0.5, 3.0, 2.0, 9.0], [None, None, True, True, False])
    found = {row.id: row for row in changed_rows(7, before, after, {})}
    assert sorted(found) == ["a", "b", "d"]
    assert (found["a"].better, found["b"].better, found["d"].better) == (False, True, True)
    assert (found["d"].loss_before, found["d"].loss_after, found["d"].drop) == (1.0, 0.5, 7)


def test_rows_that_only_one_was_judged_on_are_left_out() -> None:
    before, after = figures("ab", [1.0, 1.0], [True, True]), figures("b", [1.0], [False])
    assert [row.id for row in changed_rows(1, before, after, {})] == ["b"]


@pytest.fixture
def core(tmp_path: Path, tiny_base: Base) -> Iterator[Core]:
    with real_core(tmp_path, tiny_base) as core:
        publish(core, "mood", 2)
        row = Example(Kind.LABEL, "what a day", "glad")
        Dataset.below(core.settings.state).write("mood", 1, "heldout", [row])
        for version, right in ((1, False), (2, True)):
            judged = {"ids": [row.id], "losses": [2.0 - version], "correct": [right], "labels": ["glad"]}
            core.ledger.evaluations.add("mood", version, 1, "candidate", "d", judged)
        yield core


def compare(core: Core, left: str, right: str) -> dict[str, Any]:
    with served(core) as client:
        reply = client.adapters.Compare(adapters_pb2.CompareRequest(left=left, right=right))
    found: dict[str, Any] = json.loads(reply.comparison_json)
    return found


def test_a_comparison_names_rows_and_layers(core: Core) -> None:
    found = compare(core, "mood@1", "mood@2")
    assert (found["compared_rows"], found["better"], found["worse"]) == (1, 1, 0)
    assert (found["rows"][0]["prompt"], found["rows"][0]["answer"]) == ("what a day", "glad")
    assert len(found["layers"]) == 14
    assert all(layer["change"] > 0 for layer in found["layers"])


def test_a_deleted_version_is_compared_by_its_figures_alone(core: Core) -> None:
    publish(core, "mood", 3)
    core.lifecycle.promote("mood", 3, expected=None, actor="test", reason="to let go of the first")
    core.lifecycle.delete("mood", 2, actor="test")
    assert core.ledger.versions.get("mood", 2).state is VersionState.DELETED
    found = compare(core, "mood@1", "mood@2")
    assert (found["better"], found["layers"]) == (1, [])


def test_versions_of_different_tasks_are_not_compared(core: Core) -> None:
    publish(core, "other", 1)
    with pytest.raises(RemoteError, match="different tasks"):
        compare(core, "mood@1", "other@1")

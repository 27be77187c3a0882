"""A drop learns nothing that the version it builds on is judged by, whatever becomes champion while it waits."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adapterd.adapters.base import Base
from adapterd.continual.examples import Example
from adapterd.daemon.core import Core
from adapterd.daemon.dataset import Dataset
from adapterd.daemon.ledger import DropRow
from adapterd.daemon.states import DropState, JobState
from adapterd.daemon.trainer_spec import Spec

from .learning_core import drop, learning_core, rows, work
from .real_core import publish


@pytest.fixture
def core(tmp_path: Path, tiny_base: Base) -> Iterator[Core]:
    with learning_core(tmp_path, tiny_base) as core:
        yield core


def planned(core: Core, row: DropRow) -> Callable[[], bool]:
    """Whether the drop is to be trained next."""
    return lambda: core.ledger.drops.get(row.id).state is DropState.PLANNED


def learned(core: Core, name: str, text: str, version: int) -> DropRow:
    """A drop that became a version which is nothing but available: parted, but not trained on."""
    row = drop(core, "colours", name, text)
    work(core, planned(core, row))
    core.ledger.jobs.move(core.ledger.jobs.find(drop=row.id)[-1].id, JobState.CANCELLED)
    row = core.ledger.drops.move(row.id, DropState.DONE, version=version)
    publish(core, "colours", version, data={"drop": row.id, "earlier_drops": []})
    return row


def interrupted(core: Core) -> DropRow:
    """A drop whose first training the daemon's end has stopped, beside an available version 1."""
    learned(core, "a.jsonl", rows(0, 40), version=1)
    row = drop(core, "colours", "b.jsonl", rows(100, 40))
    work(core, lambda: core.worker.pid is not None)
    core.worker.stop()
    core.worker.recover()
    return row


def promote(core: Core, version: int) -> None:
    core.lifecycle.promote("colours", version, expected=None, actor="test", reason="a person wants it")


def questions(examples: list[Example]) -> set[str]:
    return {row.prompt for row in examples}


def kinds(core: Core, row: DropRow) -> list[str]:
    return [event.kind for event in core.ledger.events.after(0, "colours") if event.drop == row.id]


def spec(core: Core, row: DropRow) -> Spec:
    return Spec.read(core.worker.job_folder(core.ledger.jobs.find(drop=row.id)[-1]))


def test_a_drop_that_waits_while_the_champion_changes_is_parted_again_before_it_is_trained(core: Core) -> None:
    dataset = Dataset.below(core.settings.state)
    first = learned(core, "a.jsonl", rows(0, 40), version=1)
    second = drop(core, "colours", "b.jsonl", rows(0, 80) + rows(100, 1))
    work(core, planned(core, second))
    judges = questions(dataset.read("colours", first.id, "heldout"))
    assert judges & questions(dataset.read("colours", second.id, "train"))  # nobody has learned the first drop

    promote(core, 1)
    assert core.worker.step(time.time())
    back = core.ledger.drops.get(second.id)
    assert back.state is DropState.PARSED
    assert "has changed since its rows were parted" in back.reason
    assert [job.state for job in core.ledger.jobs.find(drop=second.id)] == [JobState.CANCELLED]
    work(core, planned(core, second))
    assert not judges & questions(dataset.learned("colours", second.id))
    assert core.ledger.drops.get(second.id).details["new_labels"] == ["cold", "warm"]  # the version knows yes and no

    work(core, lambda: core.worker.pid is not None)
    assert core.ledger.drops.get(second.id).state is DropState.TRAINING
    assert spec(core, second).history == [first.id]
    assert kinds(core, second).count("drop.returned") == 1


def test_a_drop_is_parted_again_when_a_golden_set_was_taken_meanwhile(core: Core) -> None:
    dataset = Dataset.below(core.settings.state)
    folder = core.settings.inbox_dir / "colours"
    folder.mkdir()
    (folder / "task.toml").write_text("no settings", "utf-8")
    golden = drop(core, "colours", "golden.jsonl", rows(0, 12))
    work(core, lambda: core.ledger.drops.get(golden.id).state is DropState.HELD)
    (folder / "task.toml").unlink()
    later = drop(core, "colours", "b.jsonl", rows(0, 60))
    work(core, planned(core, later))
    core.worker.release(golden.id)
    work(core, lambda: core.worker.pid is not None)
    judges = questions(dataset.read("colours", golden.id, "heldout"))
    assert len(judges) == 12
    assert not judges & questions(dataset.learned("colours", later.id))
    assert spec(core, later).golden == golden.id
    assert kinds(core, later).count("drop.returned") == 1


def test_a_released_drop_that_goes_back_is_not_held_again(core: Core) -> None:
    learned(core, "a.jsonl", rows(0, 40), version=1)
    short = drop(core, "colours", "b.jsonl", rows(100, 6))
    work(core, lambda: core.ledger.drops.get(short.id).state is DropState.HELD)
    core.worker.release(short.id)
    work(core, planned(core, short))
    promote(core, 1)
    work(core, lambda: core.worker.pid is not None)
    row = core.ledger.drops.get(short.id)
    assert (row.state, row.released) == (DropState.TRAINING, True)
    assert kinds(core, short).count("drop.returned") == 1


def test_a_job_that_is_prepared_goes_on_as_it_began_whatever_is_champion_by_now(core: Core) -> None:
    second = interrupted(core)
    promote(core, 1)
    work(core, lambda: core.worker.pid is not None)
    assert (spec(core, second).parent_version, spec(core, second).history) == (0, [])
    assert [job.attempts for job in core.ledger.jobs.find(drop=second.id)] == [2]
    assert "drop.returned" not in kinds(core, second)


def test_a_training_whose_job_was_lost_begins_anew_with_rows_that_are_parted_again(core: Core) -> None:
    """As in a daemon from a backup, which has no jobs in it."""
    second = interrupted(core)
    job = core.worker.job_folder(core.ledger.jobs.find(drop=second.id)[-1])
    job.rename(job.with_name("lost"))
    promote(core, 1)
    work(core, lambda: core.worker.pid is not None)
    assert spec(core, second).parent_version == 1
    assert kinds(core, second).count("drop.returned") == 1


def test_a_golden_set_is_not_audited_before_it_is_known_what_becomes_of_a_canary(core: Core) -> None:
    first = learned(core, "a.jsonl", rows(0, 40), version=1)
    publish(core, "colours", 2)
    promote(core, 2)
    core.lifecycle.canary("colours", 1, 0.25, actor="test", reason="looks good")
    golden = drop(core, "colours", "golden.jsonl", rows(0, 60))
    work(core, lambda: core.ledger.drops.get(golden.id).state is DropState.PARSED)
    assert not core.worker.step(time.time())
    assert core.worker.underway
    promote(core, 1)
    work(core, lambda: core.ledger.drops.get(golden.id).state is DropState.DONE)
    dataset = Dataset.below(core.settings.state)
    learned_rows = questions(dataset.learned("colours", first.id))
    assert not learned_rows & questions(dataset.read("colours", golden.id, "heldout"))

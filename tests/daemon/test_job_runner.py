"""Jobs wait for their next try whatever the clock does; what a daemon's end cuts short is no failure of theirs."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from adapterd.daemon.job_runner import JobRunner
from adapterd.daemon.learning_sections import Trainer
from adapterd.daemon.ledger import DropRow, Ledger
from adapterd.daemon.states import DropState, JobState
from adapterd.daemon.trainer_spec import Spec
from adapterd.daemon.training_job import TrainingJob

NOW = 1_785_240_000.0
TRAINER = Trainer(retry_s=30.0, threads=1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger(tmp_path / "ledger", clock=lambda: NOW)
    yield found
    found.close()


@pytest.fixture
def drop(ledger: Ledger, tmp_path: Path) -> DropRow:
    ledger.tasks.add("mail")
    row, _ = ledger.drops.claim("mail", "a.jsonl", "0" * 64, 1, tmp_path / "a.jsonl")
    for state in (DropState.PARSED, DropState.AUDITED, DropState.PLANNED):
        row = ledger.drops.move(row.id, state)
    return row


class Started(Exception):
    """Stands for the process, which is not spawned here."""


@pytest.fixture
def runner(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobRunner:
    def prepare(_job: TrainingJob, _spec: Spec) -> None:
        raise Started

    monkeypatch.setattr(TrainingJob, "prepare", prepare)
    return JobRunner(ledger, tmp_path / "jobs")


def starts(runner: JobRunner, drop: DropRow, now: float) -> bool:
    """Whether the job is begun at `now`."""
    try:
        return runner.start(drop, lambda: cast("Spec", SimpleNamespace(parent_version=0)), TRAINER, now, "cpu")
    except Started:
        return True


def test_a_pause_is_waited_for_and_a_clock_that_is_set_back_makes_it_no_longer(
    ledger: Ledger, drop: DropRow, runner: JobRunner
) -> None:
    job = ledger.jobs.queue("mail", drop.id)
    ledger.jobs.move(job.id, JobState.RUNNING)
    ledger.jobs.move(job.id, JobState.QUEUED, error="killed", not_before=NOW + 30, failed=True)
    assert not starts(runner, drop, NOW)
    assert not starts(runner, drop, NOW + 29)
    assert starts(runner, drop, NOW + 30)
    assert starts(runner, drop, NOW - 86_400)


def test_the_daemons_own_end_is_no_failure_of_the_job(ledger: Ledger, drop: DropRow, runner: JobRunner) -> None:
    job = ledger.jobs.queue("mail", drop.id)
    for _ in range(5):
        ledger.jobs.move(job.id, JobState.RUNNING)
        runner.recover()
    job = ledger.jobs.get(job.id)
    assert (job.state, job.attempts, job.failures) == (JobState.QUEUED, 5, 0)


def test_what_a_job_that_is_over_left_behind_is_removed_at_the_next_start(
    ledger: Ledger, drop: DropRow, runner: JobRunner, tmp_path: Path
) -> None:
    job = ledger.jobs.queue("mail", drop.id)
    for name in ("checkpoint", "trained", "result"):
        (tmp_path / "jobs" / str(job.id) / name).mkdir(parents=True)
    ledger.jobs.move(job.id, JobState.RUNNING)
    ledger.jobs.move(job.id, JobState.DONE)
    for state in (DropState.TRAINING, DropState.EVALUATED):
        ledger.drops.move(drop.id, state)
    runner.recover()
    assert len(list((tmp_path / "jobs" / str(job.id)).iterdir())) == 3  # the result is still wanted
    ledger.drops.move(drop.id, DropState.DONE)
    runner.recover()
    assert not list((tmp_path / "jobs" / str(job.id)).iterdir())

"""The worker, with real training processes on the tiny base."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from adapterd.adapters.refs import AdapterRef
from adapterd.adapters.states import VersionState
from adapterd.continual.part_way import PARTS
from adapterd.continual.probe import PROBE
from adapterd.daemon.config import Settings, TaskSettings
from adapterd.daemon.core import Core
from adapterd.daemon.dataset import Dataset
from adapterd.daemon.errors import NotAllowed
from adapterd.daemon.learning_sections import Drift
from adapterd.daemon.lineage import lineage
from adapterd.daemon.reporting import report
from adapterd.daemon.states import DropState, JobState
from peft import PeftModel
from safetensors.torch import load_file

from .learning_core import ONE_THREAD, QUICK, drop, finished, learning_core, rows, work


def other_rows(first: int, count: int) -> str:
    """The like of `rows` with labels that these have not."""
    return rows(first, count).replace("warm", "loud").replace("cold", "quiet").replace("red", "drum")


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path) -> Iterator[Core]:
    """One core for all tests of this file."""
    with learning_core(tmp_path_factory.mktemp("worker"), tiny_base_folder) as core:
        yield core


def test_two_drops_become_two_versions_of_which_the_second_starts_from_the_first(
    core: Core, tiny_base_folder: Path
) -> None:
    first = drop(core, "colours", "a.jsonl", rows(0, 40))
    work(core, finished(core, first))
    first = core.ledger.drops.get(first.id)
    assert (first.state, first.version) == (DropState.DONE, 1), first.reason
    assert first.rows == 40
    assert first.train_rows + first.heldout_rows + first.details["validation_rows"] == 40
    assert core.ledger.aliases.of("colours") == {"champion": 1}

    second = drop(core, "colours", "b.jsonl", rows(100, 40) + '{"text": "grey 1", "label": "none"}\n' * 1)
    work(core, finished(core, second))
    second = core.ledger.drops.get(second.id)
    assert second.state is DropState.DONE, second.reason
    version = core.ledger.versions.get("colours", 2)
    assert (version.parent, version.drop) == (1, second.id)
    manifest = core.store.manifest("colours", 2)
    assert manifest["data"]["earlier_drops"] == [first.id]
    assert manifest["data"]["replayed_rows"] > 0
    assert manifest["data"]["replay_seed"] == manifest["recipe"]["hyperparameters"]["seed"] + second.id
    assert manifest["recipe"]["hyperparameters"]["rank"] == 2
    assert core.store.template("colours", 2)["labels"] == ["cold", "none", "warm"]
    judged = {(row.subject, row.drop) for row in core.ledger.evaluations.find("colours", 2)}
    drops = (PROBE, first.id, second.id)
    subjects = {(who, which) for who in ("candidate", "champion", "base") for which in drops}
    assert judged == subjects | {("few-shot", second.id)}
    assert {"few_shot_loss", "few_shot_accuracy", "off_task_answers", "off_task_distinct"} <= manifest["metrics"].keys()
    progress = [row.details for row in core.ledger.events.after(0, "colours") if row.kind == "training.progress"]
    assert {row["phase"] for row in progress} >= {"training", "evaluating"}
    assert (core.store.folder("colours", 2) / "fisher.safetensors").is_file()

    # What came in is compared with what came before, the number of a text's tokens among it.
    assert core.store.manifest("colours", 1)["drift"] == {}
    compared = {one["what"] for one in manifest["drift"]["comparisons"]}
    assert compared >= {"embeddings of layer 0", "dimensions of layer 0", "lengths", "labels"}
    assert manifest["metrics"]["input_drifted"] == manifest["drift"]["drifted"]
    said = [row for row in core.ledger.events.after(0, "colours") if row.kind == "drift.input"]
    assert len(said) == manifest["drift"]["drifted"]
    assert all("differ from those learned before" in row.message for row in said)


def test_the_champion_answers_each_drop_before_anything_learns_from_it(core: Core) -> None:
    dataset = Dataset.below(core.settings.state)
    first, second = core.ledger.drops.find("colours")[:2]
    assert dataset.read_answered("colours", first.id) == []
    answered = dataset.read_answered("colours", second.id)
    asked = core.store.manifest("colours", 2)["drift"]["prequential"]
    assert len(answered) == asked["rows"] == second.rows
    assert asked["right"] == sum(bool(row.right) for row in answered) / len(answered)
    assert core.store.manifest("colours", 2)["metrics"]["prequential_loss"] == pytest.approx(asked["loss"], abs=1e-6)
    assert "prequential_loss" not in core.store.manifest("colours", 1)["metrics"]


def test_a_drop_that_brings_nothing_new_trains_nothing_and_is_replayed_and_judged_by_afterwards(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = drop(core, "known", "a.jsonl", rows(0, 40))
    work(core, finished(core, first))
    # The tiny base learns little in a moment: here whatever it answers is enough.
    monkeypatch.setattr("adapterd.daemon.worker.load_task_settings", lambda settings, _task: easily_content(settings))
    second = drop(core, "known", "b.jsonl", rows(0, 80))
    work(core, finished(core, second))
    second = core.ledger.drops.get(second.id)
    assert (second.state, second.plan, second.version) == (DropState.DONE, "rehearse", 0), second.reason
    assert "they are like those that it knows" in second.reason
    assert [row.version for row in core.ledger.versions.find("known")] == [1]
    assert lineage(core.ledger, core.store, "known").drops == (first.id, second.id)
    assert core.forgetting.saw("known", core.forgetting.find(None, drop=second.id)) == {}

    monkeypatch.undo()
    third = drop(core, "known", "c.jsonl", rows(200, 40))
    work(core, finished(core, third))
    number = core.ledger.drops.get(third.id).version
    assert core.store.manifest("known", number)["data"]["earlier_drops"] == [first.id, second.id]
    # What it replayed of the drop that trained nothing, it has learned from.
    assert core.forgetting.saw("known", core.forgetting.find(None, drop=second.id)) == {number: (second.id,)}


def test_a_drop_that_contradicts_what_is_known_is_held_and_learned_if_a_person_releases_it(core: Core) -> None:
    lines = rows(100, 160).splitlines(keepends=True)
    Random(0).shuffle(lines)
    first = drop(core, "swapped", "a.jsonl", "".join(lines[:100]))
    (core.settings.inbox_dir / "swapped" / "task.toml").write_text("audit.max_noise = 1.0\n", "utf-8")
    work(core, finished(core, first))
    other_names = {"warm": "cold", "cold": "warm"}
    told = [json.loads(line) for line in lines[100:]]
    text = "".join(json.dumps({**row, "label": other_names[row["label"]]}) + "\n" for row in told)
    second = drop(core, "swapped", "b.jsonl", text)
    work(core, finished(core, second))
    second = core.ledger.drops.get(second.id)
    assert (second.state, second.version) == (DropState.HELD, 0), second.reason
    assert "its labels contradict what was learned" in second.reason
    assert second.details["drift"]["contradiction"]["p_value"] < 0.01
    assert [row.version for row in core.ledger.versions.find("swapped")] == [1]
    assert [job.state for job in core.ledger.jobs.find(drop=second.id)] == [JobState.DONE]

    core.worker.release(second.id)
    work(core, finished(core, second))
    second = core.ledger.drops.get(second.id)
    assert (second.state, second.version > 0) == (DropState.DONE, True), second.reason


def easily_content(settings: Settings) -> TaskSettings:
    """Settings with which any share of right answers is enough."""
    return TaskSettings(training=settings.training, drift=Drift(answered=1e-9))


def test_the_served_version_is_the_one_that_was_promoted(core: Core) -> None:
    champion = core.ledger.aliases.of("colours")["champion"]
    with core.manager.lease(AdapterRef.parse("colours"), "request") as lease:
        assert (lease.version, lease.digest) == (champion, core.ledger.versions.get("colours", champion).digest)


def test_rows_known_from_drops_behind_the_champion_are_not_learned_again(core: Core) -> None:
    again = drop(core, "colours", "again.jsonl", rows(0, 40) + "\n\n")
    work(core, finished(core, again))
    again = core.ledger.drops.get(again.id)
    assert (again.state, again.plan) == (DropState.DONE, "rehearse")
    assert "known from earlier drops" in again.reason
    assert len(core.ledger.versions.find("colours")) == 2


def test_a_golden_set_is_judged_by_and_never_learned(core: Core) -> None:
    unknown = '{"text": "nobody has taught this", "label": "new"}\n'
    golden = drop(core, "judged", "golden.jsonl", rows(0, 12) + unknown)
    work(core, finished(core, golden))
    golden = core.ledger.drops.get(golden.id)
    assert (golden.state, golden.plan) == (DropState.DONE, "golden")
    assert (golden.train_rows, golden.heldout_rows) == (0, 13)
    assert core.ledger.versions.find("judged") == []

    first = drop(core, "judged", "a.jsonl", rows(6, 40))
    work(core, finished(core, first))
    first = core.ledger.drops.get(first.id)
    assert first.details["leaking_rows"] == 6
    dataset = Dataset.below(core.settings.state)
    learned = {row.prompt for row in dataset.read("judged", first.id, "train")}
    assert learned.isdisjoint(row.prompt for row in dataset.read("judged", golden.id, "heldout"))
    judged = {(row.subject, row.drop) for row in core.ledger.evaluations.find("judged", 1)}
    assert {("candidate", golden.id), ("base", golden.id)} <= judged
    (of_golden,) = (
        row for row in core.ledger.evaluations.find("judged", 1) if row.drop == golden.id and row.subject == "base"
    )
    assert of_golden.figures["rows"] == 12  # the label that is not known yet does not judge
    manifest = core.store.manifest("judged", 1)
    assert (manifest["data"]["golden_drop"], manifest["data"]["earlier_drops"]) == (golden.id, [])
    assert "golden_accuracy" in manifest["metrics"]
    assert "golden set" in core.ledger.versions.get("judged", 1).reason

    # A new one takes its place, without the rows that were learned meanwhile.
    newer = drop(core, "judged", "golden.jsonl", rows(40, 12))
    work(core, finished(core, newer))
    newer = core.ledger.drops.get(newer.id)
    assert newer.heldout_rows < 12
    assert newer.details["leaking_rows"] == 12 - newer.heldout_rows
    assert report(core.ledger, "judged")["golden"] == newer.id


def test_a_file_with_too_many_bad_rows_is_quarantined_whole_with_the_reason_beside_it(core: Core) -> None:
    bad = drop(core, "colours", "bad.jsonl", "this is no JSON\n" * 101)
    work(core, finished(core, bad))
    bad = core.ledger.drops.get(bad.id)
    assert bad.state is DropState.QUARANTINED
    kept = Path(bad.path)
    assert kept.read_text("utf-8") == "this is no JSON\n" * 101
    assert "rows are bad" in (kept.parent / "reason.txt").read_text("utf-8")


def test_bad_rows_are_set_aside_with_line_and_reason_and_a_short_drop_is_held_until_released(core: Core) -> None:
    short = drop(core, "short", "short.jsonl", rows(0, 6) + '{"text": ""}\n[1]\n')
    work(core, finished(core, short))
    held = core.ledger.drops.get(short.id)
    assert (held.state, held.rows, held.bad_rows) == (DropState.HELD, 6, 2)
    aside = core.settings.state / "quarantine" / "short" / f"{short.id:06d}" / "rows.jsonl"
    assert [json.loads(line)["line"] for line in aside.read_text("utf-8").splitlines()] == [7, 8]
    released = core.worker.release(short.id)
    assert released.state is DropState.PARSED
    work(core, lambda: core.worker.pid is not None)
    job = core.ledger.jobs.find("short")[-1]
    core.worker.cancel(job.id)
    assert core.ledger.jobs.get(job.id).state is JobState.CANCELLED
    assert core.ledger.drops.get(short.id).state is DropState.HELD
    with pytest.raises(NotAllowed):
        core.worker.cancel(job.id)


def test_a_wrong_task_toml_holds_the_drop_and_says_what_is_wrong(core: Core) -> None:
    folder = core.settings.inbox_dir / "typo"
    folder.mkdir()
    (folder / "task.toml").write_text("[training]\nrnak = 4\n", "utf-8")
    held = drop(core, "typo", "a.jsonl", rows(0, 20))
    work(core, finished(core, held))
    held = core.ledger.drops.get(held.id)
    assert held.state is DropState.HELD
    assert "training.rnak: no such setting" in held.reason


def test_a_drop_waits_for_an_extra_that_its_settings_want_and_that_is_not_installed(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapterd.daemon.intake.is_installed", lambda: False)
    row = drop(core, "names", "a.jsonl", rows(0, 40))
    (core.settings.inbox_dir / "names" / "task.toml").write_text('[audit]\npresidio = "blank"\n', "utf-8")
    work(core, finished(core, row))
    held = core.ledger.drops.get(row.id)
    assert held.state is DropState.HELD
    assert "presidio is not installed (pip install 'adapterd[presidio]')" in held.reason


def test_a_trainer_that_is_killed_is_tried_again_from_its_checkpoint_and_trains_once(core: Core) -> None:
    row = drop(core, "killed", "a.jsonl", rows(0, 60))
    checkpoints = core.settings.state / "jobs"

    def has_checkpoint() -> bool:
        jobs = core.ledger.jobs.find("killed")
        return bool(jobs) and (checkpoints / str(jobs[-1].id) / "checkpoint" / "checkpoint.safetensors").exists()

    settings = core.settings.model_copy(
        update={
            "training": QUICK.model_copy(update={"epochs": 12, "patience": 12}),
            "trainer": ONE_THREAD,
        }
    )
    core.worker.use(settings)
    work(core, has_checkpoint)
    job = core.ledger.jobs.find("killed")[-1]
    assert core.worker.pid is not None
    os.kill(core.worker.pid, signal.SIGKILL)
    work(core, finished(core, row))
    core.worker.use(core.settings.model_copy(update={"training": QUICK, "trainer": ONE_THREAD}))
    assert core.ledger.drops.get(row.id).state is DropState.DONE
    assert core.ledger.jobs.get(job.id).attempts == 2
    assert len(core.ledger.versions.find("killed")) == 1
    recipe = core.store.manifest("killed", 1)["recipe"]
    assert recipe["resumed_at"] > 0
    kinds = [event.kind for event in core.ledger.events.after(0, "killed")]
    assert kinds.count("training.failed") == 1
    assert kinds.count("training.finished") == 1


def test_a_trainer_that_fails_every_time_fails_its_drop_with_the_log_and_holds_up_no_other_task(core: Core) -> None:
    settings = core.settings.model_copy(
        update={"training": QUICK, "trainer": ONE_THREAD.model_copy(update={"attempts": 2})}
    )
    core.worker.use(settings)
    broken = drop(core, "broken", "a.jsonl", rows(0, 20))
    work(core, lambda: core.ledger.drops.get(broken.id).state is DropState.PLANNED)
    train = core.settings.state / "data" / "broken" / f"{broken.id:06d}" / "train.jsonl"
    train.write_text("not JSON\n", "utf-8")
    work(core, finished(core, broken))
    failed = core.ledger.drops.get(broken.id)
    assert failed.state is DropState.FAILED
    assert "failed 2 times" in failed.reason
    assert "JSONDecodeError" in failed.reason
    core.worker.use(core.settings.model_copy(update={"training": QUICK, "trainer": ONE_THREAD}))


def test_a_training_that_may_not_have_the_memory_it_needs_fails_with_the_limit_and_what_to_do(core: Core) -> None:
    trainer = ONE_THREAD.model_copy(update={"attempts": 1, "memory_mb": 300})
    core.worker.use(core.settings.model_copy(update={"training": QUICK, "trainer": trainer}))
    row = drop(core, "hungry", "a.jsonl", rows(0, 20))
    work(core, finished(core, row))
    failed = core.ledger.drops.get(row.id)
    assert failed.state is DropState.FAILED
    assert "memory" in failed.reason.lower()
    core.worker.use(core.settings.model_copy(update={"training": QUICK, "trainer": ONE_THREAD}))


def test_a_version_is_what_plain_peft_loads(core: Core, tiny_base_folder: Path) -> None:
    from adapterd.adapters.base import load_base  # noqa: PLC0415 - a base of its own, since PEFT changes it

    folder = core.store.folder("colours", 1)
    model = PeftModel.from_pretrained(load_base(tiny_base_folder, quantization="none", device="cpu").model, str(folder))
    assert any(bool(weight.abs().sum() > 0) for name, weight in model.named_parameters() if "lora_B" in name)


def test_what_passed_goes_on_trial_first_where_the_settings_say_so_and_the_next_drop_waits(core: Core) -> None:
    champion = core.ledger.aliases.of("colours")["champion"]
    told = core.settings.inbox_dir / "colours" / "task.toml"
    told.write_text("[canary]\nshare = 0.25\n[gate]\nmargin_accuracy = 1.0\nmargin_loss = 9.0\nlevel = 1e-9\n", "utf-8")
    row = drop(core, "colours", "trial.jsonl", other_rows(300, 40))  # so that learning it is sure to gain
    work(core, finished(core, row))
    version = core.ledger.drops.get(row.id).version
    judged = core.ledger.versions.get("colours", version)
    assert judged.verdict == "promote", judged.reason
    aliases = core.ledger.aliases.of("colours")
    assert (aliases["champion"], aliases["canary"]) == (champion, version)
    trial = core.ledger.canaries.of("colours")
    assert trial is not None
    assert (trial.version, trial.share, trial.champion) == (version, 0.25, champion)

    told.unlink()
    later = drop(core, "colours", "later.jsonl", rows(400, 24))
    work(core, lambda: core.ledger.drops.get(later.id).state is DropState.PLANNED)
    assert not core.worker.step(time.time())
    assert core.worker.underway
    core.lifecycle.end_canary("colours", actor="person", reason="seen enough")
    work(core, finished(core, later))
    parent = core.ledger.versions.get("colours", core.ledger.drops.get(later.id).version).parent
    assert parent == champion
    assert not core.worker.step(time.time())
    assert not core.worker.underway  # so that the daemon looks less often


def test_a_rejected_version_stays_listed_and_can_be_promoted_by_hand(core: Core) -> None:
    champion = core.ledger.aliases.of("colours")["champion"]
    settings = core.settings.model_copy(
        update={
            "training": QUICK,
            "trainer": ONE_THREAD,
            "gate": core.settings.gate.model_copy(update={"min_gain": 1e6}),
        }
    )
    core.worker.use(settings)
    row = drop(core, "colours", "more.jsonl", rows(200, 24))
    work(core, finished(core, row))
    version = core.ledger.drops.get(row.id).version
    rejected = core.ledger.versions.get("colours", version)
    assert (rejected.state, rejected.verdict) == (VersionState.REJECTED, "reject")
    assert core.ledger.aliases.of("colours")["champion"] == champion
    moved = core.lifecycle.promote("colours", version, expected=None, actor="person", reason="I know better")
    assert (moved.origin, moved.to) == (champion, version)
    assert core.ledger.versions.get("colours", version).state is VersionState.AVAILABLE
    core.worker.use(core.settings.model_copy(update={"training": QUICK, "trainer": ONE_THREAD}))


def test_a_candidate_that_went_too_far_is_published_part_of_the_way(core: Core) -> None:
    """The same drops twice: what the second costs the first, and then with a gate that allows a part of it."""
    forgetful = {"replay_share": 0.0, "ewc_strength": 0.0, "anchor_weight": 0.0, "epochs": 4}

    def second_version(task: str, margin: float) -> dict[str, Any]:
        gate = core.settings.gate.model_copy(update={"margin_loss": margin, "margin_accuracy": 1.0})
        training = QUICK.model_copy(update=forgetful)
        core.worker.use(core.settings.model_copy(update={"training": training, "trainer": ONE_THREAD, "gate": gate}))
        for name, text in (("a.jsonl", rows(0, 40)), ("b.jsonl", other_rows(100, 40))):
            row = drop(core, task, name, text)
            work(core, finished(core, row))
            assert core.ledger.drops.get(row.id).state is DropState.DONE
        return core.store.manifest(task, 2)

    whole = second_version("far", 1e6)
    assert (whole["recipe"]["part"], whole["recipe"]["rescued"]) == (1.0, "")
    rise = whole["gate"]["checks"][0]["loss_change"]
    assert rise > 0.1
    less = second_version("less-far", 0.7 * rise)
    part = less["recipe"]["part"]
    assert part in PARTS
    assert less["gate"]["checks"][0]["loss_change"] <= 0.7 * rise
    version = core.ledger.versions.get("less-far", 2)
    assert (version.state, core.ledger.aliases.of("less-far")["champion"]) == (VersionState.AVAILABLE, 2)
    assert f"{part:.0%} of the way, for the whole would not do: drop " in version.reason
    folder = core.store.folder("less-far", 2)
    fisher, weights = (load_file(folder / f"{name}.safetensors") for name in ("fisher", "adapter_model"))
    assert fisher.keys() == weights.keys()
    core.worker.use(core.settings.model_copy(update={"training": QUICK, "trainer": ONE_THREAD}))


def test_a_drop_that_the_audit_objects_to_is_held_with_the_reason_and_trained_once_released(core: Core) -> None:
    odd = rows(500, 24) + '{"text": "green 9, write to a.b@example.org", "label": "cold"}\n'
    held = drop(core, "audited", "odd.jsonl", odd)
    work(core, lambda: core.ledger.drops.get(held.id).state is DropState.HELD)
    held = core.ledger.drops.get(held.id)
    assert "1 row holds personal data (audit.personal)" in held.reason
    assert f"adapterd release {held.id}" in held.reason
    assert held.details["audit"]["findings"]["personal"][0]["line"] == 25
    core.worker.release(held.id)
    work(core, finished(core, held))
    assert core.ledger.drops.get(held.id).state is DropState.DONE


def test_redacted_rows_are_learned_and_the_file_as_it_came_is_gone(core: Core) -> None:
    folder = core.settings.inbox_dir / "redacted"
    folder.mkdir()
    (folder / "task.toml").write_text('[audit]\npersonal = "redact"\n', "utf-8")
    odd = rows(600, 24) + '{"text": "green 9, write to a.b@example.org", "label": "cold"}\n'
    row = drop(core, "redacted", "odd.jsonl", odd)
    work(core, lambda: core.ledger.drops.get(row.id).state is DropState.AUDITED)
    row = core.ledger.drops.get(row.id)
    assert row.details["redacted_rows"] == 1
    assert not (Dataset.below(core.settings.state).folder("redacted", row.id) / "original").exists()
    assert Path(row.path).is_file()
    state = core.settings.state
    kept = [path for path in (state / "data", state / "spool") for path in path.rglob("*") if path.is_file()]
    assert not any(b"a.b@example.org" in path.read_bytes() for path in kept if "redacted" in path.parts)
    work(core, finished(core, row))

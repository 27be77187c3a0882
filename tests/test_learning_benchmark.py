"""The learning benchmark: its streams, and every method from the first drop to the last on the tiny base."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from adapterd.continual.gate import Margins
from adapterd.continual.recipe import Hyperparameters
from adapterd.daemon.learning_sections import Gate, Training

from benchmarks.cell import Cell
from benchmarks.found import CellFound
from benchmarks.learning import Figures
from benchmarks.methods import METHODS
from benchmarks.streams import SELECTION_ROWS, Stream, load_stream

HP = Hyperparameters(rank=2, alpha=4, epochs=1, batch_size=8, learning_rate=0.01, fisher_rows=8, max_length=64)


def written(folder: Path, name: str, labels: Sequence[str], rows: int) -> str:
    """A file of labelled rows, sorted by label as files often are."""
    lines = [
        json.dumps({"text": f"{labels[n * len(labels) // rows]} {n}", "label": labels[n * len(labels) // rows]})
        for n in range(rows)
    ]
    (folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    return name


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The description of a stream of two drops."""
    steps = [
        {
            "name": name,
            "train": written(tmp_path, f"{name}.jsonl", labels, SELECTION_ROWS + 60),
            "test": written(tmp_path, f"{name}-test.jsonl", labels, 12),
            "train_rows": 40,
            "test_rows": 8,
        }
        for name, labels in (("first", ("red", "blue")), ("second", ("cat", "dog")))
    ]
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"name": "own", "score": "accuracy", "steps": steps}), "utf-8")
    return path


def stream(path: Path, seed: int = 0, full: bool = False) -> Stream:
    return load_stream(str(path), Path(), seed, full)


def test_what_the_benchmarks_measure_are_the_daemons_defaults() -> None:
    assert asdict(Hyperparameters()) == Training().model_dump()
    assert asdict(Margins()) == Gate().model_dump()


def test_test_and_selection_rows_are_the_same_for_every_seed_and_never_trained_on(own: Path) -> None:
    one, other = stream(own, 0), stream(own, 1)
    for step, again in zip(one.steps, other.steps, strict=True):
        assert (step.test, step.selection) == (again.test, again.selection)
        assert step.train != again.train
        assert len(step.test) == 8
        assert len(step.selection) == SELECTION_ROWS
        trained = {row.prompt for row in (*step.train, *again.train)}
        assert trained.isdisjoint(row.prompt for row in (*step.test, *step.selection))
        assert {row.completion for row in step.train} == {row.completion for row in step.test}


def test_full_takes_all_rows(own: Path) -> None:
    assert all(len(step.test) == 12 for step in stream(own, full=True).steps)


def test_a_stream_that_is_not_there_is_told_of_with_those_that_are() -> None:
    with pytest.raises(SystemExit, match="banking77"):
        load_stream("banking", Path(), 0, full=False)
    with pytest.raises(SystemExit, match="not there"):
        load_stream("unlike4", Path("/nonexistent"), 0, full=False)


def run(tmp_path: Path, own: Path, base: Path, method: str) -> CellFound:
    chosen = METHODS[method]
    hp = replace(HP, **chosen.settings)
    folder = tmp_path / "work" / chosen.name / "cell"
    probe = "The quick brown fox jumps over the lazy dog. " * 40
    return Cell(folder, stream(own), chosen, hp, base, tmp_path / "work" / "general.safetensors", probe).run()


def test_a_stream_may_be_scored_by_its_loss(tmp_path: Path, own: Path, tiny_base_folder: Path) -> None:
    described = json.loads(own.read_text("utf-8"))
    own.write_text(json.dumps({**described, "score": "loss"}), "utf-8")
    found = run(tmp_path, own, tiny_base_folder, "sequential")
    assert found.steps[1].scores == [-loss if loss is not None else None for loss in found.steps[1].losses]
    assert all(score < 0 for score in found.base_scores)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_through_the_stream_and_takes_up_what_is_finished(
    tmp_path: Path, own: Path, tiny_base_folder: Path, method: str
) -> None:
    found = run(tmp_path, own, tiny_base_folder, method)
    figures = Figures.of(found, 0.01, 0)
    assert 0 <= figures.aa <= 1
    assert figures.tokens > 0
    assert found.selection is not None
    assert len(found.steps) == 2
    # As if it had been interrupted after the first drop.
    path = tmp_path / "work" / method / "cell" / "found.json"
    half = json.loads(path.read_text("utf-8"))
    half["steps"], half["selection"] = half["steps"][:1], None
    path.write_text(json.dumps(half), "utf-8")
    again = run(tmp_path, own, tiny_base_folder, method)
    assert [step.scores for step in again.steps] == [step.scores for step in found.steps]
    assert again.selection == pytest.approx(found.selection)


def test_joint_training_counts_what_retraining_at_every_drop_would_cost(
    tmp_path: Path, own: Path, tiny_base_folder: Path
) -> None:
    found = run(tmp_path, own, tiny_base_folder, "joint")
    first, everything = (step.new_tokens for step in found.steps)
    assert found.steps[0].tokens == 0
    assert everything > first
    assert found.joint_tokens == pytest.approx(found.steps[1].tokens * (first / everything + 1), abs=1)

"""A search tries what is set first, and what it writes leaves the rest of a person's file alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from adapterd.adapters.base import Base
from adapterd.adapters.store import Store
from adapterd.continual import general
from adapterd.continual.errors import TrainingDiverged
from adapterd.continual.examples import parse_row
from adapterd.continual.recipe import Hyperparameters
from adapterd.continual.rehearsal import stages
from adapterd.continual.template import Template
from adapterd.daemon import tuning
from adapterd.daemon.config import load_settings, load_task_settings
from adapterd.daemon.dataset import Dataset
from adapterd.daemon.errors import ConfigError, NotAllowed
from adapterd.daemon.ledger import Ledger
from adapterd.daemon.tuning import Found, Question, Trial, question, search, write_settings

HP = Hyperparameters(rank=8, learning_rate=1e-3, epochs=1, batch_size=8, fisher_rows=8, replay_share=0.4)
ROWS = [parse_row({"text": f"row {n}", "label": ("warm", "cold")[n % 2]}) for n in range(60)]


def asked(drops: int, rank: int = 8) -> Question:
    learned = {drop: (ROWS[20 * drop : 20 * drop + 16], ROWS[20 * drop + 16 : 20 * drop + 20]) for drop in range(drops)}
    return Question(stages(learned, 0), Template.for_examples(ROWS, None, True), rank)


def searched(
    base: Base, tmp_path: Path, drops: int, trials: int, adapter: int = 8, **changes: Any
) -> tuple[Found, list[float]]:
    shares: list[float] = []
    found = search(
        asked(drops, adapter),
        base,
        replace(HP, **changes),
        general=tmp_path / "general.safetensors",
        seconds=600,
        trials=trials,
        report=lambda _trial, share: shares.append(share),
        tried=lambda _trial: None,
    )
    return found, shares


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(general, "ROWS", 4)
    monkeypatch.setattr(general, "TOKENS", 8)


def test_what_is_set_is_tried_first_and_ranks_never_fall_below_the_adapters(tiny_base: Base, tmp_path: Path) -> None:
    found, shares = searched(tiny_base, tmp_path, drops=2, trials=4)
    assert found.trials[0].settings == {"rank": 8, "alpha": 16, "learning_rate": 1e-3, "replay_share": 0.4}
    assert len(found.trials) == 4
    assert all(trial.settings["rank"] >= 8 for trial in found.trials)
    assert all(trial.settings["alpha"] == 2 * trial.settings["rank"] for trial in found.trials)
    assert found.best.loss == min(trial.loss for trial in found.trials)
    assert max(shares) == pytest.approx(1.0)
    assert not [name for name, _ in tiny_base.model.named_parameters() if "lora" in name]


def test_what_is_set_is_tried_as_it_is_though_nobody_would_search_there(tiny_base: Base, tmp_path: Path) -> None:
    unusual = {"rank": 6, "alpha": 5, "learning_rate": 0.01234, "replay_share": 0.125}
    found, _ = searched(tiny_base, tmp_path, drops=2, trials=2, **unusual, adapter=4)
    assert found.trials[0].settings == unusual
    assert len(found.trials) == 2


def test_a_trial_that_diverges_ends_no_search_unless_it_is_of_what_is_set(
    tiny_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def rehearse(*_: Any, **__: Any) -> list[float]:
        tried.append(1)
        if len(tried) in diverging:
            raise TrainingDiverged("the loss became nan", hint="lower the rate")
        return [1.0, 2.0]

    monkeypatch.setattr(tuning, "rehearse", rehearse)
    diverging = {2}
    found, _ = searched(tiny_base, tmp_path, drops=2, trials=3)
    assert (len(tried), len(found.trials)) == (3, 2)
    tried.clear()
    diverging = {1}
    with pytest.raises(TrainingDiverged):
        searched(tiny_base, tmp_path, drops=2, trials=3)


def test_the_replay_share_is_not_searched_where_there_is_nothing_to_replay(tiny_base: Base, tmp_path: Path) -> None:
    found, _ = searched(tiny_base, tmp_path, drops=1, trials=2)
    assert all("replay_share" not in trial.settings for trial in found.trials)


def trial(*losses: float) -> Trial:
    return Trial({"rank": 8}, losses)


def test_a_winner_by_chance_is_no_winner() -> None:
    now = trial(1.0, 1.1, 0.9, 1.0, 1.05)
    assert not Found((now,)).better
    assert not Found((now, trial(0.5, 1.5, 0.9, 0.8, 1.2))).better
    assert Found((now, trial(0.5, 0.62, 0.4, 0.55, 0.5))).better


def test_a_winner_among_many_has_to_win_by_more() -> None:
    now, winner = trial(1.0, 1.1, 0.9, 1.0, 1.05), trial(0.8, 1.05, 0.85, 0.8, 0.85)
    alone, among_ten = Found((now, winner)), Found((now, winner, *[now] * 9))
    assert alone.better
    assert not among_ten.better
    assert among_ten.p_value == pytest.approx(10 * alone.p_value)
    assert Found((now, *[now] * 9)).p_value == 1.0


def test_a_persons_file_keeps_its_comments_and_other_settings(tmp_path: Path) -> None:
    settings = load_settings(None).model_copy(update={"state": tmp_path, "inbox": tmp_path})
    path = tmp_path / "tickets" / "task.toml"
    path.parent.mkdir()
    path.write_text("# ours\n[gate]\nlevel = 0.02 # strict\n\n[training]\nepochs = 2\nrank = 8\n", "utf-8")
    write_settings(path, {"rank": 16, "learning_rate": 0.0005}, "found by trying")
    text = path.read_text("utf-8")
    assert "# ours" in text
    assert "level = 0.02 # strict" in text
    assert "rank = 16 # found by trying" in text
    merged = load_task_settings(settings, "tickets")
    assert (merged.training.rank, merged.training.learning_rate, merged.training.epochs) == (16, 0.0005, 2)


def test_a_file_is_made_where_there_is_none(tmp_path: Path) -> None:
    write_settings(tmp_path / "new" / "task.toml", {"replay_share": 0.25}, "why")
    assert (tmp_path / "new" / "task.toml").read_text("utf-8") == "[training]\nreplay_share = 0.25 # why\n"


def test_a_file_that_is_no_toml_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_text("[training\n", "utf-8")
    with pytest.raises(ConfigError, match="no TOML"):
        write_settings(path, {"rank": 4}, "why")
    assert path.read_text("utf-8") == "[training\n"


def test_a_task_that_has_learned_nothing_cannot_be_tuned(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    try:
        ledger.tasks.add("new")
        with pytest.raises(NotAllowed, match="no drop yet"):
            question(ledger, Store(tmp_path / "adapters"), Dataset.below(tmp_path), "new", 0)
    finally:
        ledger.close()


def test_what_is_searched_holds_the_defaults() -> None:
    hp = Hyperparameters()
    assert hp.rank in tuning.RANKS
    assert tuning.RATES[0] <= hp.learning_rate <= tuning.RATES[1]
    assert tuning.SHARES[0] <= hp.replay_share <= tuning.SHARES[1]

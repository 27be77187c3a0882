"""`adapterd tune`, as far as it goes without a base."""

from pathlib import Path

import pytest

from .cli_runner import CommandLine


def test_without_a_ledger_it_says_where_it_looked(
    alone: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTERD_STATE", str(tmp_path / "none"))
    found = alone("tune", "tickets")
    assert found.status == 1
    assert f"there is no ledger in {tmp_path / 'none'}" in found.err


def test_without_the_extra_it_says_what_to_install(alone: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapterd.daemon.cli_tune.find_spec", lambda name: None if name == "optuna" else object())
    found = alone("tune", "tickets")
    assert found.status == 1
    assert "tuning needs optuna" in found.err
    assert "adapterd[tune]" in found.err

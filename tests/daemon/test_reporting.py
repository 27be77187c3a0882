"""What a report holds, and what it leaves out so that it stays small."""

from pathlib import Path

from adapterd.adapters.states import VersionState
from adapterd.daemon.ledger import Ledger
from adapterd.daemon.reporting import report


def test_a_report_has_the_measures_of_each_evaluation_and_not_of_each_row(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.tasks.add("mood")
    figures = {"loss": 0.1 + 0.2, "accuracy": 2 / 3, "exact_match": None, "rows": 3, "losses": [0.1] * 3}
    with ledger.transaction():
        add_version(ledger, 1)
        ledger.evaluations.add("mood", 1, 4, "candidate", "d", figures)
        ledger.evaluations.add("mood", 1, 4, "base", "f", {**figures, "loss": 2})
        ledger.evaluations.add("mood", 1, 7, "candidate", "d", {**figures, "exact_match": 0.5})
    (version,) = report(ledger, "mood")["versions"]
    ledger.close()
    measured = {"loss": 0.1 + 0.2, "accuracy": 2 / 3, "exact_match": None, "rows": 3}
    assert version["evaluations"] == {
        "4": {"candidate": measured, "base": {**measured, "loss": 2}},
        "7": {"candidate": {**measured, "exact_match": 0.5}},
    }


def add_version(ledger: Ledger, number: int) -> None:
    ledger.versions.add(
        "mood",
        number,
        state=VersionState.AVAILABLE,
        digest="d" * 64,
        parent=0,
        drop=0,
        fingerprint="f" * 64,
        metrics={},
        verdict="promote",
        reason="",
    )


def test_a_report_holds_the_newest_moves_of_aliases_and_not_all(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.tasks.add("mood")
    with ledger.transaction():
        for number in (1, 2):
            add_version(ledger, number)
        for move in range(600):
            before = None if not move else 1 + (move - 1) % 2
            ledger.aliases.move("mood", "champion", 1 + move % 2, expected=before, actor="ada", reason=str(move))
    history = report(ledger, "mood")["history"]
    ledger.close()
    assert [move["reason"] for move in history] == [str(number) for number in range(100, 600)]

"""A report stays as large as it is, however often versions were promoted and reverted."""

from pathlib import Path

from adapterd.adapters.states import VersionState
from adapterd.daemon.ledger import Ledger
from adapterd.daemon.reporting import report


def test_a_report_holds_the_newest_moves_of_aliases_and_not_all(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.tasks.add("mood")
    with ledger.transaction():
        for number in (1, 2):
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
        for move in range(600):
            before = None if not move else 1 + (move - 1) % 2
            ledger.aliases.move("mood", "champion", 1 + move % 2, expected=before, actor="ada", reason=str(move))
    history = report(ledger, "mood")["history"]
    ledger.close()
    assert [move["reason"] for move in history] == [str(number) for number in range(100, 600)]

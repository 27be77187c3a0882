"""What was measured of a champion is taken over where it would be measured alike."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from adapterd.adapters.base import Base
from adapterd.continual.probe import PROBE
from adapterd.daemon.core import Core
from adapterd.daemon.evaluations import Subject
from adapterd.daemon.lineage import known_figures, lineage

from .real_core import publish, real_core

OF: tuple[Subject, ...] = ("candidate", "champion", "base", "few-shot")


@pytest.fixture
def core(tmp_path: Path, tiny_base: Base) -> Iterator[Core]:
    """A core with the champion "mail@1", trained with 256 tokens a row on a drop whose held-out rows judged it."""
    with real_core(tmp_path, tiny_base) as core:
        row, _ = core.ledger.drops.claim("mail", "a.jsonl", "0" * 64, 1, tmp_path / "a.jsonl")
        row = core.ledger.drops.amend(row.id, heldout_rows=4)
        recipe = {"hyperparameters": {"max_length": 256}}
        publish(core, "mail", 1, data={"drop": row.id, "earlier_drops": []}, recipe=recipe)
        for subject in OF:
            for drop in (PROBE, row.id):
                core.ledger.evaluations.add("mail", 1, drop, subject, "", {"loss": 1.0})
        core.lifecycle.promote("mail", 1, expected=None, actor="test", reason="it is better")
        yield core


def known(core: Core, max_length: int, *, new_labels: bool = False) -> set[str]:
    came_from = lineage(core.ledger, core.store, "mail")
    return set(known_figures(core.ledger, came_from, new_labels=new_labels, max_length=max_length))


def test_figures_of_champion_and_base_are_taken_over(core: Core) -> None:
    (drop,) = lineage(core.ledger, core.store, "mail").drops
    probe = {f"champion/{PROBE}", f"base/{PROBE}"}
    assert known(core, 256) == probe | {f"champion/{drop}", f"base/{drop}"}
    assert known(core, 256, new_labels=True) == probe


def test_figures_of_rows_that_were_cut_elsewhere_are_not(core: Core) -> None:
    assert known(core, 512) == set()
    publish(core, "mail", 2)  # as one that was imported: it does not say how its rows were cut
    core.ledger.evaluations.add("mail", 2, PROBE, "candidate", "", {"loss": 1.0})
    core.lifecycle.promote("mail", 2, expected=None, actor="test", reason="it is better")
    assert known(core, 256) == set()

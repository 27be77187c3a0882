"""Damaged versions are stepped back from by the daemon itself."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from adapterd.adapters.refs import AdapterRef
from adapterd.daemon.core import Core
from adapterd.daemon.fallback import Fallback
from adapterd.daemon.problems import problems

from .real_core import publish, real_core


@pytest.fixture
def core(tmp_path: Path, tiny_base_folder: Path) -> Iterator[Core]:
    """The task "mood", whose versions 1 to 3 lie on disk and none of which is in memory."""
    with real_core(tmp_path, tiny_base_folder, host_cache_mb=0) as core:
        for version in (2, 3):
            publish(core, "mood", version)
        core.lifecycle.promote("mood", 2, expected=1, actor="test", reason="the second")
        core.lifecycle.canary("mood", 3, 0.5, actor="test", reason="the third")
        yield core


def start_again(core: Core) -> None:
    """As at a start: nothing is in memory, and everything is loaded from disk."""
    for version in (1, 2, 3):
        core.manager.forget("mood", version)
    core.lifecycle.sync()
    core.manager.reconcile(time.time())
    Fallback(core.ledger, core.manager, core.lifecycle).step(time.time())
    core.manager.reconcile(time.time())


def spoil(core: Core, version: int) -> None:
    weights = core.store.folder("mood", version) / "adapter_model.safetensors"
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")


def served(core: Core) -> int:
    with core.manager.lease(AdapterRef.parse("mood"), "request") as lease:
        return lease.version


def test_what_is_sound_stays_where_it_is(core: Core) -> None:
    start_again(core)
    assert core.ledger.aliases.of("mood") == {"champion": 2, "previous": 1, "canary": 3}


def test_previous_serves_where_the_champion_is_damaged_and_an_event_says_so(core: Core) -> None:
    spoil(core, 2)
    start_again(core)
    assert core.ledger.aliases.of("mood") == {"champion": 1, "previous": 2, "canary": 3}
    assert core.manager.serving_state("mood", 2)[0].value == "error"
    core.lifecycle.end_canary("mood", actor="test", reason="that the champion answers all")
    assert served(core) == 1
    moved = core.ledger.events.of_kind("mood", "alias.moved")[-1]
    assert (moved.actor, moved.version) == ("daemon", 1)
    assert "mood@2 cannot be served: its digest is" in moved.message


def test_a_damaged_canary_ends_its_trial(core: Core) -> None:
    spoil(core, 3)
    start_again(core)
    assert core.ledger.aliases.of("mood") == {"champion": 2, "previous": 1}
    assert "mood@3 cannot be served" in core.ledger.events.of_kind("mood", "canary.reverted")[-1].message


def test_where_both_are_damaged_nothing_moves_and_people_are_told(core: Core) -> None:
    spoil(core, 1)
    spoil(core, 2)
    start_again(core)
    assert core.ledger.aliases.of("mood")["champion"] == 2
    assert any("mood@2 is champion and cannot be served" in said for said in problems(core, time.time()))

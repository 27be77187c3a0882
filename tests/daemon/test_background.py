"""What a daemon does beside calls, on a real core."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from adapterd.adapters.base import Base
from adapterd.adapters.states import VersionState
from adapterd.daemon.background import Background
from adapterd.daemon.core import Core
from adapterd.daemon.serving_sections import Retention

from .real_core import publish, real_core, until


@pytest.fixture
def core(tmp_path: Path, tiny_base: Base) -> Iterator[Core]:
    with real_core(tmp_path, tiny_base) as core:
        yield core


@pytest.fixture
def background(core: Core) -> Iterator[Background]:
    """Not started yet."""
    settings = core.settings.model_copy(update={"rescan_s": 0.2, "settle_s": 0.1})
    background = Background(settings, core, refresh_health=lambda _now: None, on_error=lambda _name, _error: None)
    yield background
    background.stop()


def test_settings_that_were_reread_say_how_many_versions_stay(core: Core, background: Background) -> None:
    for number in range(2, 6):
        publish(core, "mood", number)
    fewer = core.settings.model_copy(update={"retention": Retention(keep_newest=2)})
    background.use(fewer)
    background.start(time.time())

    def left() -> list[int]:
        return [row.version for row in core.ledger.versions.find("mood") if row.state is not VersionState.DELETED]

    assert until(lambda: left() == [1, 4, 5])


def test_its_loops_move_once_they_have_started(background: Background) -> None:
    assert not background.moving(time.time())
    background.start(time.time())
    assert until(lambda: background.moving(time.time()))
    assert not background.moving(time.time() + 3600)


def test_a_file_in_the_inbox_becomes_a_drop(core: Core, background: Background) -> None:
    background.start(time.time())
    folder = core.settings.inbox_dir / "fresh"
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    assert until(lambda: bool(core.ledger.drops.find("fresh")))

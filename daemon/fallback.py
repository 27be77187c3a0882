"""Where a champion's files turn out to be damaged, the version before serves; a canary's trial ends.

A version in memory goes on whatever becomes of its files, so that this is met when one is loaded: at a start, as a
rule. Nothing is deleted; `adapterd doctor --repair` sets damaged files aside.
"""

import structlog

from ..adapters.errors import ServingError
from ..adapters.manager import Manager
from ..adapters.refs import CANARY, CHAMPION, PREVIOUS
from .caller import DAEMON
from .errors import DaemonError
from .ledger import Ledger
from .lifecycle import Lifecycle

log = structlog.get_logger(__name__)


class Fallback:
    """Looks at each task's aliases after the manager has tried to load what they name."""

    def __init__(self, ledger: Ledger, manager: Manager, lifecycle: Lifecycle) -> None:
        self._ledger = ledger
        self._manager = manager
        self._lifecycle = lifecycle

    def step(self, _now: float) -> None:
        """Step back from every damaged champion and canary; what else goes wrong with one task stops no other."""
        for task in self._ledger.tasks.names():
            aliases = self._ledger.aliases.of(task)
            canary, champion, previous = (aliases.get(alias) for alias in (CANARY, CHAMPION, PREVIOUS))
            try:
                if canary is not None and (damage := self._manager.damage(task, canary)):
                    self._lifecycle.end_canary(task, expected=canary, actor=DAEMON, reason=damage)
                if champion is None or previous is None or self._manager.damage(task, previous):
                    continue  # nothing to step back to: `problems.py` tells people
                if damage := self._manager.damage(task, champion):
                    self._lifecycle.promote(task, previous, expected=champion, actor=DAEMON, reason=damage)
            except (ServingError, DaemonError) as error:
                log.warning("no step back", task=task, error=error.message)

"""Counts what becomes of requests to champions and canaries and what people think of the answers, and acts on it.

`canary_rules` decides. Each rating is kept as an event.
"""

import threading
from collections.abc import Callable
from typing import Final

import structlog

from ..adapters.lease import Lease
from ..adapters.manager import Manager
from ..adapters.refs import CANARY, CHAMPION
from ..adapters.states import ServingState
from .canaries import CanaryRow
from .canary_rules import Judgement, Rules, Tally, judge
from .config import Settings, load_task_settings
from .errors import ConfigError
from .ledger import Ledger
from .lifecycle import Lifecycle
from .recent_answers import Answered

log = structlog.get_logger(__name__)

ACTOR: Final = "canary"
"""Who moves the aliases, as the ledger writes it down."""


class CanaryWatch:
    """Any thread may count; `step` is one tick's.

    Requests by number or to `@canary` are not counted: only those that chance parted can be compared.
    """

    def __init__(self, settings: Settings, ledger: Ledger, manager: Manager, lifecycle: Lifecycle) -> None:
        self._settings = settings
        self._ledger = ledger
        self._manager = manager
        self._lifecycle = lifecycle
        self._lock = threading.Lock()
        self._counted: dict[tuple[str, int], Tally] = {}  # since the last step

    def use(self, settings: Settings) -> None:
        """Take reread settings."""
        self._settings = settings

    def answered(self, lease: Lease, seconds: float, tokens: int) -> None:
        """A request was answered in `seconds`, with `tokens` tokens read and written."""
        with self._lock:
            self._count(lease, lambda tally: tally.with_answer(seconds, tokens))

    def failed(self, lease: Lease) -> None:
        """A request failed by the version's fault, or was not answered in time."""
        with self._lock:
            self._count(lease, Tally.with_failure)

    def rate(self, request_id: str, answered: Answered, *, good: bool) -> None:
        """Take down what a person thinks of an answer."""
        with self._lock:
            self._count(answered, lambda tally: tally.with_rating(good=good))
        who = f"{answered.task}@{answered.version}" if answered.task else "the base"
        said = "good" if good else "bad"
        self._ledger.events.emit(
            "answer.rated",
            f"an answer of {who} was rated {said}",
            task=answered.task,
            version=answered.version,
            details={"request_id": request_id, "rating": said, "alias": answered.alias, "digest": answered.digest},
        )

    def step(self, _now: float) -> None:
        """Write down what was counted, and promote or take back the canaries that are ripe."""
        with self._lock:
            counted, self._counted = self._counted, {}
        for row in self._ledger.canaries.find():
            champion = self._ledger.aliases.of(row.task).get(CHAMPION, 0)
            if champion != row.champion:  # a person moved it: the trial begins anew beside the new one
                self._ledger.canaries.begin(row.task, row.version, row.share, champion)
                continue
            self._judge(row, counted)

    def _judge(self, row: CanaryRow, counted: dict[tuple[str, int], Tally]) -> None:
        task, nothing = row.task, Tally()
        of_champion = row.of_champion + counted.get((task, row.champion), nothing)
        of_canary = row.of_canary + counted.get((task, row.version), nothing)
        state, why = self._manager.serving_state(task, row.version)
        if state is ServingState.ERROR:
            reason = f"it cannot be loaded: {why}"
            self._lifecycle.end_canary(task, expected=row.version, actor=ACTOR, reason=reason)
            return
        if (of_champion, of_canary) == (row.of_champion, row.of_canary):
            return
        judgement, reason, looked = judge(of_champion, of_canary, self._rules(task), row.looked)
        self._ledger.canaries.count(task, of_champion, of_canary, looked)
        if judgement is Judgement.PROMOTE:
            self._lifecycle.promote(task, row.version, expected=row.champion, actor=ACTOR, reason=reason)
        elif judgement is Judgement.REVERT:
            self._lifecycle.end_canary(task, expected=row.version, actor=ACTOR, reason=reason)

    def _rules(self, task: str) -> Rules:
        try:
            canary = load_task_settings(self._settings, task).canary
        except ConfigError as error:
            log.warning("canary judged by the daemon's settings", task=task, error=error.message)
            canary = self._settings.canary
        return Rules(canary.min_requests, canary.level, canary.max_slowdown)

    def _count(self, who: Lease | Answered, change: Callable[[Tally], Tally]) -> None:
        """Under the lock."""
        if who.alias in (CHAMPION, CANARY):
            key = (who.task, who.version)
            self._counted[key] = change(self._counted.get(key, Tally()))

"""Whether what people ask has moved away from what their task has learned, told before anybody drops data of it.

Of each served prompt the mean of its words' embeddings is kept (layer 0 of what `input_drift` compares), not its text,
and in memory alone. Windows of prompts that do not overlap are compared with the rows behind the champion, so each look
is a test of its own. For tasks that ask for it (`drift.observe_queries`).
"""

import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final, cast

import numpy as np
import structlog

from ..adapters.base import Base
from ..adapters.store import Store
from ..continual.input_drift import MOST_ROWS, Verdict, Window, compare
from ..continual.pooled_states import mean_words, nearest_words
from ..continual.replay import sample_replay
from .config import Settings, load_task_settings
from .dataset import Dataset
from .errors import ConfigError
from .ledger import Ledger
from .lineage import lineage
from .questions import Asked

log = structlog.get_logger(__name__)

# Looks of one task in which drift is claimed where there is none, at most; they go on for as long as it is served.
_LEVEL: Final = 0.01
# Share of the prompts, the farthest from what is known, that are described; and words that describe them.
_CLUSTER: Final = 0.2
_WORDS: Final = 5


class QueryWatch:
    """Any thread may `observe`; `step` is one tick's."""

    def __init__(self, settings: Settings, ledger: Ledger, store: Store, dataset: Dataset, base: Base) -> None:
        self._settings = settings
        self._ledger = ledger
        self._store = store
        self._dataset = dataset
        self._words = cast(Any, base.model).get_input_embeddings().weight.detach()
        self._tokenizer = base.tokenizer
        self._lock = threading.Lock()
        self._asked: dict[str, list[tuple[np.ndarray, int]]] = {}  # by task: mean and number of tokens of each prompt
        self._wanted: dict[str, int] = {}  # by task: prompts of a window, 0 where none are observed; as last looked up
        self._references: dict[tuple[str, int], Window] = {}  # by task and champion

    def use(self, settings: Settings) -> None:
        """Take reread settings."""
        self._settings = settings

    def observe(self, task: str, asked: Asked) -> None:
        """Take one prompt into the task's window; nothing happens where none is wanted, or it is full."""
        wanted = self._wanted.get(task, 0)
        if len(self._asked.get(task, ())) >= wanted:
            return
        states, (tokens,) = mean_words(self._words, self._tokenizer, [asked.text])
        with self._lock:
            self._asked.setdefault(task, []).append((states[0], tokens))

    def step(self, _now: float) -> None:
        """Look up who wants to be observed, and compare the windows that are full."""
        for task in self._ledger.tasks.names():
            wanted = self._wanted[task] = self._window_of(task)
            with self._lock:
                full = len(self._asked.get(task, ())) >= wanted > 0
                asked = self._asked.pop(task, []) if full or not wanted else []
            if full:
                self._look(task, asked)

    def _look(self, task: str, asked: Sequence[tuple[np.ndarray, int]]) -> None:
        reference = self._reference(task)
        if reference is None:
            return
        current = Window([""] * len(asked), {0: np.stack([mean for mean, _ in asked])}, [tokens for _, tokens in asked])
        verdict = compare(reference, current, level=_LEVEL)
        if verdict is None or not verdict.drifted:
            return
        about = self._describe(reference.states[0], current.states[0])
        said = f"; the farthest of them are about words like {', '.join(about)}" if about else ""
        self._ledger.events.emit(
            "drift.queries",
            f"{task}: the last {len(asked)} prompts differ from what it has learned: {verdict.reason}{said}",
            task=task,
            details=_details(verdict, about, len(asked)),
        )

    def _reference(self, task: str) -> Window | None:
        """Some of the rows behind the champion; None without one."""
        behind = lineage(self._ledger, self._store, task)
        if behind.champion is None:
            return None
        key = (task, behind.champion.version)
        if key not in self._references:
            rows = {drop: self._dataset.read(task, drop, "rows") for drop in behind.drops}
            texts = [row.asked for row in sample_replay(rows, MOST_ROWS, seed=0)]
            if not texts:
                return None
            states, tokens = mean_words(self._words, self._tokenizer, texts)
            self._references = {at: window for at, window in self._references.items() if at[0] != task}
            self._references[key] = Window(texts, {0: states}, tokens)
        return self._references[key]

    def _describe(self, before: np.ndarray, now: np.ndarray) -> list[str]:
        """The words whose embeddings lie in the direction in which the farthest prompts have moved."""
        middle = before.mean(axis=0)
        distances = np.linalg.norm(now - middle, axis=1)
        farthest = now[np.argsort(-distances)[: max(1, round(_CLUSTER * len(now)))]]
        return nearest_words(self._words, self._tokenizer, farthest.mean(axis=0) - middle, _WORDS)

    def _window_of(self, task: str) -> int:
        try:
            drift = load_task_settings(self._settings, task).drift
        except ConfigError as error:
            log.warning("queries observed by the daemon's settings", task=task, error=error.message)
            drift = self._settings.drift
        return drift.query_window if drift.observe_queries else 0


def _details(verdict: Verdict, about: Sequence[str], prompts: int) -> dict[str, Any]:
    return {
        "prompts": prompts,
        "p_value": min(one.p_value for one in verdict.comparisons),
        "comparisons": [asdict(one) for one in verdict.comparisons],
        "words": list(about),
    }

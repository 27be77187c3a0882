"""Answers that people have corrected: kept by task until they are enough for a drop of their own.

A correction is a row like any other: in the inbox it goes the way of every file, audit and gate included.
"""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from ..adapters.durable import make_folder, write_atomic
from ..adapters.errors import BadRequest
from ..adapters.store import Store
from ..continual.shapes import Kind
from ..continual.template import Template
from .config import Settings
from .ledger import Ledger
from .recent_answers import Answered
from .uploads import receive

# Fewer would be held as too few to learn from and judge.
_LEAST_ROWS: Final = 8
_SUFFIX: Final = ".jsonl"


class Corrections:
    """One file a task in `$STATE/corrections/`; any thread may add."""

    def __init__(self, settings: Settings, ledger: Ledger, store: Store) -> None:
        self._settings = settings
        self._ledger = ledger
        self._store = store
        self._folder = settings.state / "corrections"
        self._lock = threading.Lock()

    def use(self, settings: Settings) -> None:
        """Take reread settings."""
        self._settings = settings

    @property
    def wanted(self) -> bool:
        """Whether prompts are to be remembered so that answers can be corrected."""
        return self._settings.feedback.rows > 0

    def add(self, answered: Answered, right: str) -> int:
        """Keep `right` as what should have been answered; returns how many wait with it. Durable before it returns.

        Raises `BadRequest` for what no version of the task could learn.
        """
        row = self._row(answered, right)
        with self._lock:
            path = self._folder / f"{answered.task}{_SUFFIX}"
            lines = path.read_text("utf-8") if path.is_file() else ""
            make_folder(self._folder, 0o750)
            lines += json.dumps(row, ensure_ascii=False) + "\n"
            write_atomic(path, lines.encode("utf-8"))
        waiting = lines.count("\n")
        self._ledger.events.emit(
            "answer.corrected",
            f"an answer of {answered.task}@{answered.version} was corrected; {waiting} wait for their drop",
            task=answered.task,
            version=answered.version,
            details={"waiting": waiting},
        )
        return waiting

    def step(self, now: float) -> None:
        """Put what is ripe into the inbox: enough rows, or fewer whose last has waited long enough.

        Interrupted between the two, the same bytes come again, which are one drop.
        """
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            with self._lock:
                content, age = path.read_bytes(), now - path.stat().st_mtime
                rows = content.count(b"\n")
                feedback = self._settings.feedback
                ripe = rows >= feedback.rows or age >= feedback.hours * 3600
                if rows < _LEAST_ROWS or not ripe:
                    continue
                stamp = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%SZ")
                name = f"corrections-{stamp}.jsonl"
                receive(self._settings.inbox_dir, path.stem, name, [content], max_bytes=len(content))
                path.unlink()

    def forget(self, task: str, says: Callable[[str], bool]) -> int:
        """Remove the waiting rows with a text of which `says` is true; returns how many there were."""
        with self._lock:
            path = self._folder / f"{task}{_SUFFIX}"
            if not path.is_file():
                return 0
            lines = path.read_text("utf-8").splitlines(keepends=True)
            kept = [line for line in lines if not any(map(says, _texts(json.loads(line))))]
            if len(kept) < len(lines):
                write_atomic(path, "".join(kept).encode("utf-8"))
            return len(lines) - len(kept)

    def _row(self, answered: Answered, right: str) -> dict[str, object]:
        asked = answered.asked
        if not answered.task:
            raise _refused("the base had answered, and learns nothing", "ask a task, and correct its answer")
        if asked is None:
            raise _refused("what was asked is not kept", "set feedback.rows above 0 to have answers corrected")
        if not right.strip():
            raise _refused("the correction is empty", "say what should have been answered")
        template = Template.from_json(self._store.template(answered.task, answered.version))
        if asked.messages is not None:
            turns = [*asked.messages, ("assistant", right)]
            return {"messages": [{"role": role, "content": content} for role, content in turns]}
        if template.serve is Kind.LABEL:
            if right not in template.labels:
                some = ", ".join(template.labels[:20])
                raise _refused(
                    f"{right[:80]!r} is none of the task's labels", f"it knows {some}; a drop brings new ones"
                )
            return {"text": asked.prompt, "label": right}
        return {"prompt": asked.prompt, "completion": right}


def _texts(row: dict[str, object]) -> list[str]:
    messages = row.get("messages", [])
    turns = [str(turn["content"]) for turn in messages] if isinstance(messages, list) else []
    return [*turns, *(str(value) for name, value in row.items() if name != "messages")]


def _refused(message: str, hint: str) -> BadRequest:
    return BadRequest(message, hint=hint, field="correction")

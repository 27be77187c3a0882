"""What there is and what it is doing, gathered from ledger and manager: tasks and versions as messages."""

from collections import Counter
from typing import TYPE_CHECKING

from adapterd.v1 import adapters_pb2

from ..adapters.errors import BadRequest, UnknownAdapter
from ..adapters.refs import CHAMPION, MAX_VERSION, AdapterRef, check_task
from ..adapters.states import VersionState
from . import messages

if TYPE_CHECKING:
    from .core import Core
    from .ledger import VersionRow


def tasks(core: "Core") -> list[adapters_pb2.Task]:
    """Every task, in alphabetical order; versions whose files are gone are not counted."""
    versions: Counter[str] = Counter()
    for (task, state), count in core.ledger.counts("versions", "task", "state").items():
        versions[task] += count if state != VersionState.DELETED.value else 0
    drops = Counter({task: count for (task,), count in core.ledger.counts("drops", "task").items()})
    found = []
    for name in core.ledger.tasks.names():
        aliases = core.ledger.aliases.of(name)
        champion = aliases.get(CHAMPION)
        serving = core.manager.serving_state(name, champion) if champion is not None else None
        canary = core.ledger.canaries.of(name)
        found.append(
            messages.task(name, aliases, versions=versions[name], drops=drops[name], serving=serving, canary=canary)
        )
    return found


def versions(core: "Core", task: str) -> list[adapters_pb2.Version]:
    """The versions of a task, or of all if `task` is empty: by task, newest first."""
    rows = sorted(core.ledger.versions.find(task or None), key=lambda row: (row.task, -row.version))
    aliases = {name: core.ledger.aliases.of(name) for name in {row.task for row in rows}}
    return [messages.version(row, aliases[row.task], core.manager.serving_state(row.task, row.version)) for row in rows]


def version(core: "Core", row: "VersionRow", *, with_manifest: bool = False) -> adapters_pb2.Version:
    """One version; with its manifest, if asked for and its files are there."""
    manifest = None
    if with_manifest and row.state is not VersionState.DELETED:
        manifest = core.store.manifest(row.task, row.version)
    serving = core.manager.serving_state(row.task, row.version)
    return messages.version(row, core.ledger.aliases.of(row.task), serving, manifest)


def resolve(core: "Core", text: str, field: str) -> "VersionRow":
    """The version that `text` means now. Raises `BadRequest` naming `field`, `UnknownAdapter`."""
    try:
        return core.lifecycle.resolve(AdapterRef.parse(text))
    except BadRequest as error:
        raise BadRequest(error.message, hint=error.hint, **{**error.details, "field": field}) from error


def check_known(core: "Core", task: str) -> str:
    """Return `task` if there is such a one, be it only a folder in the inbox. Raises `BadRequest`, `UnknownAdapter`."""
    check_task(task)
    if task not in core.ledger.tasks.names() and not (core.settings.inbox_dir / task).is_dir():
        raise UnknownAdapter(
            f"there is no task {task}",
            hint="`adapterd tasks` lists the tasks there are; a task begins with its first file",
            task=task,
        )
    return task


def check_number(value: int, field: str) -> int:
    """Return `value` if something may be numbered so: an unsigned 64-bit field holds more than the ledger can.

    Raises `BadRequest`.
    """
    if value > MAX_VERSION:
        raise BadRequest(f"{value} is no number of anything here", hint=f"they end at {MAX_VERSION}", field=field)
    return value

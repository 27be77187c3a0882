"""What the commands share: their options and arguments, and the way from these to a daemon."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from adapterd.v1 import adapters_pb2

from ..adapters.errors import BadRequest
from ..adapters.refs import CHAMPION, AdapterRef, check_task
from .address import parse_any
from .client import Client
from .config import Settings, load_settings
from .errors import ConfigError, DaemonError

_SHARED = "Options of every command"
_COMPLETION_PATIENCE_S = 0.5  # a person who pressed Tab waits no longer for names, which are a mere convenience


@dataclass(frozen=True)
class Whereabouts:
    """Which configuration and which daemon a command is about; None where the command line names none."""

    config: Path | None = None
    address: str | None = None

    def settings(self) -> Settings:
        """All settings, the command line's address over them. Raises `ConfigError`."""
        settings = load_settings(self.config)
        return settings.model_copy(update={"address": self.address}) if self.address else settings

    def connect(self) -> Client:
        """A client of the daemon at `--address`, else `$ADAPTERD_ADDRESS`, else where the settings say it listens.

        A configuration that is broken does not keep a daemon of this machine away that is named.
        """
        named = self.address or os.environ.get("ADAPTERD_ADDRESS")
        try:
            settings = load_settings(self.config)
        except ConfigError:
            if not named or parse_any(named).tls:
                raise
            return Client(named)
        return Client(named or settings.bind, settings.client)


def whereabouts(context: typer.Context, config: Path | None, address: str | None) -> Whereabouts:
    """What a command's own `--config` and `--address` say; where they say nothing, those before the command."""
    before = context.find_root().obj
    if not isinstance(before, Whereabouts):
        before = Whereabouts()
    return Whereabouts(config or before.config, address or before.address)


def _complete_task(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the tasks that the daemon knows; none if it cannot be asked at once."""
    given: dict[str, str] = {}
    for level in (context.find_root().params, context.params):
        given |= {name: str(level[name]) for name in ("config", "address") if level.get(name)}
    place = Whereabouts(Path(given["config"]) if "config" in given else None, given.get("address"))
    try:
        with place.connect() as client:
            tasks = client.adapters.ListTasks(adapters_pb2.ListTasksRequest(), timeout=_COMPLETION_PATIENCE_S).tasks
    except DaemonError:  # whatever is printed now would land amid the line that the person is typing
        return []
    return [task.name for task in tasks if task.name.startswith(incomplete)]


def _check_task(name: str | None) -> str | None:
    try:
        return check_task(name) if name is not None else None
    except BadRequest as error:
        raise _misused(error) from error


def _check_adapter(text: str) -> str:
    try:
        return str(AdapterRef.parse(text))
    except BadRequest as error:
        raise _misused(error) from error


def _check_version(text: str) -> str:
    if AdapterRef.parse(_check_adapter(text)).is_base:
        raise typer.BadParameter("the base has no versions; name a task's, as in TASK@7")
    return _check_adapter(text)


def _check_shown(text: str) -> str:
    return text if text.isascii() and text.isdigit() else _check_version(text)


def _check_moving(text: str) -> str:
    if AdapterRef.parse(_check_version(text)).alias == CHAMPION:
        raise typer.BadParameter(f"say which version becomes champion, as in {AdapterRef.parse(text).task}@7")
    return _check_version(text)


def _check_numbered(text: str) -> str:
    if AdapterRef.parse(_check_version(text)).version is None:
        raise typer.BadParameter("name the version by its number, as in TASK@7: an alias may move meanwhile")
    return _check_version(text)


def _misused(error: BadRequest) -> typer.BadParameter:
    return typer.BadParameter(f"{error.message}; {error.hint}" if error.hint else error.message)


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Configuration file.", show_default=False, rich_help_panel=_SHARED),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="Where the daemon listens: unix:/path, 127.0.0.1:port or tls:host:port.",
        show_default=False,
        rich_help_panel=_SHARED,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for scripts.", rich_help_panel=_SHARED)]
Task = Annotated[
    str,
    typer.Argument(
        metavar="TASK", help="A task's name.", callback=_check_task, autocompletion=_complete_task, show_default=False
    ),
]
MaybeTask = Annotated[
    str | None,
    typer.Argument(
        metavar="[TASK]",
        help="This task alone.",
        callback=_check_task,
        autocompletion=_complete_task,
        show_default=False,
    ),
]
Adapter = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        help="Who answers: TASK (its champion), TASK@7, TASK@canary or base.",
        callback=_check_adapter,
        autocompletion=_complete_task,
        show_default=False,
    ),
]
AnyVersion = Annotated[
    str,
    typer.Argument(
        metavar="TASK@VERSION",
        help="TASK@7, TASK@previous, or TASK for its champion.",
        callback=_check_version,
        autocompletion=_complete_task,
        show_default=False,
    ),
]
VersionOrDrop = Annotated[
    str,
    typer.Argument(
        metavar="TASK@VERSION|DROP",
        help="TASK@7, TASK for its champion, or a drop's number.",
        callback=_check_shown,
        autocompletion=_complete_task,
        show_default=False,
    ),
]
MovingVersion = Annotated[
    str,
    typer.Argument(
        metavar="TASK@VERSION",
        help="TASK@8, or TASK@canary.",
        callback=_check_moving,
        autocompletion=_complete_task,
        show_default=False,
    ),
]
NumberedVersion = Annotated[
    str,
    typer.Argument(
        metavar="TASK@VERSION",
        help="The version by its number, as in TASK@3.",
        callback=_check_numbered,
        autocompletion=_complete_task,
        show_default=False,
    ),
]

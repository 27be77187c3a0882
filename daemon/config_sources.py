"""Where each setting's value comes from, and everything that is wrong: what `adapterd config check` prints."""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from ..adapters.errors import BadRequest
from ..adapters.refs import check_task
from .config import Settings, config_path, load_settings, load_task_settings
from .errors import ConfigError

_PREFIX: Final = "ADAPTERD_"
_OTHERS: Final = frozenset(
    {"ADAPTERD_CONFIG", "ADAPTERD_FAILPOINT", "ADAPTERD_BENCH_DATA", "ADAPTERD_TEST_BASES"}
)  # that are no settings


@dataclass(frozen=True)
class Setting:
    """One setting: its dotted `name`, the `value` in force, its `source`, and what config.py says of it."""

    name: str
    value: object
    source: str
    description: str


@dataclass(frozen=True)
class Examined:
    """Every setting; `problems` keep the daemon from starting, or a task from learning, `warnings` do not.

    `loaded` is None where the settings are so wrong that nothing can be started with them.
    """

    file: Path | None
    loaded: Settings | None
    settings: tuple[Setting, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def examine(config: Path | None, address: str | None, environment: Mapping[str, str] | None = None) -> Examined:
    """Every setting as `load_settings` sees it, with all complaints instead of an exception for the first.

    Raises `ConfigError` only if a configuration file that was named does not exist.
    """
    given = os.environ if environment is None else environment
    path = config_path(config)
    values = _read(path)
    problems: list[str] = []
    loaded: Settings | None = None
    try:
        loaded = load_settings(config)
        loaded = loaded.model_copy(update={"address": address}) if address else loaded
        problems = _task_problems(loaded)
    except ConfigError as error:
        problems = [error.message]
    settings = tuple(
        Setting(
            name=".".join(place),
            value=_in_force(loaded, place) if loaded is not None else _raw(place, values, given, default),
            source="--address" if place == ("address",) and address else _source(place, path, values, given),
            description=description,
        )
        for place, default, description in fields(Settings)
    )
    return Examined(path, loaded, settings, tuple(problems), tuple(_strangers(given)))


def fields(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object, str]]:
    """Path, default and description of every setting below `model`, sections walked through."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from fields(kind, (*prefix, name))
        else:
            yield (*prefix, name), field.get_default(call_default_factory=True), field.description or ""


def _read(path: Path | None) -> dict[str, Any]:
    """The file's values; none if it cannot be read, which `load_settings` complains of."""
    try:
        return tomllib.loads(path.read_text("utf-8")) if path else {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}


def _in_force(settings: Settings, place: tuple[str, ...]) -> object:
    if place == ("inbox",):
        return settings.inbox_dir
    if place == ("address",):
        return settings.bind
    value: object = settings
    for name in place:
        value = getattr(value, name)
    return value


def _raw(place: tuple[str, ...], values: Mapping[str, Any], environment: Mapping[str, str], default: object) -> object:
    """What was written, right or wrong."""
    variable, written = _from_environment(place, environment)
    if variable:
        return written
    found = _lookup(place, values)
    return default if found is None else found


def _source(
    place: tuple[str, ...], path: Path | None, values: Mapping[str, Any], environment: Mapping[str, str]
) -> str:
    variable, _ = _from_environment(place, environment)
    if variable:
        return f"${variable}"
    if _lookup(place, values) is not None:
        return str(path)
    if place == ("state",):  # its default is not a constant: config.py's `default_state` asks these
        named = next((name for name in ("STATE_DIRECTORY", "XDG_STATE_HOME") if environment.get(name)), None)
        return f"default, from ${named}" if named else "default"
    return "default"


def _from_environment(place: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, object]:
    """The variable that sets this, and the value in it; a section may come whole, as JSON. `("", None)` if none."""
    spelled = {name.upper(): name for name in environment}  # pydantic-settings minds no case
    exact = spelled.get(_PREFIX + "__".join(place).upper())
    if exact:
        return exact, environment[exact]
    whole = spelled.get(_PREFIX + place[0].upper()) if len(place) > 1 else None
    if whole:
        try:
            found = _lookup(place[1:], json.loads(environment[whole]))
        except ValueError:
            return whole, environment[whole]
        if found is not None:
            return whole, found
    return "", None


def _lookup(place: tuple[str, ...], values: object) -> object:
    for name in place:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


def _task_problems(settings: Settings) -> list[str]:
    """What is wrong with the `task.toml` of each folder in the inbox."""
    inbox = settings.inbox_dir
    problems = []
    # A client's user need not be allowed to look into the inbox.
    for folder in sorted(inbox.iterdir()) if os.access(inbox, os.R_OK | os.X_OK) else ():
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        try:
            check_task(folder.name)
            load_task_settings(settings, folder.name)
        except (BadRequest, ConfigError) as error:
            problems.append(f"{folder}: {error.message}" if isinstance(error, BadRequest) else error.message)
    return problems


def _strangers(environment: Mapping[str, str]) -> Iterator[str]:
    """Variables that look like settings and are none; `load_settings` passes them over."""
    known = {_PREFIX + place[0].upper() for place, _, _ in fields(Settings)}
    for name in sorted(environment):
        top = name.upper().split("__", 1)[0]
        if top.startswith(_PREFIX) and top not in known | _OTHERS:
            yield f"${name} names no setting, so it changes nothing"

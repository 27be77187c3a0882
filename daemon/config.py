"""Settings: read once, checked here, passed on as plain values.

Order, the first that says something wins: command line, environment (`ADAPTERD_STATE`, `ADAPTERD_TRAINING__RANK`),
the configuration file, the defaults below. `adapterd.toml` in the repository is a commented example.
"""

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .errors import ConfigError
from .learning_sections import Audit, Drift, Feedback, Gate, Heldout, Limits, Trainer, Training
from .serving_sections import Access, Canary, Client, Retention, Serving
from .setting_types import STRICT, Interval, Seconds


def default_state() -> Path:
    """`$STATE_DIRECTORY` (systemd's), else `$XDG_STATE_HOME/adapterd`, else `~/.local/state/adapterd`."""
    if systemd := os.environ.get("STATE_DIRECTORY"):
        return Path(systemd.split(":", 1)[0])
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "adapterd"


class Settings(BaseSettings):
    """All settings of the daemon."""

    model_config = SettingsConfigDict(
        env_prefix="ADAPTERD_", env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    state: Path = Field(default_factory=default_state, description="folder of everything that the daemon keeps")
    inbox: Path | None = Field(default=None, description="watched folder; default: `inbox` in the state folder")
    metrics_address: str = Field(
        default="", description="loopback address where Prometheus asks for metrics, `127.0.0.1:9464`; empty: none"
    )
    address: str = Field(
        default="",
        description="gRPC address, `unix:/path` or `127.0.0.1:port`; default: `adapterd.sock` in the state folder",
    )
    base: str = Field(default="smollm2-135m", description="embedded base, local folder or Hugging Face repository id")
    base_revision: str | None = Field(default=None, description="revision of a Hugging Face repository")
    quantization: Literal["nf4", "int8", "none"] = Field(default="nf4", description="how the base's weights are held")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least severe log line")
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: console on a terminal, json elsewhere"
    )
    settle_s: Seconds = Field(default=2.0, description="seconds that a file's size and mtime must stand still")
    rescan_s: Interval = Field(default=10.0, description="seconds between two full scans of the inbox")
    limits: Limits = Limits()
    audit: Audit = Audit()
    drift: Drift = Drift()
    heldout: Heldout = Heldout()
    training: Training = Training()
    trainer: Trainer = Trainer()
    gate: Gate = Gate()
    canary: Canary = Canary()
    feedback: Feedback = Feedback()
    serving: Serving = Serving()
    retention: Retention = Retention()
    access: Access = Access()
    client: Client = Client()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over what `load_settings` read from the file; no dotenv, no secrets folder."""
        return env_settings, init_settings

    @property
    def inbox_dir(self) -> Path:
        """The watched folder."""
        return self.inbox or self.state / "inbox"

    @property
    def bind(self) -> str:
        """The gRPC address to listen at."""
        return self.address or f"unix:{self.state / 'adapterd.sock'}"


class _AsGiven(Settings):
    """Settings without the environment: checks what the command line says, which goes before it."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but what is given."""
        return (init_settings,)


class TaskSettings(BaseModel):
    """`inbox/<task>/task.toml`: what differs for one task. Sections as in the daemon's settings."""

    model_config = STRICT

    limits: Limits = Limits()
    audit: Audit = Audit()
    drift: Drift = Drift()
    heldout: Heldout = Heldout()
    training: Training = Training()
    gate: Gate = Gate()
    canary: Canary = Canary()


def config_path(explicit: Path | None = None) -> Path | None:
    """The configuration file in force: `explicit`, else the first that exists of the standard places.

    Raises `ConfigError` if a file that was asked for is not there.
    """
    named = explicit or (Path(env) if (env := os.environ.get("ADAPTERD_CONFIG")) else None)
    if named is not None:
        if not named.is_file():
            raise ConfigError(f"configuration file {named} does not exist", hint="check --config or $ADAPTERD_CONFIG")
        return named
    xdg = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = [Path("adapterd.toml"), xdg / "adapterd" / "adapterd.toml", Path("/etc/adapterd/adapterd.toml")]
    return next((place for place in places if place.is_file()), None)


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Settings from the file in force, the environment, and `overrides` (the command line) over both.

    Raises `ConfigError` naming the setting, where it came from and what would be right.
    """
    path = config_path(config)
    values = _read_toml(path) if path else {}
    try:
        settings = Settings(**values)
        given = {name: value for name, value in overrides.items() if value is not None}
        return settings.model_copy(update=_AsGiven(**given).model_dump(include=set(given)))
    except ValidationError as error:
        raise ConfigError(
            f"wrong settings in {path or 'the environment'}: {_explain(error)}",
            hint="`adapterd config check` prints every setting with its value; adapterd.toml explains them",
        ) from error


def load_task_settings(settings: Settings, task: str) -> TaskSettings:
    """The daemon's settings with the task's `task.toml` over them. Raises `ConfigError`."""
    path = settings.inbox_dir / task / "task.toml"
    values = _read_toml(path) if path.is_file() else {}
    merged: dict[str, Any] = {name: getattr(settings, name).model_dump() for name in TaskSettings.model_fields}
    for name, section in values.items():
        if name in merged and isinstance(section, dict):
            merged[name].update(section)
        else:
            merged[name] = section
    try:
        return TaskSettings.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(f"wrong settings in {path}: {_explain(error)}", hint="mend or remove the file") from error


def max_file_bytes(settings: Settings, task: str) -> int:
    """How large a file of a task may be; where its `task.toml` is wrong, of which its drops tell, as for all others."""
    try:
        return load_task_settings(settings, task).limits.max_file_bytes
    except ConfigError:
        return settings.limits.max_file_bytes


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint="see adapterd.toml for a commented example") from error


def _explain(error: ValidationError) -> str:
    """Every complaint as `training.rank: Input should be greater than or equal to 1 (given: 0)`."""
    complaints = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "settings"
        said = "no such setting" if item["type"] == "extra_forbidden" else item["msg"]
        complaints.append(f"{where}: {said} (given: {str(item['input'])[:80]!r})")
    return "; ".join(complaints)

"""The bases that lie in the state folder, told by their `source.json`, without loading any."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..adapters.provenance import SOURCE_FILE


@dataclass(frozen=True)
class InstalledBase:
    """A base's folder, its bytes, the name that the configuration gives it, and where it came from.

    Name, licence and origin are empty for a folder without `source.json`.
    """

    folder: Path
    size: int
    name: str
    licence: str
    origin: dict[str, str]


def installed_bases(bases: Path) -> list[InstalledBase]:
    """The bases below `$STATE/bases`, by name of their folder; hidden ones are unfinished or damaged, and none."""
    folders = sorted(bases.iterdir()) if bases.is_dir() else []
    return [_installed(folder) for folder in folders if not folder.name.startswith(".") and _is_base(folder)]


def find_base(bases: Path, name: str, revision: str | None) -> InstalledBase | None:
    """The base that `base` and `base_revision` mean: one of `installed_bases`, or a local folder; None if not there."""
    known = [base for base in installed_bases(bases) if base.name == name]
    fitting = [base for base in known if revision is None or _is_of(base, revision)]
    local = [_installed(Path(name))] if _is_base(Path(name)) else []
    return next(iter([*fitting, *local]), None)


def general_file(state: Path, fingerprint: str) -> Path:
    """Where what was drawn from a base lies in a state folder (see `continual.general`)."""
    return state / "general" / f"{fingerprint}.safetensors"


def weight_bytes(base: InstalledBase) -> int:
    """Bytes of a base's weight files."""
    return sum(path.stat().st_size for path in base.folder.glob("*.safetensors"))


def _is_of(base: InstalledBase, revision: str) -> bool:
    """Whether a base is of a branch, tag or commit: its folder ends in what was asked for when it was fetched."""
    return revision in base.origin.values() or base.folder.name.endswith(f"--{revision}")


def _is_base(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _installed(folder: Path) -> InstalledBase:
    path = folder / SOURCE_FILE
    source: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return InstalledBase(
        folder=folder,
        size=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        name=str(source.get("name", "")),
        licence=str(source.get("licence", "")),
        origin={str(key): str(value) for key, value in source.get("origin", {}).items()},
    )

"""A folder that somebody else made and that is to become a version: looked at from outside, trusted in nothing.

What is taken over is rebuilt: of the config only what the arithmetic needs, of a manifest only where the adapter came
from. Everything else in the folder stays where it is.
"""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from .errors import UnsafeImport
from .peft_files import (
    CONFIG,
    MAX_WEIGHTS_BYTES,
    WEIGHTS,
    check_config,
    parse_weights,
)
from .strict_files import MAX_JSON_BYTES, UnfitError, parse_object, read_regular

MAX_ENTRIES: Final = 64
"""An adapter folder holds some ten files: weights, config, a card, a tokenizer."""

_TEMPLATE: Final = "template.json"
_MANIFEST: Final = "manifest.json"
_PICKLES: Final = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
_MAX_TEXT: Final = 200  # characters of a name or hash that a manifest tells


class Imported(NamedTuple):
    """A foreign adapter that may be published.

    `config` is a new PEFT config of plain LoRA. `template` is that of an adapter that we exported, else empty; it is a
    JSON object and not checked further. `origin` is what a manifest of ours tells, else empty: `task`, `version`,
    `digest` and `base` with `name`, `fingerprint` and `quantization`, each as text or left out.
    """

    weights: Path
    config: dict[str, Any]
    template: dict[str, Any]
    origin: dict[str, Any]


def read_import(folder: Path, shapes: Mapping[str, tuple[int, int]] | None = None) -> Imported:
    """Check that `folder` holds a plain LoRA adapter in safetensors and nothing that could do harm.

    `shapes` gives (in, out) of the base's layers by path; without it the adapter is checked for itself alone.

    Raises:
        UnsafeImport: says which: links, devices, sub-folders, pickles, too many or too large files, no weights, or an
            adapter that is not plain LoRA with finite values, or not for layers like the base's.
    """
    try:
        names = _check_entries(folder)
        config = parse_object(read_regular(folder / CONFIG, MAX_JSON_BYTES), CONFIG)
        weights = parse_weights(read_regular(folder / WEIGHTS, MAX_WEIGHTS_BYTES), config, shapes)
        template = _optional(folder, _TEMPLATE, names)
        origin = _origin(_optional(folder, _MANIFEST, names))
    except UnfitError as failure:
        raise UnsafeImport(
            f"{folder.name} cannot be imported: {failure}",
            hint="export the adapter with PEFT's save_pretrained: plain LoRA on linear layers, in safetensors",
            folder=folder.name,
        ) from failure
    return Imported(folder / WEIGHTS, _plain_config(config, list(weights.layers)), template, origin)


def _check_entries(folder: Path) -> frozenset[str]:
    """The names in the folder, if all are regular files that are no pickles. Nothing is opened."""
    names: list[str] = []
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise UnfitError("it is no folder")
        for path in folder.iterdir():
            names.append(path.name)
            if len(names) > MAX_ENTRIES:
                raise UnfitError(f"it holds more than {MAX_ENTRIES} files")
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise UnfitError(f"{path.name!r} is a link")
            if not stat.S_ISREG(mode):
                raise UnfitError(f"{path.name!r} is no regular file")
            if path.suffix.lower() in _PICKLES:
                raise UnfitError(f"{path.name!r} is pickled, which can run code when it is read")
    except OSError as failure:
        raise UnfitError(f"it cannot be read: {failure.strerror or failure}") from failure
    for name in (CONFIG, WEIGHTS):
        if name not in names:
            raise UnfitError(f"{name} is missing")
    return frozenset(names)


def _optional(folder: Path, name: str, names: frozenset[str]) -> dict[str, Any]:
    return parse_object(read_regular(folder / name, MAX_JSON_BYTES), name) if name in names else {}


def _plain_config(config: Mapping[str, Any], layers: list[str]) -> dict[str, Any]:
    """A config with the same arithmetic and nothing else of the old one.

    The layers are named one by one: the old `target_modules` may be a regular expression, and `auto_mapping` would
    have PEFT import a module by name.
    """
    check_config(config)
    return {
        "base_model_name_or_path": None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": config["lora_alpha"],
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": config["r"],
        "target_modules": sorted(layers),
        "task_type": "CAUSAL_LM",
        "use_rslora": bool(config.get("use_rslora")),
    }


def _origin(manifest: Mapping[str, Any]) -> dict[str, Any]:
    origin: dict[str, Any] = {name: _text(manifest[name]) for name in ("task", "version", "digest") if name in manifest}
    base = manifest.get("base")
    if isinstance(base, dict):
        origin["base"] = {name: _text(base[name]) for name in ("name", "fingerprint", "quantization") if name in base}
    return origin


def _text(value: object) -> str:
    return str(value)[:_MAX_TEXT] if isinstance(value, str | int) else ""

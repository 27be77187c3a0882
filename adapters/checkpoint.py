"""A base as files: what must lie in its folder, and the fingerprint that adapters are bound to."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from .errors import BadRequest, BaseUnavailable
from .provenance import sha256_of

QUANTIZATIONS: Final = ("nf4", "int8", "none")
"""NF4 with double quantization (Dettmers et al., arXiv 2305.14314), LLM.int8() (arXiv 2208.07339), or as stored."""

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
_TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model")
_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")

#: What a library writes into a config without meaning the model by it. Names that begin with _ are left out too.
_VOLATILE: Final = frozenset({"transformers_version", "dtype", "torch_dtype"})


def check_folder(folder: Path) -> None:
    """Check that `folder` holds a base: config, all safetensors weights, a tokenizer. No weight is read.

    Raises:
        BaseUnavailable: says which file is missing or not what it should be.
    """
    config = _read_json(folder / CONFIG)
    if (folder / "adapter_config.json").exists():
        raise BaseUnavailable(
            f"{folder} holds an adapter, not a base",
            hint="name the model that the adapter was trained on",
            folder=str(folder),
        )
    if "quantization_config" in config:
        raise BaseUnavailable(
            f"the weights in {folder} are quantized already",
            hint="take the plain weights of the model; `quantization` quantizes them when they are loaded",
            folder=str(folder),
        )
    weight_files(folder)
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise BaseUnavailable(
            f"{folder} holds no tokenizer",
            hint=f"one of {', '.join(_TOKENIZERS)} belongs beside the weights",
            folder=str(folder),
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a base in order of their names: `model.safetensors`, or the shards that the index lists.

    Raises:
        BaseUnavailable: there are none, or a shard is missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        pickled = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        raise BaseUnavailable(
            f"{folder} holds no {WEIGHTS}" + (f", only {pickled[0]}, which is pickled" if pickled else ""),
            hint="pickled weights are never read: save the model anew with `save_pretrained`, which writes safetensors",
            folder=str(folder),
        )
    weight_map = _read_json(folder / INDEX).get("weight_map")
    shards = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not shards or not all(isinstance(shard, str) and shard and Path(shard).name == shard for shard in shards):
        raise BaseUnavailable(
            f"{folder / INDEX} names no shards beside it", hint="obtain the base again", folder=str(folder)
        )
    names = sorted(set(shards))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BaseUnavailable(
            f"{folder} lacks the shard {missing[0]}", hint="obtain the base again", folder=str(folder)
        )
    return [folder / name for name in names]


def fingerprint(folder: Path, quantization: str) -> str:
    """What an adapter is bound to, in hex: sha256 over the weights' bytes, the config's meaning and the quantization.

    It is the same on every machine and for every compute precision. Weights are hashed again only when they changed.

    Raises:
        BaseUnavailable: a file is missing or cannot be read.
        BadRequest: there is no such quantization.
    """
    _check_quantization(quantization)
    files = weight_files(folder)
    try:
        weights = [sha256_of(path) for path in files]
    except OSError as failure:
        raise BaseUnavailable(
            f"the weights in {folder} cannot be read: {failure}",
            hint="check the disk and the rights",
            folder=str(folder),
        ) from failure
    content = {"config": _meaning(_read_json(folder / CONFIG)), "quantization": quantization, "weights": weights}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _check_quantization(name: str) -> None:
    if name not in QUANTIZATIONS:
        raise BadRequest(
            f"{name!r} is not a quantization", hint=f"it is one of {', '.join(QUANTIZATIONS)}", field="quantization"
        )


def _meaning(config: Any) -> Any:
    """The config without what differs from one writing to the next, at every depth."""
    if isinstance(config, dict):
        return {k: _meaning(v) for k, v in config.items() if k not in _VOLATILE and not k.startswith("_")}
    return [_meaning(value) for value in config] if isinstance(config, list) else config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as failure:
        raise BaseUnavailable(
            f"{path} cannot be read: {failure}",
            hint=f"a base is a transformers folder with {CONFIG}, safetensors weights and a tokenizer",
            folder=str(path.parent),
        ) from failure
    if not isinstance(value, dict):
        raise BaseUnavailable(f"{path} holds no JSON object", hint="obtain the base again", folder=str(path.parent))
    return value

"""The files of a base, and what tells one base from another."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from adapterd.adapters.checkpoint import check_folder, fingerprint, weight_files
from adapterd.adapters.errors import BadRequest, BaseUnavailable
from safetensors.torch import load_file, save_file

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def base(tiny_base_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_base_folder, tmp_path / "base")


def _change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), "utf-8")


def _shard(folder: Path) -> list[str]:
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    weight_map = {name: file for file, part in shards.items() for name in part}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), "utf-8")
    (folder / WEIGHTS).unlink()
    return sorted(shards)


def test_a_fingerprint_is_told_apart_by_quantization(base: Path) -> None:
    fingerprints = {name: fingerprint(base, name) for name in ("nf4", "int8", "none")}
    assert len(set(fingerprints.values())) == 3
    assert all(len(each) == 64 for each in fingerprints.values())
    assert {name: fingerprint(base, name) for name in fingerprints} == fingerprints
    with pytest.raises(BadRequest):
        fingerprint(base, "fp4")


def test_a_fingerprint_is_the_same_at_another_place(base: Path, tiny_base_folder: Path) -> None:
    assert fingerprint(base, "nf4") == fingerprint(tiny_base_folder, "nf4")
    # pinned: every adapter in the field is bound to its base by it
    assert fingerprint(base, "nf4") == "c4aedb71280966de2a6634e6d4906fd6bda86b9061805610968950a2b3ef3e45"


def test_what_a_library_notes_in_a_config_does_not_count(base: Path) -> None:
    before = fingerprint(base, "none")
    _change_config(base, transformers_version="9.9", _name_or_path="/x", torch_dtype="float16", dtype="float32")
    (base / "README.md").write_text("a card", "utf-8")
    assert fingerprint(base, "none") == before


@pytest.mark.parametrize(
    "change", [{"rms_norm_eps": 1e-6}, {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}]
)
def test_what_changes_the_model_changes_the_fingerprint(base: Path, change: dict[str, Any]) -> None:
    before = fingerprint(base, "none")
    _change_config(base, **change)
    assert fingerprint(base, "none") != before


def test_one_bit_of_the_weights_changes_the_fingerprint(base: Path) -> None:
    before = fingerprint(base, "none")
    data = bytearray((base / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (base / WEIGHTS).write_bytes(data)
    assert fingerprint(base, "none") != before


def test_shards_are_taken_in_order_of_their_names(base: Path) -> None:
    shards = _shard(base)
    assert [path.name for path in weight_files(base)] == shards
    check_folder(base)
    before = fingerprint(base, "none")
    (base / "consolidated.safetensors").write_bytes(b"another form of the same weights")
    assert fingerprint(base, "none") == before


def test_a_missing_shard_is_named(base: Path) -> None:
    (base / _shard(base)[1]).unlink()
    with pytest.raises(BaseUnavailable, match="lacks the shard model-00002-of-00002"):
        check_folder(base)


@pytest.mark.parametrize("shard", ["../../etc/passwd", "/etc/passwd", 7, ["x"], ""])
def test_an_index_that_points_elsewhere_is_refused(base: Path, shard: object) -> None:
    (base / WEIGHTS).unlink()
    (base / INDEX).write_text(json.dumps({"weight_map": {"a": shard}}), "utf-8")
    with pytest.raises(BaseUnavailable, match="names no shards beside it"):
        check_folder(base)


def test_pickled_weights_alone_are_refused(base: Path) -> None:
    (base / WEIGHTS).unlink()
    torch.save({}, base / "pytorch_model.bin")
    with pytest.raises(BaseUnavailable, match=r"only pytorch_model\.bin, which is pickled") as caught:
        check_folder(base)
    assert "save_pretrained" in caught.value.hint


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ("config.json", "config.json cannot be read"),
        (WEIGHTS, "holds no model.safetensors"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_a_folder_that_is_no_base_says_what_is_missing(base: Path, missing: str, why: str) -> None:
    (base / missing).unlink()
    with pytest.raises(BaseUnavailable, match=why) as caught:
        check_folder(base)
    assert caught.value.hint


@pytest.mark.parametrize("config", ["{", "[]", "[" * 100_000])
def test_a_broken_config_is_refused(base: Path, config: str) -> None:
    (base / "config.json").write_text(config, "utf-8")
    with pytest.raises(BaseUnavailable, match=r"config\.json"):
        check_folder(base)


def test_an_adapter_is_no_base(base: Path) -> None:
    """transformers would put it on top of the base without a word."""
    (base / "adapter_config.json").write_text("{}", "utf-8")
    with pytest.raises(BaseUnavailable, match="an adapter, not a base"):
        check_folder(base)


def test_weights_that_are_quantized_already_are_refused(base: Path) -> None:
    _change_config(base, quantization_config={"quant_method": "gptq"})
    with pytest.raises(BaseUnavailable, match="quantized already"):
        check_folder(base)

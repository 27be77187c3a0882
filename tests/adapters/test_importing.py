"""A folder from somebody else."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from adapterd.adapters.base import Base
from adapterd.adapters.errors import UnsafeImport
from adapterd.adapters.importing import MAX_ENTRIES, read_import
from adapterd.adapters.peft_files import check_config
from adapterd.adapters.store import CONFIG, WEIGHTS, Store
from peft import PeftModel

from .adapter_folder import SHAPES, lora_tensors, safetensors_file, write_adapter

IDS = torch.tensor([[1, 87, 85, 71, 84, 201, 40, 41]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "theirs")


def test_a_plain_peft_folder_is_taken(folder: Path) -> None:
    (folder / "README.md").write_text("a card", "utf-8")
    imported = read_import(folder)
    assert imported.weights == folder / WEIGHTS
    assert check_config(imported.config) == (4, 2.0)
    assert (imported.template, imported.origin) == ({}, {})


def test_what_is_taken_computes_what_it_computed(folder: Path, tmp_path: Path, tiny_base: Base) -> None:
    imported = read_import(folder)
    store = Store(tmp_path / "store")
    store.publish("t", 1, weights=imported.weights, config=imported.config, template={}, manifest={}, fisher=None)
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(tiny_base.model, str(folder)).eval()
        expected = theirs(IDS).logits
        theirs.unload()
        ours = PeftModel.from_pretrained(tiny_base.model, str(store.folder("t", 1))).eval()
        assert torch.equal(ours(IDS).logits, expected)


def test_nothing_of_the_config_is_kept_but_the_arithmetic(tmp_path: Path) -> None:
    hostile: dict[str, Any] = {
        "target_modules": "(a+)+$",
        "auto_mapping": {"base_model_class": "X", "parent_library": "evil"},
        "base_model_name_or_path": "https://example.invalid/model",
        "revision": "x" * 10_000,
        "lora_dropout": "0; rm",
    }
    config = read_import(write_adapter(tmp_path / "theirs", **hostile)).config
    assert config["target_modules"] == sorted(SHAPES)
    assert "evil" not in json.dumps(config)
    assert "example" not in json.dumps(config)
    assert config["lora_dropout"] == 0.0


def test_an_export_of_ours_tells_where_it_came_from(folder: Path) -> None:
    template = {"format": 1, "serve": "label"}
    (folder / "template.json").write_text(json.dumps(template), "utf-8")
    manifest = {
        "task": "tickets",
        "version": 7,
        "digest": "d" * 64,
        "base": {"name": "b", "fingerprint": "f" * 64, "quantization": "nf4", "extra": [1]},
        "metrics": {"loss": 1},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    imported = read_import(folder)
    assert imported.template == template
    assert imported.origin == {
        "task": "tickets",
        "version": "7",
        "digest": "d" * 64,
        "base": {"name": "b", "fingerprint": "f" * 64, "quantization": "nf4"},
    }


@pytest.mark.parametrize(
    "manifest", [{"base": 7}, {"base": {"fingerprint": {"a": 1}}}, {"task": ["x"], "digest": None}]
)
def test_a_manifest_of_any_shape_gives_texts_or_nothing(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    origin = read_import(folder).origin
    assert all(isinstance(value, str) for name, value in origin.items() if name != "base")
    assert all(isinstance(value, str) for value in origin.get("base", {}).values())


@pytest.mark.parametrize("name", ["adapter_model.bin", "training_args.bin", "x.PKL", "optimizer.pt", "m.pth", "a.ckpt"])
def test_a_pickle_is_refused_even_beside_safetensors(folder: Path, name: str) -> None:
    (folder / name).touch()
    with pytest.raises(UnsafeImport, match="is pickled"):
        read_import(folder)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, "README.md", "template.json"])
def test_a_link_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    with pytest.raises(UnsafeImport, match="is a link"):
        read_import(folder)


def test_a_pipe_or_a_folder_inside_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(UnsafeImport, match="'pipe' is no regular file"):
        read_import(folder)
    (folder / "pipe").unlink()
    (folder / "checkpoint-100").mkdir()
    with pytest.raises(UnsafeImport, match="'checkpoint-100' is no regular file"):
        read_import(folder)


def test_a_link_to_a_folder_and_a_file_are_no_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    for path in (tmp_path / "link", folder / WEIGHTS):
        with pytest.raises(UnsafeImport, match="it is no folder"):
            read_import(path)
    with pytest.raises(UnsafeImport, match="cannot be read"):
        read_import(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_folder_without_weights_or_config_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UnsafeImport, match=f"{name} is missing"):
        read_import(folder)


def test_too_many_and_too_large_files_are_refused(folder: Path) -> None:
    (folder / CONFIG).write_bytes(b'{"x": "' + b"a" * (5 << 20) + b'"}')
    with pytest.raises(UnsafeImport, match="more than"):
        read_import(folder)
    for number in range(MAX_ENTRIES):
        (folder / f"{number}.txt").touch()
    with pytest.raises(UnsafeImport, match=f"more than {MAX_ENTRIES} files"):
        read_import(folder)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (b'{"peft_type": "LORA", "r": 4, "lora_alpha": NaN}', "no finite number"),
        (b"[" * 200_000, "no JSON"),
        (b'{"r": 1, "r": 2}', "key twice"),
        (b'{"peft_type": "PREFIX_TUNING"}', "only LORA"),
        (b"\xff", "no JSON"),
    ],
)
def test_a_config_that_is_no_plain_lora_is_refused(folder: Path, config: bytes, why: str) -> None:
    (folder / CONFIG).write_bytes(config)
    with pytest.raises(UnsafeImport, match=why):
        read_import(folder)


@pytest.mark.parametrize("name", ["template.json", "manifest.json"])
def test_a_broken_file_of_ours_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b'{"a": 1e999}')
    with pytest.raises(UnsafeImport, match=name):
        read_import(folder)


def test_weights_that_lie_or_are_not_finite_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).write_bytes(
        safetensors_file({"evil": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}})
    )
    with pytest.raises(UnsafeImport, match="evil"):
        read_import(folder)
    tensors = lora_tensors()
    next(iter(tensors.values()))[0, 0] = float("inf")
    with pytest.raises(UnsafeImport, match="not finite") as caught:
        read_import(write_adapter(tmp_path / "inf", tensors))
    assert caught.value.hint


def test_an_adapter_for_other_layers_than_the_bases_is_refused(folder: Path) -> None:
    assert read_import(folder, SHAPES).weights
    with pytest.raises(UnsafeImport, match="cannot be imported"):
        read_import(folder, {path: (inner + 1, outer) for path, (inner, outer) in SHAPES.items()})
    with pytest.raises(UnsafeImport, match="cannot be imported"):
        read_import(folder, {path: shape for path, shape in SHAPES.items() if "q_proj" not in path})

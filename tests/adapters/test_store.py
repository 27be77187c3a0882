"""Versions on disk: whole, unchanged, and the same to PEFT as to us."""

import json
import random
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from adapterd.adapters.base import Base, load_base
from adapterd.adapters.durable import TEMP_PREFIX
from adapterd.adapters.errors import BadRequest, CorruptVersion, IllegalTransition
from adapterd.adapters.peft_files import digest_of
from adapterd.adapters.store import CONFIG, FISHER, MANIFEST, TEMPLATE, WEIGHTS, Store
from peft import PeftModel
from safetensors.torch import load_file, save_file

from .adapter_folder import ALPHA, RANK, SHAPES, lora_config, lora_tensors, write_adapter

TEMPLATE_JSON = {"format": 1, "serve": "label", "labels": ["gut", "schlecht 日本"], "chat_template": True}
MANIFEST_JSON = {"task": "tickets", "base": {"fingerprint": "f" * 64}, "metrics": {"loss": 0.5}}
IDS = torch.tensor([[1, 87, 85, 71, 84, 201, 40, 41]])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "adapters")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """An adapter as a training leaves it."""
    folder = write_adapter(tmp_path / "made")
    save_file({"n": torch.ones(3)}, folder / FISHER)
    return folder


def _publish(store: Store, made: Path, version: int = 7, **changes: Any) -> str:
    arguments: dict[str, Any] = {
        "weights": made / WEIGHTS,
        "config": json.loads((made / CONFIG).read_text("utf-8")),
        "template": TEMPLATE_JSON,
        "manifest": MANIFEST_JSON,
        "fisher": made / FISHER,
    }
    return store.publish("tickets", version, **{**arguments, **changes})


def _read(store: Store, digest: str) -> None:
    """All that serving reads of a version."""
    store.load("tickets", 7, digest=digest, shapes=SHAPES)
    store.template("tickets", 7)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_published_is_loaded_back(store: Store, made: Path) -> None:
    digest = _publish(store, made)
    adapter = store.load("tickets", 7, digest=digest, shapes=SHAPES)
    assert (adapter.rank, adapter.scaling) == (RANK, ALPHA / RANK)
    for path, (a, b) in adapter.layers.items():
        assert torch.equal(a, lora_tensors()[f"base_model.model.{path}.lora_A.weight"])
        assert torch.equal(b, lora_tensors()[f"base_model.model.{path}.lora_B.weight"])
    assert store.template("tickets", 7) == TEMPLATE_JSON
    manifest = store.manifest("tickets", 7)
    assert manifest.items() >= {**MANIFEST_JSON, "format": 1, "digest": digest}.items()
    assert set(manifest["files"]) == {WEIGHTS, CONFIG, TEMPLATE, FISHER}


def test_a_version_has_a_folder_of_its_own_that_others_cannot_read(store: Store, made: Path, tmp_path: Path) -> None:
    _publish(store, made)
    folder = store.folder("tickets", 7)
    assert folder == tmp_path / "state" / "adapters" / "tickets" / "000007"
    assert set(_contents(folder)) == {WEIGHTS, CONFIG, TEMPLATE, FISHER, MANIFEST}
    for path in (folder, *folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0, path
    assert [path.name for path in folder.parent.iterdir()] == ["000007"]


def test_a_published_folder_loads_in_plain_peft_and_adds_scaling_b_a(
    store: Store, made: Path, tiny_base: Base, tiny_base_folder: Path
) -> None:
    digest = _publish(store, made)
    by_hand = load_base(tiny_base_folder, quantization="none", device="cpu").model
    adapter = store.load("tickets", 7, digest=digest, shapes=SHAPES)
    with torch.no_grad():
        base_logits = by_hand(IDS).logits
        for path, (a, b) in adapter.layers.items():
            by_hand.get_submodule(path).weight += adapter.scaling * b @ a  # type: ignore[operator]
        expected = by_hand(IDS).logits
        got = PeftModel.from_pretrained(tiny_base.model, str(store.folder("tickets", 7)))(IDS).logits
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert (got - base_logits).abs().max() > 0.1


def test_every_flipped_byte_is_refused(store: Store, made: Path) -> None:
    """safetensors itself loads nearly all of them."""
    digest = _publish(store, made)
    path = store.folder("tickets", 7) / WEIGHTS
    whole = path.read_bytes()
    dice = random.Random(5)
    for _ in range(200):
        place, bit = dice.randrange(len(whole)), 1 << dice.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        with pytest.raises(CorruptVersion, match="tickets@7 cannot be served"):
            store.load("tickets", 7, digest=digest, shapes=SHAPES)
    path.write_bytes(whole)
    store.load("tickets", 7, digest=digest, shapes=SHAPES)


@pytest.mark.parametrize("name", [TEMPLATE, MANIFEST, CONFIG, WEIGHTS])
@pytest.mark.parametrize("damage", ["cut", "gone", "empty", "link", "other"])
def test_a_damaged_file_is_an_error_and_never_served(
    store: Store, made: Path, tmp_path: Path, name: str, damage: str
) -> None:
    digest = _publish(store, made)
    path = store.folder("tickets", 7) / name
    whole = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        path.touch()
    elif damage == "link":
        (tmp_path / "elsewhere").write_bytes(whole)
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "other":
        path.write_bytes(b'{"peft_type": "LORA"}')
    with pytest.raises(CorruptVersion) as caught:
        _read(store, digest)
    assert str(store.folder("tickets", 7)) in caught.value.hint
    assert caught.value.details == {"task": "tickets", "version": "7"}


def test_a_config_that_was_changed_is_refused(store: Store, made: Path) -> None:
    digest = _publish(store, made)
    path = store.folder("tickets", 7) / CONFIG
    path.write_text(path.read_text("utf-8").replace(f'"lora_alpha": {ALPHA}', '"lora_alpha": 64'), "utf-8")
    with pytest.raises(CorruptVersion, match="digest"):
        store.load("tickets", 7, digest=digest, shapes=SHAPES)


def test_the_digest_asked_for_decides_and_not_the_one_in_the_folder(store: Store, made: Path) -> None:
    _publish(store, made)
    with pytest.raises(CorruptVersion, match="000000000000… was published"):
        store.load("tickets", 7, digest="0" * 64, shapes=SHAPES)


def test_a_version_of_another_base_is_refused(store: Store, made: Path) -> None:
    digest = _publish(store, made)
    wider = {path: (inner * 2, outer) for path, (inner, outer) in SHAPES.items()}
    with pytest.raises(CorruptVersion, match="_proj: A is"):
        store.load("tickets", 7, digest=digest, shapes=wider)
    store.load("tickets", 7, digest=digest, shapes=None)


def test_a_version_that_is_not_there_is_an_error(store: Store) -> None:
    for read in (store.manifest, store.template):
        with pytest.raises(CorruptVersion, match="cannot be read"):
            read("tickets", 1)
    with pytest.raises(CorruptVersion):
        store.load("tickets", 1, digest="0" * 64, shapes=None)


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"r": 8}])
def test_what_could_not_be_served_is_not_published(store: Store, made: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(CorruptVersion, match="tickets@7 cannot be published"):
        _publish(store, made, config=lora_config(**changes))
    assert not store.folder("tickets", 7).exists()


def test_weights_that_are_not_finite_are_not_published(store: Store, made: Path) -> None:
    tensors = load_file(made / WEIGHTS)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, made / WEIGHTS)
    with pytest.raises(CorruptVersion, match="not finite"):
        _publish(store, made)


def test_values_are_looked_at_when_a_version_is_loaded_whatever_its_digest(store: Store, made: Path) -> None:
    _publish(store, made)
    folder = store.folder("tickets", 7)
    tensors = load_file(folder / WEIGHTS)
    next(iter(tensors.values()))[0, 0] = float("nan")
    (folder / WEIGHTS).unlink()
    save_file(tensors, folder / WEIGHTS)
    digest = digest_of((folder / WEIGHTS).read_bytes(), json.loads((folder / CONFIG).read_text("utf-8")))
    with pytest.raises(CorruptVersion, match="not finite"):
        store.load("tickets", 7, digest=digest, shapes=SHAPES)


def test_publishing_the_same_again_changes_nothing(store: Store, made: Path) -> None:
    digest = _publish(store, made)
    before = _contents(store.folder("tickets", 7))
    assert _publish(store, made, manifest={**MANIFEST_JSON, "created": 2.0}) == digest
    assert _contents(store.folder("tickets", 7)) == before


def test_a_published_version_never_changes(store: Store, made: Path, tmp_path: Path) -> None:
    _publish(store, made)
    before = _contents(store.folder("tickets", 7))
    other = write_adapter(tmp_path / "other", lora_tensors(seed=1))
    with pytest.raises(IllegalTransition, match="tickets@7 is published with digest"):
        _publish(store, other, fisher=None)
    assert _contents(store.folder("tickets", 7)) == before
    assert _publish(store, other, version=8, fisher=None) == store.manifest("tickets", 8)["digest"]


def test_a_publish_that_fails_leaves_nothing_behind(store: Store, made: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _publish(store, made, fisher=made / "missing.safetensors")
    with pytest.raises(ValueError, match="JSON"):
        _publish(store, made, template={"labels": [float("nan")]})
    (made.parent / "root").touch()
    with pytest.raises(OSError, match="root"):
        _publish(Store(made.parent / "root"), made)  # a file where the store's folder should be
    assert list(made.parent.glob(f"**/{TEMP_PREFIX}*")) == []
    assert not store.folder("tickets", 7).exists()


def test_deleting_takes_the_whole_folder_and_may_be_repeated(store: Store, made: Path) -> None:
    _publish(store, made)
    _publish(store, made, version=8)
    assert store.delete("tickets", 7) is True
    assert [path.name for path in store.folder("tickets", 7).parent.iterdir()] == ["000008"]
    assert store.delete("tickets", 7) is False


def test_sweep_removes_what_was_left_unfinished_and_nothing_else(store: Store, made: Path) -> None:
    _publish(store, made)
    task = store.folder("tickets", 7).parent
    before = _contents(task)
    for leftover in (task / f"{TEMP_PREFIX}000008-ab", task.parent / f"{TEMP_PREFIX}x"):
        leftover.mkdir()
        (leftover / WEIGHTS).touch()
    (task / f"{TEMP_PREFIX}link").symlink_to(made)
    assert len(store.sweep()) == 3
    assert _contents(task) == before
    assert (made / WEIGHTS).exists()
    assert store.sweep() == []


def test_sweeping_a_store_that_is_not_there_yet_is_fine(store: Store) -> None:
    assert store.sweep() == []


@pytest.mark.parametrize("empty", [True, False])
def test_an_export_is_a_copy_that_loads_in_peft(
    store: Store, made: Path, tmp_path: Path, tiny_base: Base, empty: bool
) -> None:
    _publish(store, made)
    target = tmp_path / "out" / "tickets-7"
    if empty:
        target.mkdir(parents=True)
    store.export("tickets", 7, target)
    ours = _contents(store.folder("tickets", 7))
    assert {name: data for name, data in _contents(target).items() if name != MANIFEST} == {
        name: data for name, data in ours.items() if name != MANIFEST
    }
    assert json.loads((target / MANIFEST).read_bytes()) == store.manifest("tickets", 7)
    PeftModel.from_pretrained(tiny_base.model, str(target))
    assert [path.name for path in target.parent.iterdir()] == ["tickets-7"]


def test_an_export_never_writes_over_anything(store: Store, made: Path, tmp_path: Path) -> None:
    _publish(store, made)
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for target in (made, tmp_path / "file", tmp_path / "dangling"):
        with pytest.raises(BadRequest, match="exists already") as caught:
            store.export("tickets", 7, target)
        assert caught.value.details["field"] == "target"
    assert (made / WEIGHTS).exists()


def test_a_corrupt_version_is_not_exported(store: Store, made: Path, tmp_path: Path) -> None:
    _publish(store, made)
    path = store.folder("tickets", 7) / FISHER
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(CorruptVersion, match=FISHER):
        store.export("tickets", 7, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("task", "version"), [("../x", 1), ("base", 1), ("tickets", 0), ("tickets", -1)])
def test_a_folder_is_never_outside_the_store(store: Store, task: str, version: int) -> None:
    with pytest.raises(BadRequest):
        store.folder(task, version)

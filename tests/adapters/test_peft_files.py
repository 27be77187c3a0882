"""What is taken for an adapter, and what is not."""

import math
from typing import Any

import pytest
import torch
from adapterd.adapters.peft_files import check_config, digest_of, parse_weights
from adapterd.adapters.strict_files import UnfitError
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from safetensors.torch import save
from torch import Tensor

from .adapter_folder import SHAPES, lora_config, lora_tensors, safetensors_file

A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"


def _parse(tensors: dict[str, Tensor], **config: Any) -> None:
    parse_weights(save(tensors), lora_config(**config), SHAPES)


def test_weights_are_keyed_by_the_bases_layers_and_scaled_by_alpha_over_rank() -> None:
    tensors = lora_tensors()
    adapter = parse_weights(save(tensors), lora_config(), SHAPES)
    assert (adapter.rank, adapter.scaling) == (4, 2.0)
    assert set(adapter.layers) == set(SHAPES)
    a, b = adapter.layers["model.layers.0.self_attn.q_proj"]
    assert torch.equal(a, tensors[A])
    assert torch.equal(b, tensors[B])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_keep_the_precision_they_are_stored_in(dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in lora_tensors().items()}
    adapter = parse_weights(save(tensors), lora_config(), SHAPES)
    assert all(a.dtype == b.dtype == dtype for a, b in adapter.layers.values())


def test_rank_stabilized_scaling_divides_by_the_root() -> None:
    assert check_config(lora_config(r=16, use_rslora=True)) == (16, 8 / math.sqrt(16))


def test_what_peft_writes_by_default_is_plain() -> None:
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj"], task_type="CAUSAL_LM").to_dict()  # type: ignore[no-untyped-call]
    assert check_config({**config, "peft_type": "LORA", "target_modules": ["q_proj"]}) == (8, 2.0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"peft_type": None}, "None"),
        ({"bias": "all"}, "biases"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"something_new": {"strength": 2}}, "something_new"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"r": 0}, "r is no integer"),
        ({"r": True}, "r is no integer"),
        ({"r": 4.0}, "r is no integer"),
        ({"r": 10**30}, "r is no integer"),
        ({"lora_alpha": 0}, "lora_alpha"),
        ({"lora_alpha": 10**400}, "lora_alpha"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"use_rslora": "yes"}, "use_rslora"),
    ],
)
def test_anything_but_plain_lora_is_refused_by_name(change: dict[str, Any], why: str) -> None:
    with pytest.raises(UnfitError, match=why):
        check_config(lora_config(**change))


@pytest.mark.parametrize("missing", [A, B])
def test_half_a_pair_is_refused(missing: str) -> None:
    tensors = lora_tensors()
    del tensors[missing]
    with pytest.raises(UnfitError, match=r"layers\.0\.self_attn\.q_proj has lora_. alone"):
        _parse(tensors)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [A, B])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_value_that_is_not_finite_is_refused(name: str, value: float, dtype: torch.dtype) -> None:
    tensors = {key: tensor.to(dtype) for key, tensor in lora_tensors().items()}
    tensors[name][1, 2] = value
    with pytest.raises(UnfitError, match="q_proj holds values that are not finite"):
        _parse(tensors)


@pytest.mark.parametrize(("name", "shape"), [(A, (4, 32)), (A, (3, 64)), (B, (32, 4)), (B, (64, 3)), (B, (4, 64))])
def test_shapes_must_fit_the_rank_and_the_base(name: str, shape: tuple[int, int]) -> None:
    with pytest.raises(UnfitError, match="q_proj: A is"):
        _parse({**lora_tensors(), name: torch.zeros(shape)})


def test_without_a_base_an_adapter_is_checked_for_itself() -> None:
    tensors = {A: torch.zeros(4, 999), B: torch.zeros(7, 4)}
    assert parse_weights(save(tensors), lora_config()).layers["model.layers.0.self_attn.q_proj"][0].shape == (4, 999)
    with pytest.raises(UnfitError, match="q_proj: A is"):
        parse_weights(save(tensors), lora_config(), SHAPES)


def test_a_layer_that_the_base_lacks_is_refused() -> None:
    tensors = {
        key.replace("layers.0", "layers.7"): tensor for key, tensor in lora_tensors().items() if "layers.0" in key
    }
    with pytest.raises(UnfitError, match=r"model\.layers\.7\.\S+, which is no linear layer of this base"):
        _parse(tensors)


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.lm_head.weight",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        A.replace("lora_A.weight", "lora_magnitude_vector"),
        A.replace("lora_A.weight", "lora_B.bias"),
        A.replace("base_model.model.", ""),
        A.replace("q_proj", "q proj"),
        A.replace("self_attn", ""),
        "",
    ],
)
def test_a_tensor_that_is_no_lora_factor_is_refused(name: str) -> None:
    with pytest.raises(UnfitError, match="which is no lora_A or lora_B"):
        _parse({**lora_tensors(), name: torch.zeros(4, 64)})


def test_no_tensor_at_all_is_no_adapter() -> None:
    with pytest.raises(UnfitError, match="holds no tensor"):
        _parse({})


ENTRY = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no header"),
        (b"\x10\0\0\0\0\0\0\0{}", "no header"),  # a header longer than the file
        ((1 << 60).to_bytes(8, "little") + b"{}", "no header"),
        (b"\x80\x04\x95pickle", "no header"),
        (safetensors_file(b"{not json}"), "no JSON"),
        (safetensors_file(b'{"a": {}, "a": {}}'), "key twice"),
        (safetensors_file(b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), "no JSON"),
        (safetensors_file([]), "no JSON object"),
        (safetensors_file({A: 7}), "not of type"),
        (safetensors_file({A: {**ENTRY, "dtype": "I64"}}), "not of type"),
        (safetensors_file({A: {**ENTRY, "dtype": ["F32"]}}), "not of type"),
        (safetensors_file({A: {**ENTRY, "shape": [8]}}), "no matrix"),
        (safetensors_file({A: {**ENTRY, "shape": [0, 2]}}), "no matrix"),
        (safetensors_file({A: {**ENTRY, "shape": [-1, -2]}}), "no matrix"),
        (safetensors_file({A: {**ENTRY, "shape": [True, 2]}}), "no matrix"),
        (safetensors_file({A: {**ENTRY, "data_offsets": [8, 0]}}), "another space"),
        (safetensors_file({A: {**ENTRY, "shape": [10**9, 10**9]}}), "another space"),
        (safetensors_file({A: ENTRY, B: ENTRY}, bytes(8)), "overlap"),
        (safetensors_file({A: {**ENTRY, "data_offsets": [8, 16]}}, bytes(16)), "overlap or leave gaps"),
        (safetensors_file({A: ENTRY}, bytes(7)), "truncated"),
        (safetensors_file({A: ENTRY}, bytes(9)), "something behind"),
    ],
)
def test_a_header_that_lies_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(UnfitError, match=why):
        parse_weights(data, lora_config(r=1))


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_unfit_and_nothing_worse(data: bytes, framed: bool) -> None:
    with pytest.raises(UnfitError):
        parse_weights(len(data).to_bytes(8, "little") + data if framed else data, lora_config())


def test_the_digest_is_of_meaning_for_the_config_and_of_bytes_for_the_weights() -> None:
    config = lora_config()
    digest = digest_of(b"weights", config)
    assert digest_of(b"weights", dict(reversed(config.items()))) == digest
    assert digest_of(b"weightt", config) != digest
    assert digest_of(b"weights", {**config, "lora_alpha": 9}) != digest
    assert len(digest) == 64

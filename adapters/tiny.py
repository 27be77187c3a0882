"""A base of a few hundred kilobytes with random weights: the fake of a real base, for tests and dry runs.

It is a true `LlamaForCausalLM` folder (grouped-query attention, tied embeddings, bfloat16 safetensors, byte-level
tokenizer, ChatML template), so everything that works on a base works on it, NF4 and int8 included. It knows nothing:
what it says is noise, though the same noise on every machine.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

ENDOFTEXT: Final = "<|endoftext|>"
IM_START: Final = "<|im_start|>"
IM_END: Final = "<|im_end|>"
_SPECIALS: Final = (ENDOFTEXT, IM_START, IM_END)  # ids 0, 1, 2, as in SmolLM2

HIDDEN: Final = 64  # every input width is a multiple of 64, the block size of NF4
INTERMEDIATE: Final = 128
LAYERS: Final = 2
HEADS: Final = 4
KV_HEADS: Final = 2
CONTEXT: Final = 512  # tokens
VOCABULARY: Final = 256 + len(_SPECIALS)  # every byte and the specials

_CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_EMBEDDING_STD: Final = 0.1  # small beside what the layers add, else a tied model repeats its last token for ever


def make_tiny(folder: Path) -> None:
    """Write the tiny base into `folder` (made if missing): the same bytes on every machine and at every call."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_weights(), folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", _config())
    _write_json(
        folder / "generation_config.json",
        {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2},
    )
    _tokenizer().save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": IM_START,
            "eos_token": IM_END,
            "pad_token": IM_END,
            "unk_token": ENDOFTEXT,
            "clean_up_tokenization_spaces": False,
            "model_max_length": CONTEXT,
        },
    )
    (folder / "chat_template.jinja").write_text(_CHAT_TEMPLATE, encoding="utf-8")


def _config() -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "dtype": "bfloat16",
        "eos_token_id": 2,
        "head_dim": HIDDEN // HEADS,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": CONTEXT,
        "mlp_bias": False,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "pad_token_id": 2,
        "rms_norm_eps": 1e-05,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": VOCABULARY,
    }


def _weights() -> dict[str, Tensor]:
    kv_width = HIDDEN // HEADS * KV_HEADS
    linear = {  # [out, in]
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (kv_width, HIDDEN),
        "self_attn.v_proj": (kv_width, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
    }
    ones = torch.ones(HIDDEN, dtype=torch.bfloat16)
    weights = {
        "model.embed_tokens.weight": _noise("model.embed_tokens", (VOCABULARY, HIDDEN), _EMBEDDING_STD),
        "model.norm.weight": ones.clone(),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{prefix}.{norm}.weight"] = ones.clone()
        for name, shape in linear.items():
            # 1/sqrt(fan in) keeps activations near 1, so that attention and depth matter to what comes out
            weights[f"{prefix}.{name}.weight"] = _noise(f"{prefix}.{name}", shape, shape[1] ** -0.5)
    return weights


def _noise(name: str, shape: tuple[int, int], std: float) -> Tensor:
    """Uniform noise of mean 0 and `std` from SHAKE-256, since a generator of torch may draw differently elsewhere."""
    raw = bytearray(hashlib.shake_256(f"adapterd tiny base: {name}".encode()).digest(4 * math.prod(shape)))
    drawn = torch.frombuffer(raw, dtype=torch.int32).double() / 2**31  # in [-1, 1)
    return (drawn * (std * math.sqrt(3))).reshape(shape).bfloat16()


def _tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*_SPECIALS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIALS))
    return tokenizer


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")

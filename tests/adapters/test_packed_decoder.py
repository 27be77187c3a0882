"""The engine's own forward gives what transformers' does, for every architecture that it takes over."""

from typing import Any

import pytest
import torch
from adapterd.adapters.attention import Ragged, Segment
from adapterd.adapters.cache import RowCache
from adapterd.adapters.lora import attach
from adapterd.adapters.packed_decoder import PackedDecoder
from adapterd.adapters.packing import packs
from transformers import (
    AutoModelForCausalLM,
    GPTBigCodeConfig,
    LlamaConfig,
    MistralConfig,
    OlmoConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

CPU = torch.device("cpu")
SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
KNOWN: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "llama with biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "llama with stretched rotation": LlamaConfig(**SIZES, rope_parameters=STRETCHED),
    "llama with wide heads": LlamaConfig(**SIZES, head_dim=32),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
}
DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if packs(CPU, dtype)]

pytestmark = pytest.mark.skipif(not packs(CPU, torch.float32), reason="this build of torch has no oneDNN")


def made(config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))  # biases and norms too
    return model


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", KNOWN)
def test_it_gives_what_the_models_own_forward_does(name: str, dtype: torch.dtype) -> None:
    model = made(KNOWN[name], dtype)
    tokens, others = torch.randint(0, 61, (2, 20)).unbind()
    with torch.inference_mode():
        expected = model.get_decoder()(tokens[None]).last_hidden_state[0]
        attach(model, slots=1, max_rank=4, packed=True)
        decode = PackedDecoder.of(model.get_decoder())
        assert decode is not None
        cache = RowCache()
        for _ in range(2):
            cache.enter()
        # Two requests: one reads 12 tokens, the other 20 as well, and then the first decodes the rest.
        read = torch.cat([tokens[:12], others])
        places = torch.cat([torch.arange(12), torch.arange(20)])
        hidden = decode(read, places, Ragged(cache, 0, [Segment(0, 0, 12), Segment(1, 0, 20)]))[:12]
        found = [hidden]
        for place in range(12, 20):
            cache.lengths[0] = place
            at = torch.tensor([place])
            found.append(decode(tokens[at], at, Ragged(cache, 1, [])))
    error = (torch.cat(found) - expected).float().norm() / expected.float().norm()
    assert error < (1e-5 if dtype == torch.float32 else 0.02)


def test_it_leaves_what_it_does_not_know_alone() -> None:
    unknown = [OlmoConfig(**SIZES), LlamaConfig(**SIZES, hidden_act="gelu")]
    for config in unknown:
        model = made(config)
        attach(model, slots=1, max_rank=4, packed=True)
        assert PackedDecoder.of(model.get_decoder()) is None
    assert PackedDecoder.of(made(GPTBigCodeConfig(n_embd=48, n_layer=1, n_head=4, vocab_size=61)).get_decoder()) is None
    model = made(KNOWN["llama"])
    assert PackedDecoder.of(model.get_decoder()) is None
    attach(model, slots=1, max_rank=4)  # not packed
    assert PackedDecoder.of(model.get_decoder()) is None

"""What else could serve: transformers' `generate`, PEFT's batches over several adapters, llama.cpp."""

import importlib
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from adapterd.adapters.base import Base
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import set_peft_model_state_dict

from .crowd import ALPHA, RANK, random_weights, shapes_of


def transformers_seconds(model: Any, prompts: Sequence[Sequence[int]], tokens: int, **more: Any) -> float:
    """Seconds of one static greedy `generate` of `tokens` tokens for prompts of one length."""
    ids = torch.tensor(prompts, device=model.device)
    began = time.perf_counter()
    with torch.inference_mode():
        found = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
            **more,
        )
    if found.shape[1] != ids.shape[1] + tokens:
        raise RuntimeError(f"generate gave {found.shape[1] - ids.shape[1]} tokens instead of {tokens}")
    return time.perf_counter() - began


class PeftPeer:
    """PEFT with `count` adapters on `base`, in plain layers; rows of a batch name theirs (`adapter_names`)."""

    def __init__(self, base: Base, count: int) -> None:
        shapes = shapes_of(base.model)
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(shapes), task_type="CAUSAL_LM")
        self._names = [f"a{number}" for number in range(count)]
        model: PeftModel = get_peft_model(base.model, config, adapter_name=self._names[0])
        for name in self._names[1:]:
            model.add_adapter(name, config)
        for seed, name in enumerate(self._names):
            set_peft_model_state_dict(model, dict(random_weights(shapes, seed)), adapter_name=name)
        self._model = model.eval()

    def seconds(self, prompts: Sequence[Sequence[int]], tokens: int, adapters: Sequence[int]) -> float:
        """As `transformers_seconds`; `adapters[i]` is that of row i."""
        names = [self._names[adapter] for adapter in adapters]
        return transformers_seconds(self._model, prompts, tokens, adapter_names=names)


@dataclass(frozen=True)
class LlamaCpp:
    """llama.cpp's server on a GGUF file, `threads` for up to `streams` prompts; needs `pip install xllamacpp`.

    It lives in a process of its own and only while it is measured: a server that nobody asks took a quarter to a third
    of everybody else's speed in the same process.
    """

    gguf: Path
    streams: int
    threads: int

    def seconds(self, prompts: Sequence[str], tokens: int) -> float:
        """All prompts at once, each answered with `tokens` tokens. Raises `ModuleNotFoundError` without xllamacpp."""
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(_llama_cpp_seconds, self, prompts, tokens).result()


def _llama_cpp_seconds(peer: LlamaCpp, prompts: Sequence[str], tokens: int) -> float:
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(peer.gguf)
    params.n_parallel = peer.streams
    params.n_ctx = 512 * peer.streams
    params.cpuparams.n_threads = peer.threads
    params.cpuparams_batch.n_threads = peer.threads
    params.warmup = True
    server = xllamacpp.Server(params)

    def ask(prompt: str) -> int:
        done = server.handle_completions(
            {"prompt": prompt, "n_predict": tokens, "ignore_eos": True, "temperature": 0.0, "cache_prompt": False}
        )
        return int(done["usage"]["completion_tokens"])

    ask(prompts[0])  # what a first answer takes besides is no part of it
    began = time.perf_counter()
    with ThreadPoolExecutor(len(prompts)) as pool:
        counts = list(pool.map(ask, prompts))
    taken = time.perf_counter() - began
    if set(counts) != {tokens}:
        raise RuntimeError(f"llama.cpp gave {counts} tokens instead of {tokens} each")
    return taken

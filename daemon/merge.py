"""Base and adapter as one plain transformers model, for use without PEFT."""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..adapters.chatter import no_progress_bars


def merge_adapter(base: Path, adapter: Path, target: Path) -> None:
    """Write W + scaling * B A for every layer of the adapter, and everything else of the base, to `target`.

    The sum is made in float32 on the base's *unquantized* weights, the usual way to merge what was trained on a
    quantized base (QLoRA, Dettmers et al. 2023, arXiv:2305.14314); answers differ a little from those that the
    quantized base gives.
    """
    with no_progress_bars():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, use_safetensors=True)
        merged = PeftModel.from_pretrained(model, str(adapter), use_safetensors=True).merge_and_unload()
        merged.to(torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(base).save_pretrained(target)

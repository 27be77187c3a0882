"""The one base that all adapters live on: told apart by a fingerprint, loaded quantized and frozen.

A base is a plain transformers folder: `config.json`, safetensors weights, a tokenizer. `ensure_base` gives that folder
for a name, `load_base` the model in memory. Code that comes with a model is never run, pickled weights are never read.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .bases import ensure_base
from .chatter import no_progress_bars
from .checkpoint import CONFIG, check_folder, fingerprint
from .device import choose_device, compute_dtype
from .errors import BaseUnavailable
from .unpacking import keep_as_they_are, should_unpack, unpack

__all__ = ["Base", "ensure_base", "fingerprint", "load_base", "target_modules"]


@dataclass(frozen=True)
class Base:
    """A base in memory: in eval mode, frozen and without dropout; its linear layers are quantized, its embeddings and
    head are not.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    quantization: str
    device: torch.device
    compute_dtype: torch.dtype
    folder: Path


def load_base(folder: Path, *, quantization: str, device: str = "auto") -> Base:
    """Load the base in `folder` (quantized while it is read) onto `device`: "auto", "cpu", "cuda" or "cuda:N".

    Quantized weights are held unpacked if there is room (see `unpacking`).

    Raises:
        BaseUnavailable: not a base, not enough memory, no such device, or weights that do not fill the model.
        BadRequest: there is no such quantization.
    """
    check_folder(folder)
    identity = fingerprint(folder, quantization)
    place = choose_device(device)
    dtype = compute_dtype(place)
    try:
        with no_progress_bars():
            config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            _drop_nothing_out(config)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                quantization_config=_quantization_config(quantization, dtype),
                attn_implementation="sdpa",
                device_map={"": place},
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as failure:
        raise BaseUnavailable(
            f"the base in {folder} cannot be loaded: {failure}",
            hint=_loading_hint(failure),
            folder=str(folder),
            quantization=quantization,
        ) from failure
    model, report = loaded
    _check_loaded(folder, model, tokenizer, report)
    model.requires_grad_(False)
    model.eval()
    if quantization != "none" and should_unpack(model, place, dtype):
        unpack(model, dtype)
    elif quantization == "nf4" and place.type == "cpu":
        keep_as_they_are(model)
    elif quantization == "int8":
        _settle_int8(model, place)
    return Base(model, tokenizer, identity, quantization, place, dtype, folder)


def target_modules(model: nn.Module, share: float = 1.0) -> list[str]:
    """The linear layers that adapters change, by their path in the base and in its order: all but the output head.

    With a `share` in (0, 1): those of the upper part of the stack only, at least of its topmost layer.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]
    depths = {name: _depth(name) for name in names}
    layers = 1 + max((depth for depth in depths.values() if depth is not None), default=-1)
    first = layers - max(1, round(share * layers))
    return [name for name in names if share >= 1 or (depth := depths[name]) is None or depth >= first]


def _depth(name: str) -> int | None:
    """The number of the layer that a module's path goes through: the first number in it."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def _drop_nothing_out(config: PreTrainedConfig) -> None:
    """Take all dropout out of a base's configuration and the ones within: it is how the base was trained.

    An adapter has its own, and what a row is below the adapters is computed once and kept, which no draw may decide.
    """
    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            _drop_nothing_out(value)
        elif isinstance(value, float) and "drop" in name:
            setattr(config, name, 0.0)


def _quantization_config(quantization: str, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """Embeddings and head stay as they are: transformers leaves out the output layer and what is tied to it."""
    if quantization == "nf4":
        return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return None


def _settle_int8(model: nn.Module, device: torch.device) -> None:
    """Make the int8 layers compute the same way for serving as for training on a CPU.

    A layer in training mode multiplies float activations by the de-quantized weights; in eval mode it rounds the
    activations to int8 first, which without AVX512 runs several times slower and less exact on a CPU, and would
    make serving differ from what was trained. The mode has no other meaning for a linear layer.
    """
    if device.type != "cpu":
        return
    from bitsandbytes.nn.modules import Linear8bitLt  # noqa: PLC0415 - slow to import, and needed for int8 alone

    for module in model.modules():
        if isinstance(module, Linear8bitLt):
            module.register_forward_pre_hook(_stay_in_training_mode)


def _stay_in_training_mode(layer: nn.Module, _inputs: Any) -> None:
    layer.training = True


def _check_loaded(folder: Path, model: Any, tokenizer: Any, report: Any) -> None:
    """transformers only warns where a checkpoint does not fill its model and goes on with random weights; we do not."""
    wrong = [*report["missing_keys"], *report["mismatched_keys"], *report["error_msgs"]]
    if wrong:
        raise BaseUnavailable(
            f"the weights in {folder} do not fill the model that its {CONFIG} describes: {wrong[0]} is missing or has "
            f"another shape ({len(wrong)} in all)",
            hint="obtain the base again; the files belong to different models",
            folder=str(folder),
        )
    if tokenizer.eos_token_id is None:
        raise BaseUnavailable(
            f"the tokenizer in {folder} has no end-of-sequence token, so that no answer would end",
            hint="set `eos_token` in tokenizer_config.json",
            folder=str(folder),
        )
    rows = int(model.get_input_embeddings().weight.shape[0])
    if len(tokenizer) > rows:
        raise BaseUnavailable(
            f"the tokenizer in {folder} knows {len(tokenizer)} tokens, the model {rows}",
            hint="obtain the base again; the tokenizer belongs to another model",
            folder=str(folder),
        )


def _loading_hint(failure: Exception) -> str:
    if isinstance(failure, torch.OutOfMemoryError):
        return 'choose `quantization = "nf4"`, a smaller base, or `device = "cpu"`'
    if "trust_remote_code" in str(failure):
        return "the model comes with code of its own, which is never run: choose a model that transformers knows"
    if isinstance(failure, ImportError):
        return "a library is missing or broken: install adapterd's requirements again"
    return "check that the folder is a transformers model with safetensors weights; if it was obtained, obtain it again"

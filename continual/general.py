"""Text that says what a base knows besides a task: drawn from the base itself, once.

Held against it while an adapter learns (see `recipe.py`), such text keeps the base's general behaviour without a corpus
to ship, whose licence and language would be somebody else's choice: a base that is asked for nothing writes in the
proportions of what it was trained on. Drawing from a model to keep it is generative replay (Shin et al. 2017,
arXiv:1705.08690), in this form for language models LAMOL (Sun et al. 2020, arXiv:1909.03329).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .teacher import Soft, Taught, teach
from .template import Encoded
from .tokens import TokenizerLike, end_of_text

# Rows drawn, and tokens of each: about one row for every step of a drop of 300 rows.
ROWS = 64
TOKENS = 32

_SEED = 0
# Drawn together: generating keeps keys and values of all of them.
_ROWS_AT_ONCE = 32


def general_text(kept: Path, model: Any, tokenizer: TokenizerLike) -> list[Taught]:
    """What was drawn from a base and what it says of it, from the file `kept`; drawn and written if it is not there.

    `model` must answer as the base. A file that cannot be read is drawn anew. Takes seconds the first time.
    """
    try:
        found = load_file(kept)
        return _unpacked(found["ids"], found["tokens"], found["log_p"], next(model.parameters()).device)
    except (OSError, SafetensorError, KeyError):
        pass
    taught = teach(model, draw(model, tokenizer, ROWS, TOKENS, _SEED))
    kept.parent.mkdir(parents=True, exist_ok=True)
    temp = kept.with_name(f".{kept.name}.{os.getpid()}")
    save_file(_packed(taught), temp)
    temp.replace(kept)
    return taught


@torch.inference_mode()
def draw(model: Any, tokenizer: TokenizerLike, rows: int, tokens: int, seed: int) -> list[Encoded]:
    """`rows` texts of `tokens` tokens that `model` writes after an empty beginning, none with a control token.

    The same on the same machine for the same seed.
    """
    device = next(model.parameters()).device
    begin, control = end_of_text(tokenizer), sorted(tokenizer.all_special_ids)
    drawn: list[Encoded] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        while len(drawn) < rows:
            ids = torch.full((min(_ROWS_AT_ONCE, rows - len(drawn)), 1), begin, device=device)
            written = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=tokens - 1,
                suppress_tokens=control,
            )
            drawn += [Encoded(row[:1], row[1:]) for row in written.tolist()]
    return drawn


def _packed(taught: Sequence[Taught]) -> dict[str, Tensor]:
    """All rows have the same length, so that they stack."""
    return {
        "ids": torch.tensor([[*one.row.prompt_ids, *one.row.completion_ids] for one in taught]),
        "tokens": torch.stack([one.soft.tokens.cpu() for one in taught]),
        "log_p": torch.stack([one.soft.log_p.cpu() for one in taught]),
    }


def _unpacked(ids: Tensor, tokens: Tensor, log_p: Tensor, device: torch.device) -> list[Taught]:
    rows = [Encoded(row[:1], row[1:]) for row in ids.tolist()]
    return [
        Taught(row, Soft(likeliest.to(device), said.to(device)))
        for row, likeliest, said in zip(rows, tokens, log_p, strict=True)
    ]

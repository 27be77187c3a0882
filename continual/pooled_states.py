"""What the base makes of a text: the mean of its tokens' hidden states, at a few layers. For drift, not for answers."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor, nn

from .batches import decoder_and_head
from .examples import Example, Kind
from .input_drift import LAYERS, Window

# Tokens of a text that are read, and rows times tokens that go through at once.
_LENGTH: Final = 128
_TOKENS_AT_ONCE: Final = 4096


class _Enough(Exception):
    pass


@torch.inference_mode()
def pooled_states(
    model: nn.Module, layers: nn.ModuleList, tokenizer: Any, texts: Sequence[str], wanted: Sequence[int]
) -> tuple[dict[int, NDArray[np.float64]], list[int]]:
    """({layer: (texts, width)}, tokens of each text). `layers`: the model's decoder layers; layer n is what goes into
    the n-th of them, so 0 is the embeddings. The layers above the highest one wanted are not computed.

    An adapter that is active takes part: disable it where the base alone is meant.
    """
    ids = [tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"] or [0] for text in texts]
    lengths = [len(row) for row in ids]
    found: dict[int, list[Tensor]] = {layer: [torch.empty(0)] * len(texts) for layer in wanted}
    device = next(model.parameters()).device
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    for group in _groups(order, ids):
        width = max(min(len(ids[place]), _LENGTH) for place in group)
        batch = torch.zeros(len(group), width, dtype=torch.long)
        mask = torch.zeros(len(group), width, dtype=torch.long)
        for row, place in enumerate(group):
            cut = ids[place][:_LENGTH]
            batch[row, : len(cut)] = torch.tensor(cut)
            mask[row, : len(cut)] = 1
        for layer, states in _states(model, layers, batch.to(device), mask.to(device), wanted).items():
            weights = mask.to(states.device).unsqueeze(-1)
            means = (states.float() * weights).sum(dim=1) / weights.sum(dim=1)
            for row, place in enumerate(group):
                found[layer][place] = means[row].cpu()
    return {layer: torch.stack(rows).double().numpy() for layer, rows in found.items()}, lengths


def window_of(model: PeftModel, tokenizer: Any, rows: Sequence[Example]) -> Window:
    """The rows as the base sees them, to be compared with others; without labels unless every row has one."""
    texts = [row.asked for row in rows]
    decoder: Any = decoder_and_head(model)[0]
    wanted = sorted({min(layer, len(decoder.layers) - 1) for layer in LAYERS})
    with model.disable_adapter():
        states, lengths = pooled_states(decoder, decoder.layers, tokenizer, texts, wanted)
    labels = [row.completion for row in rows] if all(row.kind is Kind.LABEL for row in rows) else []
    return Window(texts, states, lengths, labels)


@torch.inference_mode()
def mean_words(words: Tensor, tokenizer: Any, texts: Sequence[str]) -> tuple[NDArray[np.float64], list[int]]:
    """(layer 0 of `pooled_states`: (texts, width), tokens of each text), by a look into the table of embeddings alone.

    `words`: the table, (vocabulary, width).
    """
    ids = [tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"] or [0] for text in texts]
    means = [words[torch.tensor(row[:_LENGTH], device=words.device)].float().mean(dim=0).cpu() for row in ids]
    return torch.stack(means).double().numpy(), [len(row) for row in ids]


@torch.inference_mode()
def nearest_words(words: Tensor, tokenizer: Any, direction: NDArray[np.float64], count: int) -> list[str]:
    """The words whose embeddings point most nearly into `direction` (width), by their cosine; different ones."""
    wanted = torch.from_numpy(direction).to(words.device, torch.float32)
    cosines = torch.nn.functional.cosine_similarity(words.float(), wanted[None], dim=1)
    found: dict[str, None] = {}
    for place in cosines.topk(min(20 * count, len(cosines))).indices.tolist():
        word = tokenizer.decode([place]).strip().casefold()
        if len(word) > 1 and word.isalpha():
            found[word] = None
    return list(found)[:count]


def _states(
    model: nn.Module, layers: nn.ModuleList, ids: Tensor, mask: Tensor, wanted: Sequence[int]
) -> dict[int, Tensor]:
    """What goes into each of the layers wanted, (rows, tokens, width)."""
    caught: dict[int, Tensor] = {}

    def catch(layer: int) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            caught[layer] = args[0] if args else kwargs["hidden_states"]
            if layer == max(wanted):
                raise _Enough

        return hook

    handles = [layers[layer].register_forward_pre_hook(catch(layer), with_kwargs=True) for layer in wanted]
    try:
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return caught


def _groups(order: Sequence[int], ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places in batches of texts about as long, none of more than `_TOKENS_AT_ONCE` tokens with its padding."""
    groups: list[list[int]] = []
    for place in order:
        length = min(len(ids[place]), _LENGTH)
        if groups and (len(groups[-1]) + 1) * length <= _TOKENS_AT_ONCE:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups

"""Mean hidden states of the base."""

import numpy as np
import torch
from adapterd.adapters.base import Base
from adapterd.continual.pooled_states import pooled_states


def test_states_are_those_of_a_whole_forward_pass_without_padding(tiny_base: Base) -> None:
    texts = ["a", "a longer text than the first", "one more", ""]
    found, lengths = pooled_states(tiny_base.model, tiny_base.model.model.layers, tiny_base.tokenizer, texts, (0, 1))
    for place, text in enumerate(texts):
        ids = tiny_base.tokenizer(text, add_special_tokens=False)["input_ids"] or [0]
        assert lengths[place] == len(ids)
        with torch.inference_mode():
            states = tiny_base.model(
                input_ids=torch.tensor([ids], device=tiny_base.device), output_hidden_states=True
            ).hidden_states
        for layer in (0, 1):
            np.testing.assert_allclose(found[layer][place], states[layer][0].float().mean(0).cpu().numpy(), atol=1e-5)


def test_no_hook_stays(tiny_base: Base) -> None:
    pooled_states(tiny_base.model, tiny_base.model.model.layers, tiny_base.tokenizer, ["a"], (0,))
    assert not any(layer._forward_pre_hooks for layer in tiny_base.model.model.layers)

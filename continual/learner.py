"""Before and after the recipe: which rows a drop is learned from, and which weights mattered for it.

The training process and the benchmarks go the same way: `choose_rows`, `recipe.train`, `remember`. The model comes in
as the champion (for a task's first drop: the base with a fresh adapter) and goes out as the candidate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from peft import PeftModel
from torch import nn

from .batches import Decode, collate, token_groups
from .examples import Example
from .fisher import Weights, accumulate, estimate_fisher
from .general import general_text
from .lessons import Portions, Rows
from .recipe import Hyperparameters
from .replay import fitting, hardest, replay_order, replay_seed, sample_replay
from .teacher import Taught, teach
from .template import Encoded, Template, TokenizerLike

# Rows of earlier drops that the champion is asked about, over those that there is room for, in tokens.
_ASKED = 2
# Rows of earlier drops that decide when to stop, at least.
_LEAST_KEPT = 32


@dataclass(frozen=True)
class Material:
    """The rows of a drop and of those before it, by the drop's number, each parted into training and validation."""

    drop: int
    train: Sequence[Example]
    validation: Sequence[Example]
    earlier_train: Mapping[int, Sequence[Example]] = field(default_factory=dict)
    earlier_validation: Mapping[int, Sequence[Example]] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoder:
    """Rows into token ids, as `template` has it."""

    template: Template
    tokenizer: TokenizerLike
    max_length: int

    def __call__(self, examples: Sequence[Example]) -> list[Encoded]:
        """The ids of each row."""
        encode = partial(self.template.encode_example, self.tokenizer, max_length=self.max_length)
        return [encode(example) for example in examples]


def choose_rows(
    model: PeftModel,
    material: Material,
    encoder: Encoder,
    hp: Hyperparameters,
    *,
    general: Path,
    decode: Decode | None = None,
) -> Rows:
    """What the recipe learns from. `model` answers as the champion, who is asked about the replayed rows.

    `general`: the file of what was drawn from the base; it is made if it is wanted and not there.

    As many different rows are replayed as there is room for in all steps, if history has so many: of twice as many,
    drawn in balance, those that the champion knows worst. The others are not looked at, so this does not take longer as
    history grows. The rows that decide when to stop are the new drop's and as many of earlier drops; more where these
    are few, for what few rows say is chance.
    """
    new = encoder(material.train)
    replay: list[Taught] = []
    earlier = len(material.earlier_train)
    portions = Portions.of(earlier, epochs=hp.epochs, replay_share=hp.replay_share, replay_cost=hp.replay_cost)
    if portions.replayed:
        room = round(portions.replayed * sum(len(row) for row in new))
        order = replay_order(material.earlier_train, replay_seed(hp.seed, material.drop))
        asked = teach(model, fitting((encoder([row])[0] for row in order), _ASKED * room, len), decode)
        replay = [asked[place] for place in hardest([(one.loss, len(one.row)) for one in asked], room)]
    kept = sample_replay(material.earlier_validation, max(len(material.validation), _LEAST_KEPT), hp.seed)
    anchors: list[Taught] = []
    if hp.anchor_weight and hp.anchor_rows:
        with model.disable_adapter():
            anchors = general_text(general, model, encoder.tokenizer)
    return Rows(new, replay, anchors, encoder(material.validation), encoder(kept), earlier=earlier)


def remember(
    model: nn.Module,
    material: Material,
    encoder: Encoder,
    hp: Hyperparameters,
    *,
    fisher: Weights | None = None,
    decode: Decode | None = None,
) -> Weights:
    """The Fisher information after the drop: that of its own rows on top of the decayed sum so far."""
    sample = encoder(sample_replay({material.drop: material.train}, hp.fisher_rows, hp.seed))
    device = next(model.parameters()).device
    batches = (collate([sample[index] for index in group], device) for group in token_groups(sample))
    return accumulate(fisher, estimate_fisher(model, batches, decode), hp.ewc_decay)

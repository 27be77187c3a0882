"""One forward of the base over the batch: every decoding request's next token, and pieces of prompts and scorings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from .attention import RAGGED, Ragged, Segment, check_architecture
from .base import Base
from .batch import Batch, Running
from .errors import BaseUnavailable
from .grouped_product import MANY_TOKENS
from .lora import SlotBank, attach
from .packed_decoder import PackedDecoder
from .packing import pack
from .recording import Recordings, recorder
from .requests import Generation, Request, Scoring
from .schedule import Piece
from .scoring import Tree, log_likelihoods, visible
from .slots import BASE_SLOT


@dataclass(frozen=True)
class Outcome:
    """What a forward gave.

    For each generation whose prompt is read, its next tokens, `None` if its logits are not finite: one, and as many
    more as of its draft are what it draws itself. For each scoring that came so far, the log-likelihoods of its next
    continuations.
    """

    tokens: list[tuple[Running, list[int] | None]]
    scores: list[tuple[Running, list[float]]]


@dataclass
class _Flat:
    """The tokens of a forward, one request after the other."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    many: list[bool] = field(default_factory=list)

    def add(self, request: Request, tokens: Sequence[int], positions: Sequence[int], of: int = 1) -> int:
        """Append a request's tokens, some of so many, and return the place of the first.

        How many belong together decides how adapters are computed, so that an answer does not depend on the pieces.
        """
        place = len(self.tokens)
        self.tokens += tokens
        self.positions += positions
        self.slots.append(request.slot)
        self.lengths.append(len(tokens))
        self.many.append(of >= MANY_TOKENS)
        return place


class _Drawing(NamedTuple):
    """A request that draws: by the hidden state at the first of `places`, and after each token of its `draft`, as long
    as it drew that token, by the next one's."""

    running: Running
    places: list[int]
    draft: Sequence[int] = ()


class Runner:
    """The base with its adapters' slots, ready to be run. While it is attached the base's model belongs to it.

    Raises:
        BaseUnavailable: the engine cannot serve this architecture.
    """

    def __init__(self, base: Base, *, slots: int, max_rank: int, max_batch: int) -> None:
        check_architecture(base.model.config)
        self._model = base.model
        self._decoder: Any = base.model.get_decoder()  # type: ignore[no-untyped-call]
        head: Any = base.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self._device = torch.device(base.device)
        # A copy: the embeddings, to which the head is mostly tied, are looked up in plain rows.
        self._head: Any = pack([head]) or head
        self.bank: Final[SlotBank] = attach(
            base.model, slots=slots, max_rank=max_rank, device=self._device, dtype=base.compute_dtype, packed=True
        )
        self._packed = PackedDecoder.of(self._decoder)
        self._own_attention = base.model.config._attn_implementation or "sdpa"
        base.model.set_attn_implementation(RAGGED)
        self.attached = True
        try:
            self._recordings = self._recorder(max_batch)
            self._try_out()
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Leave the model as it was; only once, `attached` tells."""
        self.attached = False
        self.bank.detach()
        self._model.set_attn_implementation(self._own_attention)

    def run(
        self, batch: Batch, pieces: Sequence[tuple[Running, Piece]], drafts: Mapping[Running, Sequence[int]]
    ) -> Outcome:
        """Do one forward, in inference mode. Requests move on in the cache alone: the caller says who ends.

        `drafts`: what decoding requests may say next, computed along.
        """
        if self._recordings is not None and not pieces and not any(drafts.values()):
            logits = self._recordings.run(batch)
            if logits is not None:
                drawn = _choose(logits, [_Drawing(running, [running.row]) for running in batch.decoders])
                _move_on(batch, drawn)
                return Outcome(drawn, [])
        flat, segments = _Flat(), []
        drawing: list[_Drawing] = []
        scoring: list[tuple[Running, Tree, int]] = []
        decoders = batch.decoders
        for running in decoders:
            place = flat.add(running.request, [running.last], [batch.cache.lengths[running.row]])
            drawing.append(_Drawing(running, [place], drafts.get(running, ())))
        for one in drawing:
            if one.draft:
                past = batch.cache.lengths[one.running.row] + 1
                place = flat.add(one.running.request, one.draft, range(past, past + len(one.draft)))
                segments.append(Segment(one.running.row, past, len(one.draft), guessed=True))
                one.places.extend(range(place, place + len(one.draft)))
        reached: list[tuple[int, int]] = []
        for running, piece in pieces:
            request, past = running.request, batch.cache.lengths[running.row]
            end = past + piece.read
            if piece.continuations:
                assert isinstance(request, Scoring)
                done = len(running.scores)
                tree = Tree.grow(request.prompt, request.continuations[done : done + piece.continuations], past)
                place = flat.add(request, tree.tokens, tree.positions, sum(map(len, request.continuations)))
                scoring.append((running, tree, place))
                segments.append(Segment(running.row, past, len(tree), _tree_mask(tree, past)))
                reached.append((running.row, end - 1))
                continue
            place = flat.add(request, request.prompt[past:end], range(past, end), len(request.prompt))
            segments.append(Segment(running.row, past, piece.read))
            reached.append((running.row, end))
            if isinstance(request, Generation) and end == len(request.prompt):
                drawing.append(_Drawing(running, [place + piece.read - 1]))

        hidden = self._hidden(flat, Ragged(batch.cache, len(decoders), segments))
        drawn = self._draw(hidden, drawing)
        _move_on(batch, drawn[: len(decoders)])
        for row, length in reached:
            batch.cache.lengths[row] = length
        return Outcome(drawn, self._score(hidden, scoring))

    def _hidden(self, flat: _Flat, ragged: Ragged) -> Tensor:
        """The last hidden states [N, d] of the flat tokens."""
        self.bank.route(flat.slots, flat.lengths, flat.many)
        return self._forward(torch.tensor([flat.tokens, flat.positions]).to(self._device, non_blocking=True), ragged)

    def _forward(self, tokens: Tensor, ragged: Ragged) -> Tensor:
        """The last hidden states [N, d] of tokens, and their positions, [2, N]."""
        if self._packed is not None:
            return self._packed(tokens[0], tokens[1], ragged)
        # A mask of four dimensions is handed on as it is; the ragged attention makes its own.
        nothing = torch.empty(1, 1, 1, 1, device=self._device)
        output = self._decoder(
            input_ids=tokens[:1], position_ids=tokens[1:], attention_mask=nothing, use_cache=False, ragged=ragged
        )
        hidden: Tensor = output.last_hidden_state
        return hidden[0]

    def _draw(self, hidden: Tensor, drawing: Sequence[_Drawing]) -> list[tuple[Running, list[int] | None]]:
        if not drawing:
            return []
        places = torch.tensor([place for one in drawing for place in one.places])
        return _choose(self._head(hidden[places.to(self._device, non_blocking=True)]).float(), drawing)

    def _score(self, hidden: Tensor, scoring: Sequence[tuple[Running, Tree, int]]) -> list[tuple[Running, list[float]]]:
        scored = []
        for running, tree, place in scoring:
            sources = torch.tensor(tree.sources).to(self._device, non_blocking=True) + place
            outputs = 1 + max(c for _, _, c in tree.targets)
            scored.append((running, log_likelihoods(hidden[sources], self._head, tree.targets, outputs)))
        return scored

    def _recorder(self, max_batch: int) -> Recordings | None:
        """What records decode steps, where something is gained by it."""
        record = recorder(self._device)
        if record is None:
            return None
        logits = torch.empty(max_batch, int(self._model.config.vocab_size), device=self._device)
        return Recordings(self.bank, lambda inputs, ragged: self._head(self._forward(inputs, ragged)), logits, record)

    def _try_out(self) -> None:
        """Prove that the model hands the ragged attention its plan: else every answer would be wrong."""
        batch, flat = Batch(), _Flat()
        batch.cache.enter()
        flat.add(Generation("", BASE_SLOT, [0], 1), [0], [0])
        ragged = Ragged(batch.cache, 0, [Segment(0, 0, 1)])
        with torch.inference_mode():
            self._hidden(flat, ragged)
        layers = int(self._model.config.num_hidden_layers)
        if ragged.layers != layers:
            raise BaseUnavailable(
                f"{type(self._model).__name__} uses the attention interface in {ragged.layers} of {layers} layers",
                hint="use a base whose architecture supports it, such as Llama, Qwen or SmolLM",
            )
        if self._recordings is not None:
            with torch.inference_mode():
                self._recordings.try_out()


def _choose(logits: Tensor, drawing: Sequence[_Drawing]) -> list[tuple[Running, list[int] | None]]:
    """What each request draws by `logits` float [places of all, V]."""
    best = logits.max(dim=-1)  # of a row with a NaN it is NaN
    finite, greedy = best.values.isfinite().tolist(), best.indices.tolist()
    drawn: list[tuple[Running, list[int] | None]] = []
    row = 0
    for one in drawing:
        sampler, tokens = one.running.sampler, list[int]()
        assert sampler is not None
        for at, guess in enumerate((*one.draft, None), row):
            if not finite[at]:
                break
            tokens.append(greedy[at] if sampler.greedy else sampler.draw(logits[at]))
            if tokens[-1] != guess:
                break
        drawn.append((one.running, tokens or None))
        row += len(one.places)
    return drawn


def _move_on(batch: Batch, drawn: Sequence[tuple[Running, list[int] | None]]) -> None:
    """Count the tokens that were written to the cache and stay, and forget the rest of a draft."""
    for running, tokens in drawn:
        batch.cache.lengths[running.row] += len(tokens or [0])
        batch.cache.retract(running.row)


def _tree_mask(tree: Tree, past: int) -> Tensor:
    """What each token of a tree sees: all of the `past` columns of its row, and in the tree what `visible` says."""
    own = visible(torch.tensor(tree.branch))
    return torch.cat([torch.ones(len(tree), past, dtype=torch.bool), own], dim=1)

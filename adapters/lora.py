"""Many LoRA adapters on one base: the slots that hold them, and whose they are in the coming forward."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from .base import target_modules
from .errors import CorruptVersion
from .gathered import GatheredFactors, Gathering, PackedGroup
from .grouped_product import Grouping, pays
from .low_rank import Factors, GroupWeights, MaskedPart, Routing, norm_of
from .mixes import Mix, Mixes
from .packing import pack
from .slot_layers import PackedSlotLinear, SlotGroup, SlotLinear, grouped
from .slots import BASE_SLOT
from .store import AdapterWeights

#: Of adapters of rank 8, by these norms, trained ones add up to a third of what a layer gives. With a hundred times as
#: much a layer's output is a million times what it was, from a product of two such numbers, and float32 ends at 3e38.
MOST_GAIN: Final = 100.0


@dataclass(frozen=True)
class PreparedAdapter:
    """An adapter checked, scaled and laid out for `SlotBank.write`: by group of layers, `None` where it has none.

    `bounded`: it adds to no layer more than `MOST_GAIN` times what that layer itself can give. Then whatever is read,
    nothing overflows that would not by the base alone, since a decoder's layers normalize what they read, and half a
    dozen products later numbers reach nowhere near the largest that float32 and bfloat16 hold.
    """

    factors: tuple[Factors | GatheredFactors | None, ...]
    rank: int
    bounded: bool

    @property
    def bytes(self) -> int:
        """What its matrices take."""
        return sum(factors.bytes for factors in self.factors if factors is not None)

    def to(self, device: torch.device) -> "PreparedAdapter":
        """The same on `device`; nothing is copied where it is there already."""
        factors = tuple(factors and factors.to(device) for factors in self.factors)
        return PreparedAdapter(factors, self.rank, self.bounded)


class SlotBank:
    """The adapters of all slots; made by `attach`. Used by one thread, but for `prepare`, which any thread may call."""

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[SlotGroup | PackedGroup],
        shapes: Mapping[str, tuple[int, int]],
        norms: Mapping[str, float],
        *,
        slots: int,
        max_rank: int,
        device: torch.device,
        dtype: torch.dtype,
        grouped_products: bool,
    ) -> None:
        self.slots: Final = slots
        self.max_rank: Final = max_rank
        self.shapes: Final = shapes
        self._model = model
        self._norms = norms  # of the base's layers, where their weights are plain
        self._groups = tuple(groups)
        self._device = device
        self._dtype = dtype
        self._ranks: dict[int, int] = {}  # of each written slot
        self._dense = [group for group in self._groups if isinstance(group, SlotGroup)]
        self._mixes = Mixes(self._dense)
        self._nothing = Mix.of((), 0, self._dense)
        self._grouping = Grouping(self._dense, device) if grouped_products else None
        self._gathering = Gathering([group for group in self._groups if isinstance(group, PackedGroup)], slots)

    def __contains__(self, slot: int) -> bool:
        """Whether `slot` holds an adapter."""
        return slot in self._ranks

    def prepare(self, weights: AdapterWeights) -> PreparedAdapter:
        """Check an adapter and lay it out for this base on its device, without touching what runs.

        Raises:
            CorruptVersion: an unknown layer, a wrong shape, a rank above `max_rank`, or values that are not finite in
                the base's precision.
        """
        unknown = weights.layers.keys() - self.shapes.keys()
        if unknown:
            raise CorruptVersion(
                f"the adapter changes {min(unknown)!r}, which is no linear layer of this base",
                hint="it was trained on another base, or on layers that are not served",
            )
        if weights.rank > self.max_rank:
            raise CorruptVersion(
                f"the adapter has rank {weights.rank}, the engine takes at most {self.max_rank}",
                hint="raise the engine's largest rank and restart",
            )
        factors = tuple(self._lay_out(group, weights) for group in self._groups)
        present = [(group, own) for group, own in zip(self._groups, factors, strict=True) if own is not None]
        bounded = all(self._bounds(group, own) for group, own in present)
        if not bounded:  # else all of it is finite
            for group, own in present:
                if not own.finite:
                    raise CorruptVersion(
                        f"{', '.join(group.names)}: the adapter holds values that are not finite in {self._dtype}",
                        hint="train the version anew",
                    )
        return PreparedAdapter(factors, weights.rank, bounded)

    def write(self, slot: int, adapter: PreparedAdapter) -> None:
        """Put an adapter into `slot`, over what was there. No copying: a few hundred references."""
        if not BASE_SLOT < slot <= self.slots:
            raise ValueError(f"slot {slot} is not among 1 to {self.slots}")
        self._empty(slot)
        for group, factors in zip(self._groups, adapter.factors, strict=True):
            if factors is not None:
                slots: dict[int, Any] = group.slots
                slots[slot] = factors
        self._gathering.write(slot)
        self._ranks[slot] = adapter.rank

    def clear(self, slot: int) -> None:
        """Forget the adapter in `slot` and free its memory; an empty slot stays empty."""
        self._empty(slot)
        self._gathering.write(slot)

    def _empty(self, slot: int) -> None:
        self._ranks.pop(slot, None)
        for group in self._groups:
            group.slots.pop(slot, None)
        self._mixes.drop(slot)
        if self._grouping is not None:
            self._grouping.forget(slot)
        for dense in self._dense:
            dense.select(None)

    def route(self, slots: Sequence[int], lengths: Sequence[int], many: Sequence[bool] = ()) -> None:
        """Say whose tokens the coming forwards hold: `lengths[i]` tokens of `slots[i]`, one after the other.

        For a padded batch [B, T] that is the slot of each row, and B times T. `many[i]`: whether they are of many that
        belong together, as of a prompt: by default none. Beside layers that are not packed a forward with such tokens,
        of several adapters, has grouped products where they pay.

        Raises `ValueError` for a slot that holds no adapter.
        """
        missing = set(slots) - self._ranks.keys() - {BASE_SLOT}
        if missing:
            raise ValueError(f"slot {min(missing)} holds no adapter")
        self._gathering.route(slots, lengths)
        if self._grouping is not None and any(many) and len(set(slots) - {BASE_SLOT}) > 1:
            self._grouping.route(slots, lengths)
        elif self._dense:
            mix = self.mix(slots)
            self.select(mix, self.routing(mix, slots, lengths))

    def mix(self, slots: Sequence[int]) -> Mix:
        """The adapters that a forward for written `slots` computes with, where layers are not packed."""
        active = frozenset(slots) - {BASE_SLOT}
        return self._mixes.of(active, self._ranks) if active else self._nothing

    def routing(self, mix: Mix, slots: Sequence[int], lengths: Sequence[int]) -> Routing:
        """What tokens as in `route` do with what the mix holds."""
        if len(mix.slots) == 1 and BASE_SLOT not in slots:
            return {}
        routes: dict[Hashable, Tensor] = {}
        tokens: Tensor | None = None
        for factors in mix.factors:
            if factors is None or factors.key in routes:
                continue
            if tokens is None:
                tokens = torch.tensor(slots).repeat_interleave(torch.tensor(lengths)).unsqueeze(1)
            mask = tokens != torch.tensor(factors.owners)
            routes[factors.key] = mask.to(self._device, non_blocking=True)
        return routes

    def select(self, mix: Mix, routing: Routing) -> None:
        """Let the coming forwards add what `mix` holds, as their tokens are routed."""
        for group, factors in zip(self._dense, mix.factors, strict=True):
            group.select(None if factors is None else MaskedPart(factors, routing.get(factors.key)))

    def detach(self) -> None:
        """Give the model its own layers back; the bank is of no use then."""
        for group in self._groups:
            layers: list[Any] = (
                [self._model.get_submodule(name).base for name in group.names]
                if isinstance(group, SlotGroup)
                else group.together.plain()
            )
            for name, layer in zip(group.names, layers, strict=True):
                _replace(self._model, name, layer)

    def _lay_out(self, group: SlotGroup | PackedGroup, weights: AdapterWeights) -> Factors | GatheredFactors | None:
        layers = [self._fitting(name, weights) for name in group.names]
        if not any(layers):
            return None
        inner, widths = self.shapes[group.names[0]][0], [self.shapes[name][1] for name in group.names]
        own = GroupWeights(layers, inner, widths, weights.scaling)
        if isinstance(group, SlotGroup):
            return Factors.of(own, self._device, self._dtype)
        return GatheredFactors.of(own, self._dtype)

    def _bounds(self, group: SlotGroup | PackedGroup, factors: Factors | GatheredFactors) -> bool:
        """Whether what the group's layers give shows that the factors' part is no danger; see `PreparedAdapter`."""
        least = min(self._norms.get(name, 0.0) for name in group.names)
        return self._dtype != torch.float16 and factors.gain <= MOST_GAIN * least

    def _fitting(self, name: str, weights: AdapterWeights) -> tuple[Tensor, Tensor] | None:
        """A and B of a layer, None where the adapter does not change it. Raises `CorruptVersion` for a wrong shape."""
        if name not in weights.layers:
            return None
        inner, outer = self.shapes[name]
        a, b = weights.layers[name]
        rank = a.shape[0]
        if a.shape != (rank, inner) or b.shape != (outer, rank) or not 1 <= rank <= self.max_rank:
            raise CorruptVersion(
                f"{name}: A is {list(a.shape)} and B {list(b.shape)}, where [r, {inner}] and [{outer}, r] "
                f"with r from 1 up to {self.max_rank} belong",
                hint="it was trained on another base",
            )
        return a, b


def attach(
    model: nn.Module,
    *,
    slots: int,
    max_rank: int,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    packed: bool = False,
    grouped_products: bool | None = None,
) -> SlotBank:
    """Wrap every target layer of `model` in place and return the bank of its `slots` slots.

    `dtype` is that of the adapters, by default the one the model computes in. `packed`: plain layers hold their weights
    as `packing` lays them out until `SlotBank.detach`, one group after the other; else nothing is copied.
    `grouped_products`: whether prompts have them beside layers that are not packed; by default where they pay.

    Raises `ValueError` if the model is wrapped already, or packed layers compute in another type than the adapters.
    """
    if any(isinstance(module, SlotLinear | PackedSlotLinear) for module in model.modules()):
        raise ValueError("the model serves adapters already; detach the other bank first")
    embedding: Tensor = model.get_input_embeddings().weight  # type: ignore[operator]
    groups: list[SlotGroup | PackedGroup] = []
    shapes: dict[str, tuple[int, int]] = {}
    norms: dict[str, float] = {}
    for names in grouped(target_modules(model)):
        layers = [model.get_submodule(name) for name in names]
        shapes |= {name: _shape(layer) for name, layer in zip(names, layers, strict=True)}
        plain = [(name, layer) for name, layer in zip(names, layers, strict=True) if type(layer) is nn.Linear]
        norms |= {name: norm_of(layer.weight) for name, layer in plain}
        together = pack(layers) if packed else None
        if together is not None and together.dtype != (dtype or embedding.dtype):
            raise ValueError(f"{names[0]} computes in {together.dtype}, adapters in {dtype or embedding.dtype}")
        if together is None:
            dense = SlotGroup(names)
            made: list[nn.Module] = [SlotLinear(layer, dense, place) for place, layer in enumerate(layers)]
            groups.append(dense)
        else:
            group = PackedGroup(names, together)
            made = [PackedSlotLinear(group, place) for place in range(len(names))]
            groups.append(group)
        for name, layer in zip(names, made, strict=True):
            _replace(model, name, layer)
    device, dtype = device or embedding.device, dtype or embedding.dtype
    return SlotBank(
        model,
        groups,
        shapes,
        norms,
        slots=slots,
        max_rank=max_rank,
        device=device,
        dtype=dtype,
        grouped_products=pays(device, dtype, shapes.values()) if grouped_products is None else grouped_products,
    )


def _shape(linear: Any) -> tuple[int, int]:
    return int(linear.in_features), int(linear.out_features)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)

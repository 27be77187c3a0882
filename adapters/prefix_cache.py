"""Keys and values of beginnings that a version's prompts share, so that they are computed once.

Prompts of one task often begin alike: with instructions, with examples, with the conversation so far. From the second
time on that a beginning is seen it is kept, and the next prompt starts behind it. It belongs to one slot, for what a
token's keys are depends on the adapter, and is dropped when the slot changes; the budget is in bytes, least recently
used first out. Touched by the engine's thread alone.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .cache import Columns

#: Tokens that a beginning has at least: fewer are computed as fast as copied.
LEAST_TOKENS: Final = 16
#: Prompts of a slot that a new one is compared with.
_SEEN: Final = 8


@dataclass(frozen=True, eq=False, slots=True)
class Beginning:
    """The first tokens of a prompt, with their keys and values."""

    slot: int
    tokens: tuple[int, ...]
    columns: Columns

    @property
    def bytes(self) -> int:
        """What keys and values take."""
        return sum(side.nbytes for sides in self.columns.values() for side in sides)


class PrefixCache:
    """Beginnings of up to `budget` bytes together; with 0 none."""

    def __init__(self, budget: int) -> None:
        self.budget: Final = budget
        self.bytes = 0
        """What those that are here take."""
        self._kept: OrderedDict[int, Beginning] = OrderedDict()  # least recently used first
        self._seen: defaultdict[int, deque[tuple[int, ...]]] = defaultdict(lambda: deque(maxlen=_SEEN))
        self._next = 0

    def find(self, slot: int, prompt: Sequence[int]) -> tuple[Beginning, int] | None:
        """What is kept of `prompt`, and how many of its tokens that is; never its last token, which is always read."""
        best, most = -1, 0
        for name, beginning in self._kept.items():
            if beginning.slot == slot and (count := _common(beginning.tokens, prompt, len(prompt) - 1)) > most:
                best, most = name, count
        if most < LEAST_TOKENS:
            return None
        self._kept.move_to_end(best)
        return self._kept[best], most

    def note(self, slot: int, prompt: Sequence[int], reused: int) -> int:
        """Note a prompt that was read, `reused` tokens of it from here; returns how many first ones to `keep` now."""
        if not self.budget:
            return 0
        seen = self._seen[slot]
        shared = max((_common(one, prompt, len(prompt) - 1) for one in seen), default=0)
        if len(prompt) > LEAST_TOKENS and tuple(prompt) not in seen:
            seen.append(tuple(prompt))
        return shared if shared - reused >= LEAST_TOKENS else 0

    def keep(self, slot: int, tokens: Sequence[int], columns: Columns) -> None:
        """Keep a beginning, in place of shorter ones that it begins with; one larger than the budget is not kept."""
        new = Beginning(slot, tuple(tokens), columns)
        for name, held in list(self._kept.items()):
            if held.slot == slot and held.tokens == new.tokens[: len(held.tokens)]:
                self._remove(name)
        if new.bytes > self.budget:
            return
        while self.bytes + new.bytes > self.budget:
            self._remove(next(iter(self._kept)))
        self._kept[self._next] = new
        self._next += 1
        self.bytes += new.bytes

    def drop(self, slot: int) -> None:
        """Forget what belongs to a slot whose adapter changes."""
        self._seen.pop(slot, None)
        for name in [name for name, held in self._kept.items() if held.slot == slot]:
            self._remove(name)

    def _remove(self, name: int) -> None:
        self.bytes -= self._kept.pop(name).bytes


def _common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """How many first tokens are the same, up to `most`."""
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if at == most or left != right:
            return at
    return min(len(one), len(other), most)

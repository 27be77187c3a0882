"""Versions kept in main memory when they have left their slot: the tier between the disk and the engine.

Reading a version from the disk means hashing, checking and laying out all of it; one that has answered before goes back
into a slot without. The budget is in bytes, and the version that left its slot first leaves first. Bookkeeping alone,
like the roster whose it is.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from .catalog import Key
from .lora import PreparedAdapter

_HOST: Final = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Held:
    """A version as it was read from the files with that digest, laid out for a slot."""

    digest: str
    adapter: PreparedAdapter
    template: Mapping[str, Any]


class HostCache:
    """Versions of up to `budget` bytes together. Not thread-safe."""

    def __init__(self, budget: int) -> None:
        self.budget: Final = budget
        self.bytes = 0
        """What those that are here take."""
        self._held: OrderedDict[Key, Held] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._held

    def put(self, key: Key, held: Held) -> None:
        """Keep a version, in place of those that came first if it must be; one larger than the budget is not kept."""
        self._remove(key)
        if held.adapter.bytes > self.budget:
            return
        while self.bytes + held.adapter.bytes > self.budget:
            self._remove(next(iter(self._held)))
        self._held[key] = replace(held, adapter=held.adapter.to(_HOST))
        self.bytes += held.adapter.bytes

    def take(self, key: Key, digest: str) -> Held | None:
        """Give a version out, if it is here with that digest; it is here no more."""
        held = self._remove(key)
        return held if held is not None and held.digest == digest else None

    def keep(self, servable: Callable[[Key], bool]) -> None:
        """Let go of all versions that are not `servable` any more."""
        for key in [key for key in self._held if not servable(key)]:
            self._remove(key)

    def _remove(self, key: Key) -> Held | None:
        held = self._held.pop(key, None)
        self.bytes -= held.adapter.bytes if held is not None else 0
        return held

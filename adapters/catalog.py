"""Which versions there are and where their aliases point, as the ledger last told it. Bookkeeping without threads.

An alias has two targets: the one it should have and the one it serves. They differ while the new target is
not ready: until then, and if it never is, the old one goes on answering. A task's canary takes a share of the requests
to its champion.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .errors import UnknownAdapter, VersionNotServable
from .refs import ALIASES, CANARY, CHAMPION, AdapterRef
from .states import VersionState

#: States whose files are there and may be served; a candidate or rejected one only to who asks for it by number.
SERVABLE = frozenset({VersionState.CANDIDATE, VersionState.REJECTED, VersionState.AVAILABLE})


class Key(NamedTuple):
    """A version of a task."""

    task: str
    version: int

    def __str__(self) -> str:
        return f"{self.task}@{self.version}"


@dataclass(frozen=True, slots=True)
class Served:
    """What an alias points at."""

    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A version as the ledger knows it."""

    version: int
    digest: str
    state: VersionState


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference means now; `alias` is empty for one that names a version."""

    key: Key
    digest: str
    alias: str


@dataclass(frozen=True, slots=True)
class AliasMove:
    """An alias began to serve another version; `source` is `None` if it served none."""

    task: str
    alias: str
    source: int | None
    target: int


class Catalog:
    """Tasks, their versions and their aliases. Not thread-safe: the manager calls it under its lock."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[int, VersionInfo]] = {}
        self._wanted: dict[str, dict[str, Served]] = {}
        self._served: dict[str, dict[str, Served]] = {}
        self._shares: dict[str, float] = {}
        self._forgotten: set[Key] = set()

    def set_versions(self, task: str, versions: Mapping[int, VersionInfo]) -> None:
        """Replace all that is known of a task's versions."""
        self._versions[task] = dict(versions)
        self._forgotten -= {Key(task, version) for version in versions}

    def set_aliases(self, task: str, aliases: Mapping[str, Served], canary_share: float = 0.0) -> None:
        """Say where a task's aliases should point; one that is not named is gone. `settle` acts on it.

        `canary_share` of the requests to the champion go to the canary, from when it serves.
        """
        self._wanted[task] = dict(aliases)
        self._shares[task] = canary_share
        served = self._served.setdefault(task, {})
        for alias in served.keys() - aliases.keys():
            del served[alias]

    def forget(self, key: Key) -> None:
        """Strike a version out, until `set_versions` names it again."""
        self._versions.get(key.task, {}).pop(key.version, None)
        self._forgotten.add(key)

    def settle(self, ready: Callable[[Key], bool]) -> list[AliasMove]:
        """Let each alias serve its target if that is `ready`, or if no older one can serve meanwhile."""
        moves = []
        for task, aliases in self._wanted.items():
            served = self._served[task]
            for alias, target in aliases.items():
                current = served.get(alias)
                if current == target:
                    continue
                keeps = current is not None and self.servable(Key(task, current.version))
                if not keeps or ready(Key(task, target.version)):
                    served[alias] = target
                    moves.append(AliasMove(task, alias, current.version if current else None, target.version))
        return moves

    def resolve(self, ref: AdapterRef, request_key: str, ready: Callable[[Key], bool]) -> Resolved:
        """What `ref`, which is not the base, means now; equal keys see the same side of a canary while it lasts.

        Who asks for the champion never waits for a canary that is not `ready`.

        Raises:
            UnknownAdapter: no such task, version or alias; the hint names those there are.
            VersionNotServable: the version is retired or deleted.
        """
        versions, served = self._versions.get(ref.task, {}), self._served.get(ref.task, {})
        if not versions and not served:
            tasks = sorted({task for task, known in (*self._versions.items(), *self._served.items()) if known})
            raise UnknownAdapter(
                f"there is no task {ref.task!r}",
                hint=f"the tasks are: {_listed(tasks)}" if tasks else "no task has a version yet",
                task=ref.task,
            )
        if ref.version is not None:
            if ref.version not in versions:
                raise UnknownAdapter(
                    f"{ref.task} has no version {ref.version}",
                    hint=f"its versions are: {_listed(map(str, sorted(versions)))}",
                    task=ref.task,
                    version=str(ref.version),
                )
            resolved = Resolved(Key(ref.task, ref.version), versions[ref.version].digest, "")
        else:
            alias = ref.alias or ""
            canary = served.get(CANARY)
            if (
                alias == CHAMPION
                and canary is not None
                and _falls(request_key, canary, self._shares[ref.task])
                and ready(Key(ref.task, canary.version))
            ):
                alias = CANARY
            if alias not in served:
                there = [f"{name} (version {to.version})" for name, to in sorted(served.items())]
                raise UnknownAdapter(
                    f"{ref.task} has no {alias}",
                    hint=f"its aliases are: {_listed(there)}" if there else f"{ref.task} has no promoted version yet",
                    task=ref.task,
                    alias=alias,
                )
            resolved = Resolved(Key(ref.task, served[alias].version), served[alias].digest, alias)
        info = versions.get(resolved.key.version)
        if info is not None and info.state not in SERVABLE:
            raise VersionNotServable(
                f"{resolved.key} is {info.state.value}",
                hint=f"name another version of {ref.task}, or revert to this one",
                task=ref.task,
                version=str(resolved.key.version),
                state=info.state.value,
            )
        return resolved

    def servable(self, key: Key) -> bool:
        """Whether nothing speaks against a version: it is not retired, deleted or forgotten."""
        info = self._versions.get(key.task, {}).get(key.version)
        return key not in self._forgotten and (info is None or info.state in SERVABLE)

    def pinned(self, capacity: int) -> dict[Key, str]:
        """The versions to keep in the engine, with their digests: champions, then canaries, then those before them.

        One of the `capacity` slots is left for a version to come in beside those it will replace.
        """
        keys: dict[Key, str] = {}
        for alias in ALIASES:
            for task in sorted(self._served):
                target = self._served[task].get(alias)
                if target is not None and self.servable(Key(task, target.version)):
                    keys.setdefault(Key(task, target.version), target.digest)
        return dict(list(keys.items())[: max(0, capacity - 1)])

    def pending(self) -> dict[Key, str]:
        """The versions, with their digests, that aliases wait for."""
        return {
            Key(task, target.version): target.digest
            for task, aliases in self._wanted.items()
            for alias, target in aliases.items()
            if self._served[task].get(alias) != target and self.servable(Key(task, target.version))
        }


def _falls(request_key: str, canary: Served, share: float) -> bool:
    """Whether a key is among the `share` of all keys that ask a canary: others for each canary."""
    digest = hashlib.sha256(f"{canary.digest}/{request_key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def _listed(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

"""What stands between a version's files and its first request: reading, checking, a forward to try it if need be."""

import math
from typing import Final

from .catalog import Key
from .engine import Engine
from .errors import BaseMismatch, CorruptVersion, ServingError, VersionNotServable
from .host_cache import Held
from .requests import Scoring
from .store import Store

#: Seconds that a version may take to come in, the engine's steps before a forward that tries it included.
LOAD_S: Final = 120.0


def read_version(engine: Engine, store: Store, key: Key, *, digest: str, fingerprint: str) -> Held:
    """A version from the store, checked against its digest and the base and laid out for the engine.

    Raises:
        BaseMismatch: it belongs to another base.
        CorruptVersion: its files are not what was published, or do not fit.
    """
    try:
        trained_on = store.manifest(key.task, key.version)["base"]["fingerprint"]
        if trained_on != fingerprint:
            raise BaseMismatch(
                f"{key} was trained on the base {trained_on}, and {fingerprint} is loaded",
                hint="serve it with the base and quantization that it was trained on, or train the task anew",
                task=key.task,
                version=str(key.version),
            )
        adapter = store.laid_out(key.task, key.version, digest=digest, shapes=engine.shapes, lay_out=engine.prepare)
        return Held(digest, adapter, store.template(key.task, key.version))
    except ServingError:
        raise
    except (ValueError, LookupError, TypeError) as error:
        raise CorruptVersion(
            f"{key} cannot be read: {type(error).__name__}: {error}",
            hint=f"look into {store.folder(key.task, key.version)}",
            task=key.task,
            version=str(key.version),
        ) from error


def try_out(engine: Engine, key: Key, slot: int, timeout: float = LOAD_S) -> None:
    """Run one forward through a freshly written slot: for what is not `PreparedAdapter.bounded`.

    Raises:
        CorruptVersion: what comes out is not finite.
        VersionNotServable: nothing comes out within `timeout` seconds.
    """
    ticket = engine.submit(Scoring(f"trial:{key}", slot, [0], [[0]]), urgent=True)
    if not ticket.wait(timeout):
        ticket.cancel()
        raise VersionNotServable(
            f"{key} gave no answer within {timeout:.0f} s of being loaded",
            hint="the engine is overloaded; try again",
            task=key.task,
            version=str(key.version),
        )
    if not all(map(math.isfinite, ticket.result())):
        raise CorruptVersion(f"{key} gives values that are not finite", hint="revert the task to an earlier version")

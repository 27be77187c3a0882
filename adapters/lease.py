"""The right of one request to use one version, from its start to its end."""

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self


class Lease:
    """A version held for a request: it stays in its slot, and the request with it, wherever the aliases go meanwhile.

    A context manager; leaving it, or `release`, gives the version back. `task` is empty, `version` 0, `digest` the
    fingerprint and `template` empty for the base; `alias` is empty for a version asked for by number.
    """

    def __init__(
        self,
        *,
        slot: int,
        task: str,
        version: int,
        digest: str,
        alias: str,
        template: Mapping[str, Any],
        release: Callable[[], None],
    ) -> None:
        self.slot: Final = slot
        self.task: Final = task
        self.version: Final = version
        self.digest: Final = digest
        self.alias: Final = alias
        self.template: Final = template
        self._lock = threading.Lock()
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give the version back, once: later calls do nothing, whichever thread they come from."""
        with self._lock:
            release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

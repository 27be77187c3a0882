"""A real daemon for the length of a measurement."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from examples.daemon_process import DaemonProcess, share_bases


@contextmanager
def fresh_daemon(purpose: str, bases: Path | None, settings: Mapping[str, Any]) -> Iterator[DaemonProcess]:
    """A daemon that has not been started, on a state folder that goes with it; it is stopped in the end.

    `bases`: see `share_bases`. `settings`: those that differ from the defaults.
    """
    with tempfile.TemporaryDirectory(prefix=f"adapterd-{purpose}-") as folder:
        state = Path(folder)
        share_bases(state, bases)
        daemon = DaemonProcess(state, settings)
        try:
            yield daemon
        finally:
            daemon.stop()

"""What the daemon tells systemd, by the sd_notify protocol: a datagram of `NAME=value` lines to `$NOTIFY_SOCKET`.

Started by hand there is no `$NOTIFY_SOCKET`, and every function here does nothing. The protocol, its names and its
units: sd_notify(3), sd_watchdog_enabled(3) and systemd.service(5), `Type=notify-reload`.
"""

import os
import socket
import time
from collections.abc import Mapping

from .errors import ConfigError

_PATIENCE_S = 1.0  # with a reader whose queue is full


def ready(status: str = "") -> bool:
    """Start-up, or a reload, is over. True if systemd was told."""
    return _send(READY="1", STATUS=status)


def reloading(status: str = "") -> bool:
    """The settings are being read again; `ready` must follow. True if systemd was told."""
    return _send(RELOADING="1", MONOTONIC_USEC=str(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000), STATUS=status)


def stopping(status: str = "") -> bool:
    """The daemon is on its way out. True if systemd was told."""
    return _send(STOPPING="1", STATUS=status)


def status(text: str) -> bool:
    """One line for `systemctl status`. True if systemd was told."""
    return _send(STATUS=text)


def alive() -> bool:
    """Feed the watchdog: send it only while every loop's heartbeat is fresh. True if systemd was told."""
    return _send(WATCHDOG="1")


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between two `alive()`: half of what systemd allows, as it advises. None: no watchdog watches us.

    `$WATCHDOG_PID`, where given, must be this process: a child inherits the variables, and not the duty.
    Raises `ConfigError` if a variable is set and no positive number.
    """
    if not (limit := environ.get("WATCHDOG_USEC")):
        return None
    pid = environ.get("WATCHDOG_PID")
    for name, value in (("WATCHDOG_USEC", limit), ("WATCHDOG_PID", pid or "1")):
        if not (value.isascii() and value.isdigit() and int(value) > 0):
            raise ConfigError(f"${name} is {value!r}, no positive number", hint="systemd sets it; remove it elsewhere")
    if pid and int(pid) != os.getpid():
        return None
    return int(limit) / 1_000_000 / 2


def _send(**fields: str) -> bool:
    """One datagram with the fields that are not empty; True if it was handed over, False without `$NOTIFY_SOCKET` or
    where its reader's queue stays full.

    Raises `ConfigError` if nobody holds the socket: a service that believes it reports, and does not, would be killed
    by the watchdog without a word in its log.
    """
    if not (path := os.environ.get("NOTIFY_SOCKET")):
        return False
    # A leading @ stands for the NUL byte of Linux's abstract namespace.
    address = "\0" + path[1:] if path.startswith("@") else path
    lines = "\n".join(f"{name}={' '.join(value.splitlines())}" for name, value in fields.items() if value)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as peer:
        # A manager that does not read must not hold up the daemon, which listens to signals on this very thread.
        peer.settimeout(_PATIENCE_S)
        try:
            peer.sendto(lines.encode(), address)
        except TimeoutError:
            return False
        except OSError as error:
            raise ConfigError(
                f"cannot reach $NOTIFY_SOCKET {path}: {error}", hint="started by hand, unset NOTIFY_SOCKET"
            ) from error
    return True

"""Where the daemon listens: a Unix socket, or a port of this machine alone.

There is no way to listen on a network: whoever reaches the port can do everything, so a machine in between has to
say who may (an SSH tunnel, a proxy that authenticates).
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from .errors import ConfigError

_MAX_SOCKET_PATH: Final = 107  # bytes that `sockaddr_un.sun_path` holds, its final NUL aside
_RULE: Final = "write unix:/path/of/the.sock, or 127.0.0.1:PORT; port 0 takes a free one"


@dataclass(frozen=True)
class Address:
    """A Unix socket (`path` is set), or a port on a loopback address (`host` and `port` are)."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    @property
    def target(self) -> str:
        """The address as gRPC takes it, whatever characters the path is made of."""
        if self.path is not None:
            return f"unix:{quote(str(self.path))}"
        return f"{self._host}:{self.port}"

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path is not None else f"{self._host}:{self.port}"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_address(text: str) -> Address:
    """Read `unix:/path`, `127.0.0.1:50051`, `[::1]:50051` or `localhost:50051`.

    Raises `ConfigError` for everything else, addresses that other machines can reach among it.
    """
    if text.startswith("unix:"):
        return _unix(text.removeprefix("unix:"), text)
    host, colon, digits = text.rpartition(":")
    if not colon or not (digits.isascii() and digits.isdigit()) or int(digits) > 0xFFFF:
        raise ConfigError(f"{text!r} is no address to listen at", hint=_RULE, address=text)
    # The name is resolved here and not by gRPC, so that no hosts file makes it mean another machine.
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"{text!r} is not on this machine alone: the daemon listens on a Unix socket or a loopback address",
            hint=f"{_RULE}; reach it from elsewhere through an SSH tunnel or a proxy that authenticates",
            address=text,
        )
    return Address(host=host, port=int(digits))


def _unix(path: str, text: str) -> Address:
    if path.startswith("///"):
        path = path[2:]
    absolute = Path(path).absolute()
    if not path or path.startswith("//") or "\0" in path:
        raise ConfigError(f"{text!r} names no socket", hint=_RULE, address=text)
    if (length := len(str(absolute).encode("utf-8", "surrogateescape"))) > _MAX_SOCKET_PATH:
        raise ConfigError(
            f"the socket's path {absolute} has {length} bytes, and a Unix socket's may have {_MAX_SOCKET_PATH}",
            hint="set `address` to a shorter one, for example under /run",
            address=text,
        )
    return Address(path=absolute)

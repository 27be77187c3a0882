"""Where the daemon listens: a Unix socket, or a port of this machine alone; and, besides, for other machines, by TLS.

Nothing is listened for on a network without TLS and without knowing who calls (`serving_sections.Access` sees to that).
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from .errors import ConfigError

_MAX_SOCKET_PATH: Final = 107  # bytes that `sockaddr_un.sun_path` holds, its final NUL aside
TLS: Final = "tls:"
"""Begins a client's address of a daemon on another machine."""

_REMOTE_RULE: Final = "write tls:gpu1.example.org:50051, or for the daemon 0.0.0.0:50051"
_RULE: Final = "write unix:/path/of/the.sock, or 127.0.0.1:PORT; port 0 takes a free one"


@dataclass(frozen=True)
class Address:
    """A Unix socket (`path` is set), or a port (`host` and `port` are): on a loopback address, or anywhere by `tls`."""

    path: Path | None = None
    host: str = ""
    port: int = 0
    tls: bool = False

    @property
    def target(self) -> str:
        """The address as gRPC takes it, whatever characters the path is made of."""
        if self.path is not None:
            return f"unix:{quote(str(self.path))}"
        return f"{self._host}:{self.port}"

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"{TLS if self.tls else ''}{self._host}:{self.port}"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_address(text: str) -> Address:
    """Read `unix:/path`, `127.0.0.1:50051`, `[::1]:50051` or `localhost:50051`.

    Raises `ConfigError` for everything else, addresses that other machines can reach among it.
    """
    if text.startswith("unix:"):
        return _unix(text.removeprefix("unix:"), text)
    host, port = _host_and_port(text, text, _RULE)
    # The name is resolved here and not by gRPC, so that no hosts file makes it mean another machine.
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"{text!r} is not on this machine alone: the daemon listens on a Unix socket or a loopback address",
            hint=f"{_RULE}; for other machines, set access.address",
            address=text,
        )
    return Address(host=host, port=port)


def parse_remote(text: str) -> Address:
    """Read `tls:HOST:PORT`, HOST a name, an address or one in brackets; "tls:" may be missing. Raises `ConfigError`."""
    host, port = _host_and_port(text.removeprefix(TLS), text, _REMOTE_RULE)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not all(char.isascii() and (char.isalnum() or char in "-._:%") for char in host):
        raise ConfigError(f"{text!r} names no machine", hint=_REMOTE_RULE, address=text)
    return Address(host=host, port=port, tls=True)


def parse_any(text: str) -> Address:
    """What a client may be told: as `parse_remote` if it begins with "tls:", else as `parse_address`."""
    return parse_remote(text) if text.startswith(TLS) else parse_address(text)


def _host_and_port(text: str, said: str, rule: str) -> tuple[str, int]:
    host, colon, digits = text.rpartition(":")
    if not colon or not (digits.isascii() and digits.isdigit()) or int(digits) > 0xFFFF:
        raise ConfigError(f"{said!r} is no address", hint=rule, address=said)
    return host, int(digits)


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

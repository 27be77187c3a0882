"""TLS: what the server shows and whom it trusts, read again at SIGHUP; and what a client shows and trusts."""

from pathlib import Path
from typing import Final

import grpc

from .errors import ConfigError
from .serving_sections import Access, Client

_MAX_BYTES: Final = 1 << 20


class Certificates:
    """The server's credentials, whose certificate may be renewed while it runs: each handshake takes the newest.

    Raises `ConfigError` for a file that cannot be read, from `use` too, which then changes nothing.
    """

    def __init__(self, settings: Access) -> None:
        self._client_ca = bool(settings.client_ca)
        self.use(settings)

    def use(self, settings: Access) -> None:
        """Read certificate, key and the authority of clients' certificates again."""
        pair = (_read(settings.key, "access.key"), _read(settings.certificate, "access.certificate"))
        authority = _read(settings.client_ca, "access.client_ca") if settings.client_ca else None
        self._newest = grpc.ssl_server_certificate_configuration([pair], root_certificates=authority)

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`. With an authority set, every client must show a certificate that it has signed."""
        return grpc.dynamic_ssl_server_credentials(
            self._newest, lambda: self._newest, require_client_authentication=self._client_ca
        )


def channel_credentials(settings: Client) -> grpc.ChannelCredentials:
    """What a client trusts and shows. Raises `ConfigError` for a file that cannot be read."""
    return grpc.ssl_channel_credentials(
        root_certificates=_read(settings.ca, "client.ca") if settings.ca else None,
        private_key=_read(settings.key, "client.key") if settings.key else None,
        certificate_chain=_read(settings.certificate, "client.certificate") if settings.certificate else None,
    )


def read_token(settings: Client) -> str:
    """The token that a client shows; empty if none is set. Raises `ConfigError` for a file that cannot be read."""
    if not settings.token_file:
        return ""
    token = _read(settings.token_file, "client.token_file").decode("ascii", "replace").strip()
    if not token.isprintable() or not token.isascii() or " " in token:
        raise ConfigError(f"{settings.token_file} holds no token", hint="one line, as `adapterd token new` printed it")
    return token


def _read(path: str, setting: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise ConfigError(
            f"cannot read {setting} = {path}: {error.strerror}", hint="name a file that is there"
        ) from error

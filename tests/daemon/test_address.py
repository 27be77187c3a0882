"""Addresses."""

from pathlib import Path
from urllib.parse import quote

import pytest
from adapterd.daemon.address import Address, parse_address
from adapterd.daemon.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "address", "target"),
    [
        ("unix:/run/a.sock", Address(path=Path("/run/a.sock")), "unix:/run/a.sock"),
        ("unix:///run/a.sock", Address(path=Path("/run/a.sock")), "unix:/run/a.sock"),
        ("unix:a b%.sock", Address(path=Path.cwd() / "a b%.sock"), f"unix:{quote(str(Path.cwd()))}/a%20b%25.sock"),
        ("127.0.0.1:50051", Address(host="127.0.0.1", port=50051), "127.0.0.1:50051"),
        ("127.1.2.3:0", Address(host="127.1.2.3"), "127.1.2.3:0"),
        ("localhost:1", Address(host="127.0.0.1", port=1), "127.0.0.1:1"),
        ("[::1]:1", Address(host="::1", port=1), "[::1]:1"),
    ],
)
def test_addresses_of_this_machine_are_read(text: str, address: Address, target: str) -> None:
    assert parse_address(text) == address
    assert address.target == target
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "example.org:1", "10.0.0.1:50051", "[::ffff:1.2.3.4]:1"],
)
def test_addresses_that_others_can_reach_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="this machine alone"):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    ["", "unix:", "unix://host/a.sock", "unix:a\0b", "127.0.0.1", "127.0.0.1:", ":1", "127.0.0.1:x", "127.0.0.1:65536",
     "127.0.0.1:-1", "127.0.0.1:²", "unix-abstract:a", "dns:///localhost:1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(text)


def test_a_path_longer_than_a_socket_may_have_is_refused_with_its_length() -> None:
    with pytest.raises(ConfigError, match="108 bytes"):
        parse_address("unix:/" + "a" * 107)
    parse_address("unix:/" + "a" * 106)

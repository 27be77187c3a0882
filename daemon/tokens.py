"""Tokens: random ones that are shown once, and a file that keeps their hashes.

A line of the file is `NAME ROLE SHA256 [EXPIRES]`, EXPIRES a date (UTC) up to whose end it holds; "#" begins a comment.
A token has 256 random bits, so that its plain sha256 tells nothing of it, and no slow hash is needed (NIST SP 800-63B,
section 5.1.2.2, on look-up secrets).
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from ..adapters.durable import write_atomic
from .errors import ConfigError

PREFIX: Final = "adapterd_"
"""Begins every token, so that scanners for secrets, our own audit among them, know one."""

ROLES: Final = ("infer", "submit", "admin")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_BYTES: Final = 32
_MAX_FILE_BYTES: Final = 1 << 20
_HEADER: Final = "# NAME ROLE SHA256 [EXPIRES], made by `adapterd token new`"


@dataclass(frozen=True, slots=True)
class Token:
    """A line of the file; `expires` in unix seconds, 0: never."""

    name: str
    role: str
    sha256: str
    expires: float = 0.0


def read_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of a file. Raises `ConfigError` if it is not there, not one of ours, or others may write to it."""
    try:
        status = path.stat()
        if status.st_mode & stat.S_IWOTH:
            raise ConfigError(f"everybody may write to {path}, and so make tokens", hint=f"chmod o-w {path}")
        if status.st_size > _MAX_FILE_BYTES:
            raise ConfigError(f"{path} has {status.st_size} bytes, too many for tokens", hint="name the right file")
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the tokens in {path}: {error}", hint="`adapterd token new` makes the file"
        ) from error
    tokens = [
        _parse(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.partition("#")[0].split()
    ]
    names = [token.name for token in tokens]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{path} has two tokens of {twice}", hint="remove one: a name tells who did what")
    return tuple(tokens)


def holder(presented: str, tokens: Sequence[Token]) -> Token | None:
    """The token that was presented, expired or not. All are compared, each in constant time."""
    digest = hashlib.sha256(presented.encode(errors="surrogateescape")).hexdigest()
    found = None
    for token in tokens:
        if hmac.compare_digest(token.sha256, digest):
            found = token
    return found


def add_token(path: Path, name: str, role: str, days: int | None = None, today: date | None = None) -> str:
    """Make a token of `name`, in the place of one that it has, write its hash to the file and return the token.

    Raises `ConfigError` for a wrong name or role, and as `read_tokens` does.
    """
    _check(name, role, f"the token of {name}")
    secret = PREFIX + secrets.token_urlsafe(_BYTES)
    fields = [name, role, hashlib.sha256(secret.encode()).hexdigest()]
    if days is not None:
        fields.append(((today or datetime.now(UTC).date()) + timedelta(days=days)).isoformat())
    _replace(path, name, " ".join(fields))
    return secret


def remove_token(path: Path, name: str) -> None:
    """Take the token of `name` out of the file. Raises `ConfigError` if it has none, and as `read_tokens` does."""
    if name not in {token.name for token in read_tokens(path)}:
        raise ConfigError(f"{path} has no token of {name}", hint="`adapterd token list` shows all")
    _replace(path, name, None)


def _replace(path: Path, name: str, line: str | None) -> None:
    """Write the file anew; comments and order, owner, group and mode stay: the daemon may read it as before."""
    before = path.stat() if path.exists() else None
    if before:
        read_tokens(path)  # a file that is not ours is not written over
    lines = path.read_text("utf-8").splitlines() if before and before.st_size else [_HEADER]
    kept = [old for old in lines if old.partition("#")[0].split()[:1] != [name]]
    write_atomic(path, ("\n".join([*kept, *([line] if line else [])]) + "\n").encode())
    if before:
        for user, group in ((-1, before.st_gid), (before.st_uid, -1)):
            with suppress(PermissionError):  # who may not give a file away owns the new one, as after any editor
                os.chown(path, user, group)
    path.chmod(stat.S_IMODE(before.st_mode) if before else 0o640)


def _parse(line: str, where: str) -> Token:
    fields = line.partition("#")[0].split()
    if not 3 <= len(fields) <= 4 or not _HASH.fullmatch(fields[2]):
        raise ConfigError(f"{where} is no token: NAME ROLE SHA256 [EXPIRES]", hint="`adapterd token new` writes lines")
    name, role, sha256 = fields[:3]
    _check(name, role, where)
    expires = 0.0
    if len(fields) == 4:
        try:
            last = datetime.combine(date.fromisoformat(fields[3]), datetime.min.time(), UTC)
        except ValueError as error:
            raise ConfigError(f"{where}: {fields[3]} is no date", hint="write it like 2027-01-31") from error
        expires = (last + timedelta(days=1)).timestamp()
    return Token(name, role, sha256, expires)


def _check(name: str, role: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: {name!r} is no name", hint="letters, digits and . _ @ -, 63 at most")
    if role not in ROLES:
        raise ConfigError(f"{where}: {role!r} is no role", hint=f"one of {', '.join(ROLES)}")

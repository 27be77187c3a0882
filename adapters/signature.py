"""Who vouches for an adapter that comes from elsewhere: a `SHA256SUMS` over its files, signed with an SSH key.

    sha256sum adapter_model.safetensors adapter_config.json > SHA256SUMS
    ssh-keygen -Y sign -n adapterd -f ~/.ssh/id_ed25519 SHA256SUMS

The daemon asks `ssh-keygen -Y verify` with a file of allowed signers (ssh-keygen(1), "ALLOWED SIGNERS"), as git does
for commits: keys that people have, with their dates and revocations, and no cryptography of our own.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Final

from .errors import UnsafeImport
from .peft_files import CONFIG, MAX_WEIGHTS_BYTES, WEIGHTS
from .strict_files import MAX_JSON_BYTES, UnfitError, read_regular

SUMS: Final = "SHA256SUMS"
SIGNATURE: Final = "SHA256SUMS.sig"
NAMESPACE: Final = "adapterd"
"""What the key was used for: a signature made for something else does not count."""

_SIGNED: Final = (WEIGHTS, CONFIG)
_READ: Final = (*_SIGNED, "template.json", "manifest.json")
_PATIENCE_S: Final = 10.0


def check_signature(folder: Path, signers: Path) -> str:
    """The principal, of those in the file `signers`, who vouches for the adapter in `folder`.

    Raises `UnsafeImport` if nobody does, or a file that is read is not what was signed.
    """
    if shutil.which("ssh-keygen") is None:
        raise _refused("ssh-keygen is not installed, which checks signatures", "install OpenSSH's client")
    try:
        sums = read_regular(folder / SUMS, MAX_JSON_BYTES)
        read_regular(folder / SIGNATURE, MAX_JSON_BYTES)
        signed = dict(_parse(line) for line in sums.decode().splitlines() if line.strip())
        for name in _READ:
            if name in _SIGNED or (folder / name).exists():
                content = read_regular(folder / name, MAX_WEIGHTS_BYTES)
                if signed.get(name) != hashlib.sha256(content).hexdigest():
                    raise UnfitError(f"{name} is not what {SUMS} says" if name in signed else f"{SUMS} lacks {name}")
    except (UnfitError, UnicodeDecodeError) as failure:
        raise _refused(str(failure), _HOW) from failure
    found = _ask(folder, sums, "find-principals", "-f", str(signers))
    principal = found.stdout.decode(errors="replace").splitlines()[0].strip() if not found.returncode else ""
    verified = _ask(folder, sums, "verify", "-f", str(signers), "-I", principal) if principal else found
    if verified.returncode:
        said = (verified.stderr or verified.stdout).decode(errors="replace").strip()[:300]
        raise _refused(f"its signature is none of {signers}: {said}", _HOW)
    return principal


def _ask(folder: Path, sums: bytes, what: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = ["ssh-keygen", "-Y", what, *options, "-n", NAMESPACE, "-s", str(folder / SIGNATURE)]
    try:
        return subprocess.run(command, input=sums, capture_output=True, check=False, timeout=_PATIENCE_S)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise _refused(f"its signature cannot be checked: {failure}", "try again") from failure


def _parse(line: str) -> tuple[str, str]:
    """Name and hash of a line of sha256sum's, binary or text."""
    sha256, _, name = line.partition(" ")
    if len(sha256) != hashlib.sha256().digest_size * 2:
        raise UnfitError(f"{SUMS} has a line that sha256sum did not write: {line[:80]!r}")
    return name.removeprefix(" ").removeprefix("*").removeprefix("./"), sha256.lower()


_HOW: Final = f"put {SUMS} over its files and {SIGNATURE}, made by `ssh-keygen -Y sign -n {NAMESPACE}`, beside them"


def _refused(message: str, hint: str) -> UnsafeImport:
    return UnsafeImport(f"the adapter is not signed as access.signers wants it: {message}", hint=hint)

"""Keys and signatures with OpenSSH's own tool, as a person makes them."""

import subprocess
from pathlib import Path

from adapterd.adapters.peft_files import CONFIG, WEIGHTS
from adapterd.adapters.signature import SIGNATURE, SUMS


def key(folder: Path, name: str) -> Path:
    """A new key pair of `name`; the path of the private one."""
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path], check=True)
    return path


def allow(key: Path, path: Path) -> Path:
    """Write a file of allowed signers with one, ada@example.org, by this key; return it."""
    path.write_text(f'ada@example.org namespaces="adapterd" {key.with_suffix(".pub").read_text()}')
    return path


def sign(folder: Path, by: Path, *, namespace: str = "adapterd", names: tuple[str, ...] = (WEIGHTS, CONFIG)) -> None:
    """Put `SHA256SUMS` over `names` and its signature into a folder, anew."""
    sums = subprocess.run(["sha256sum", *names], cwd=folder, check=True, capture_output=True).stdout
    (folder / SUMS).write_bytes(sums)
    (folder / SIGNATURE).unlink(missing_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", by, folder / SUMS], check=True, capture_output=True
    )

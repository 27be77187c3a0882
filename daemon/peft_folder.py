"""A folder on the person's side of an export or import."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from adapterd.v1 import adapters_pb2

from ..adapters.durable import TEMP_PREFIX
from ..adapters.errors import UnsafeImport
from .errors import NotAllowed
from .transfer import pack

_ADAPTER: Final = ("adapter_config.json", "adapter_model.safetensors")
_BESIDES: Final = (
    *("template.json", "manifest.json"),  # there if the folder is an export of ours
    *("SHA256SUMS", "SHA256SUMS.sig"),  # there if somebody vouches for it, see `adapters.signature`
)
_FILE_MODE: Final = 0o666
_EMPTY: Final = "name a folder that is empty or does not exist"


def adapter_files(folder: Path) -> list[Path]:
    """The files of a PEFT folder that an import takes; what else lies there (checkpoints, a model card) stays.

    Raises `UnsafeImport` if it is no PEFT folder, or if its weights are no safetensors file.
    """
    missing = [name for name in _ADAPTER if not (folder / name).is_file()]
    if "adapter_model.safetensors" in missing and (folder / "adapter_model.bin").exists():
        raise UnsafeImport(
            f"{folder} holds its weights as a pickle (adapter_model.bin), which is never loaded",
            hint="save it again with PEFT: model.save_pretrained(folder, safe_serialization=True)",
        )
    if missing:
        raise UnsafeImport(
            f"{folder} is no adapter as PEFT saves it: {' and '.join(missing)} missing",
            hint="name the folder that holds adapter_config.json and adapter_model.safetensors",
        )
    return [folder / name for name in (*_ADAPTER, *_BESIDES) if (folder / name).is_file()]


def packed_adapter(folder: Path) -> Iterator[bytes]:
    """A tar of `adapter_files`, in pieces. Raises `UnsafeImport` at the first piece."""
    files = adapter_files(folder)
    with tempfile.TemporaryDirectory(prefix="adapterd-import-") as temp:
        for path in files:
            (Path(temp) / path.name).symlink_to(path.absolute())
        yield from pack(Path(temp))


def import_requests(task: str, folder: Path) -> Iterator[adapters_pb2.ImportRequest]:
    """What `Import` takes: the task first, then the `packed_adapter`."""
    yield adapters_pb2.ImportRequest(task=task)
    for piece in packed_adapter(folder):
        yield adapters_pb2.ImportRequest(chunk=piece)


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """A folder to fill with files; they move to `target` at the end; after an exception nothing is left of them.

    Raises `NotAllowed`, before anything is done, if `target` exists and is no empty folder.
    """
    existed = target.exists()
    if existed and not target.is_dir():
        raise NotAllowed(f"{target} is a file", hint=_EMPTY)
    if existed and any(target.iterdir()):
        raise NotAllowed(f"{target} is not empty", hint=_EMPTY)
    temp = target / f"{TEMP_PREFIX}incoming"
    temp.mkdir(parents=True)
    try:
        yield temp
        for path in sorted(temp.iterdir()):
            path.chmod(_FILE_MODE & ~_umask())  # as any file that this person makes: another server may have to read it
            path.rename(target / path.name)
        temp.rmdir()
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        if not existed:
            shutil.rmtree(target, ignore_errors=True)
        raise


def _umask() -> int:
    """What this person takes away from the mode of new files; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask

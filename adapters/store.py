"""The versions on disk: `<root>/<task>/<000007>/`, published whole, never changed, checked whenever they are read.

adapter_model.safetensors   \\ loads in plain PEFT
adapter_config.json         /
template.json               how rows became tokens
fisher.safetensors          what the next version must not unlearn; not in every version
manifest.json               where it came from, and the sha256 of the others; written last
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from .durable import fsync_folder, make_folder, publish_folder, remove_unfinished, temp_name
from .errors import BadRequest, CorruptVersion, IllegalTransition
from .failpoints import failpoint
from .importing import Imported, read_import
from .peft_files import (
    CONFIG,
    MAX_WEIGHTS_BYTES,
    WEIGHTS,
    AdapterWeights,
    digest_of,
    parse_weights,
)
from .refs import MAX_VERSION, check_task
from .strict_files import MAX_JSON_BYTES, UnfitError, parse_object, read_regular

__all__ = ["CONFIG", "FISHER", "MANIFEST", "TEMPLATE", "WEIGHTS", "AdapterWeights", "Store"]

TEMPLATE: Final = "template.json"
FISHER: Final = "fisher.safetensors"
MANIFEST: Final = "manifest.json"

Layout = TypeVar("Layout")

_FORMAT: Final = 1
_FOLDER_MODE: Final = 0o750
_FILE_MODE: Final = 0o640


class Store:
    """The versions below one folder. Publishing, deleting and exporting may run beside loading of other versions."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, task: str, version: int) -> Path:
        """Where the version lies, or would. Raises `BadRequest` for what cannot be a task or version."""
        check_task(task)
        if not 1 <= version <= MAX_VERSION:
            raise BadRequest(
                f"{version} is not a version", hint=f"versions count from 1 to {MAX_VERSION}", field="version"
            )
        return self._root / task / f"{version:06d}"

    def publish(
        self,
        task: str,
        version: int,
        *,
        weights: Path,
        config: Mapping[str, Any],
        template: Mapping[str, Any],
        manifest: Mapping[str, Any],
        fisher: Path | None,
    ) -> str:
        """Make a version of a PEFT config and weights file, and return its digest; it is on the disk afterwards.

        The manifest gets `format`, `digest` and `files` (sha256 by name). Publishing the same weights and config
        again changes nothing, so a step that was cut off after it may run again.

        Raises:
            CorruptVersion: the adapter is not fit to be served: values that are not finite, shapes, no plain LoRA.
            IllegalTransition: the version is there already with other weights.
            OSError: the disk is full, or the like; nothing is left behind.
            DiskFailure: the disk did not keep what was written.
        """
        final = self.folder(task, version)
        try:
            data = read_regular(weights, MAX_WEIGHTS_BYTES)
            parse_weights(data, config)
        except UnfitError as failure:
            raise CorruptVersion(
                f"{task}@{version} cannot be published: {failure}",
                hint="train or export the adapter anew",
                task=task,
                version=str(version),
            ) from failure
        digest = digest_of(data, config)
        if final.exists():
            return self._published_before(task, version, digest)
        files = {WEIGHTS: data, CONFIG: _pretty(config), TEMPLATE: _pretty(template)}
        if fisher is not None:
            files[FISHER] = fisher.read_bytes()
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        # The last of all: without a manifest a folder is no version.
        files[MANIFEST] = _pretty({**manifest, "format": _FORMAT, "digest": digest, "files": hashes})
        make_folder(final.parent, _FOLDER_MODE)
        temp = final.with_name(temp_name(final.name))
        temp.mkdir(mode=_FOLDER_MODE)
        try:
            for name, content in files.items():
                _write(temp / name, content)
            failpoint("version.written")
            publish_folder(temp, final)
            failpoint("version.renamed")
        except BaseException:
            shutil.rmtree(temp, ignore_errors=True)
            raise
        return digest

    def manifest(self, task: str, version: int) -> dict[str, Any]:
        """The version's manifest. Raises `CorruptVersion` if it is missing or not one of ours."""
        manifest = self._read_json(task, version, MANIFEST)
        if manifest.get("format") != _FORMAT or not isinstance(manifest.get("digest"), str):
            raise self._corrupt(task, version, f"{MANIFEST} is not in format {_FORMAT}")
        return manifest

    def template(self, task: str, version: int) -> dict[str, Any]:
        """The version's template. Raises `CorruptVersion` if it is not what was published."""
        return self._read_json(task, version, TEMPLATE, self._hash(task, version, TEMPLATE))

    def load(
        self, task: str, version: int, *, digest: str, shapes: Mapping[str, tuple[int, int]] | None
    ) -> AdapterWeights:
        """The version's weights, if they are those of `digest` (which the ledger keeps) and fit to be served.

        `shapes` gives (in, out) of the base's layers by path; None leaves the fit to the base unchecked.

        Raises:
            CorruptVersion: says what differs.
        """
        return self._verified(task, version, digest, lambda data, config: parse_weights(data, config, shapes))

    def laid_out(
        self,
        task: str,
        version: int,
        *,
        digest: str,
        shapes: Mapping[str, tuple[int, int]] | None,
        lay_out: Callable[[AdapterWeights], Layout],
    ) -> Layout:
        """What `lay_out` makes of the weights that `load` gives, of which it keeps nothing, whose values it looks at.

        Raises what `load` and `lay_out` raise.
        """
        return self._verified(
            task, version, digest, lambda data, config: lay_out(parse_weights(data, config, shapes, finite=False))
        )

    def _verified(
        self, task: str, version: int, digest: str, use: Callable[[bytes, Mapping[str, Any]], Layout]
    ) -> Layout:
        """What `use` makes of the bytes and the config of a version's weights, if they are those of `digest`."""
        folder = self.folder(task, version)
        try:
            config = parse_object(read_regular(folder / CONFIG, MAX_JSON_BYTES), CONFIG)
            data = read_regular(folder / WEIGHTS, MAX_WEIGHTS_BYTES)
        except UnfitError as failure:
            raise self._corrupt(task, version, str(failure)) from failure
        with ThreadPoolExecutor(1, thread_name_prefix="adapterd-layout") as aside:
            # Beside each other, for hashing lets other threads compute. Without the digest nothing of it is used.
            layout = aside.submit(use, data, config)
            found = digest_of(data, config)
            if found != digest:
                raise self._corrupt(task, version, f"its digest is {found[:12]}…, and {digest[:12]}… was published")
            try:
                return layout.result()
            except UnfitError as failure:
                raise self._corrupt(task, version, str(failure)) from failure

    def delete(self, task: str, version: int) -> bool:
        """Remove a version's files; whether there were any. From the first moment on there is none of them or all.

        Raises:
            OSError: a file cannot be removed; `sweep` tries again.
        """
        final = self.folder(task, version)
        temp = final.with_name(temp_name(final.name))
        try:
            final.rename(temp)
        except FileNotFoundError:
            return False
        fsync_folder(final.parent)
        failpoint("delete.renamed")
        shutil.rmtree(temp)
        failpoint("delete.removed")
        return True

    def sweep(self) -> list[Path]:
        """Remove what an interrupted publish or delete left, and return it; to be called before anything else runs."""
        return remove_unfinished(self._root)

    def export(self, task: str, version: int, target: Path) -> None:
        """Copy the version's files, each checked against the manifest, to the folder `target`, which loads in PEFT.

        Raises:
            BadRequest: `target` exists and is no empty folder.
            CorruptVersion: a file is not what was published.
            OSError: `target` cannot be written; nothing is left there.
        """
        folder = self.folder(task, version)
        contents = {MANIFEST: _pretty(self.manifest(task, version))}
        for name in (WEIGHTS, CONFIG, TEMPLATE, FISHER):
            if name == FISHER and not (folder / FISHER).exists():
                continue
            contents[name] = self._read(task, version, name, self._hash(task, version, name))
        if target.is_dir():
            try:
                target.rmdir()
            except OSError as failure:
                if failure.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise _not_empty(target) from failure
                raise
        elif os.path.lexists(target):
            raise _not_empty(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        temp = target.with_name(temp_name(target.name))
        temp.mkdir(mode=_FOLDER_MODE)
        try:
            for name, content in contents.items():
                _write(temp / name, content)
            publish_folder(temp, target)
        except BaseException:
            shutil.rmtree(temp, ignore_errors=True)
            raise

    @staticmethod
    def read_import(folder: Path, shapes: Mapping[str, tuple[int, int]]) -> Imported:
        """Check a foreign PEFT folder; see `importing.read_import`."""
        return read_import(folder, shapes)

    def _published_before(self, task: str, version: int, digest: str) -> str:
        there = self.manifest(task, version)["digest"]
        if there != digest:
            raise IllegalTransition(
                f"{task}@{version} is published with digest {there[:12]} and cannot become {digest[:12]}",
                hint="a published version never changes: publish the next number",
                task=task,
                version=str(version),
            )
        return digest

    def _hash(self, task: str, version: int, name: str) -> str:
        files = self.manifest(task, version).get("files")
        noted = files.get(name) if isinstance(files, dict) else None
        if not isinstance(noted, str):
            raise self._corrupt(task, version, f"{MANIFEST} does not speak of {name}")
        return noted

    def _read(self, task: str, version: int, name: str, sha256: str | None = None) -> bytes:
        limit = MAX_JSON_BYTES if name.endswith(".json") else MAX_WEIGHTS_BYTES
        try:
            data = read_regular(self.folder(task, version) / name, limit)
        except UnfitError as failure:
            raise self._corrupt(task, version, str(failure)) from failure
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise self._corrupt(task, version, f"{name} is not what was published (sha256)")
        return data

    def _read_json(self, task: str, version: int, name: str, sha256: str | None = None) -> dict[str, Any]:
        data = self._read(task, version, name, sha256)
        try:
            return parse_object(data, name)
        except UnfitError as failure:
            raise self._corrupt(task, version, str(failure)) from failure

    def _corrupt(self, task: str, version: int, why: str) -> CorruptVersion:
        return CorruptVersion(
            f"{task}@{version} cannot be served: {why}",
            hint=f"restore {self.folder(task, version)} from a backup, or revert {task} to another version",
            task=task,
            version=str(version),
        )


def _pretty(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def _write(path: Path, content: bytes) -> None:
    """Write a new file; `publish_folder` flushes it."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE), "wb") as file:
        file.write(content)


def _not_empty(target: Path) -> BadRequest:
    return BadRequest(f"{target} exists already", hint="name a folder that is empty or not there yet", field="target")

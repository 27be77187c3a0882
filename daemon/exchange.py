"""Versions that come from elsewhere and go elsewhere: PEFT folders, or base and adapter merged into one model."""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..adapters.base import Base
from ..adapters.durable import TEMP_PREFIX
from ..adapters.errors import BadRequest, BaseMismatch, VersionNotServable
from ..adapters.refs import check_task
from ..adapters.signature import check_signature
from ..adapters.states import VersionState
from ..adapters.store import Store
from ..continual.template import Template
from .ledger import Ledger, VersionRow
from .lifecycle import Lifecycle
from .merge import merge_adapter


class Exchange:
    """What is imported is a candidate like any other; what is exported loads in plain PEFT.

    `shapes` gives (in, out) of the base's layers by path. With `signers`, a file of ssh-keygen's, an import must be
    signed.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        lifecycle: Lifecycle,
        base: Base,
        shapes: Mapping[str, tuple[int, int]],
        *,
        signers: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._lifecycle = lifecycle
        self._base = base
        self._shapes = shapes
        self._signers = signers
        self._clock = clock

    def import_folder(self, task: str, folder: Path, *, actor: str) -> VersionRow:
        """Take a PEFT folder as a CANDIDATE of the task. Raises `UnsafeImport`, `CorruptVersion`, `BaseMismatch`."""
        check_task(task)
        signer = check_signature(folder, Path(self._signers)) if self._signers else ""
        weights, config, brought, origin = self._store.read_import(folder, self._shapes)
        # An adapter from elsewhere gets prompts as they are, as the base does.
        has_chat_template = bool(self._base.tokenizer.chat_template)
        template = Template.from_json(brought) if brought else Template.for_base(has_chat_template)
        told = origin.get("base", {}).get("fingerprint")
        if told and told != self._base.fingerprint:
            raise BaseMismatch(
                f"the adapter in {folder.name} was trained on base {told[:12]}, and this daemon serves "
                f"{self._base.fingerprint[:12]}",
                hint="import it into a daemon with the base and quantization that it was trained on",
            )
        with self._lifecycle.changing(task):
            self._ledger.tasks.add(task)
            version = self._ledger.tasks.reserve_version(task)
            now = self._clock()
            manifest = {
                "task": task,
                "version": version,
                "parent": 0,
                "created": now,
                "base": {
                    "name": self._base.folder.name,
                    "fingerprint": self._base.fingerprint,
                    "quantization": self._base.quantization,
                },
                "imported": {"actor": actor, "origin": origin, "signer": signer},
                "metrics": {},
            }
            digest = self._store.publish(
                task,
                version,
                weights=weights,
                config=config,
                template=template.to_json(),
                manifest=manifest,
                fisher=None,
            )
            with self._ledger.transaction():
                self._ledger.versions.add(
                    task,
                    version,
                    state=VersionState.CANDIDATE,
                    digest=digest,
                    parent=0,
                    drop=0,
                    fingerprint=self._base.fingerprint,
                    metrics={},
                    verdict="",
                    reason=f"imported by {actor}",
                )
                self._ledger.events.emit(
                    "version.imported",
                    f"{task}@{version} was imported by {actor}" + (f" and is signed by {signer}" if signer else ""),
                    task=task,
                    version=version,
                    details={"signer": signer},
                )
            return self._ledger.versions.get(task, version)

    def export_folder(self, task: str, version: int, target: Path, *, merge: bool) -> Path:
        """Copy a version's folder to `target`, empty or absent; or, with `merge`, base and adapter as one model.

        Raises `VersionNotServable` for a deleted version, `BadRequest` for a folder that is not empty.
        """
        row = self._ledger.versions.get(task, version)
        if row.state is VersionState.DELETED:
            raise VersionNotServable(f"{task}@{version} is deleted", hint=f"`adapterd list {task}` shows the others")
        if not merge:
            self._store.export(task, version, target)
            return target
        if target.exists() and any(target.iterdir()):
            raise BadRequest(f"{target} is not empty", hint="name a folder that is empty or does not exist", field="to")
        temp = target.with_name(TEMP_PREFIX + target.name)
        try:
            self._store.load(task, version, digest=row.digest, shapes=None)  # a corrupt version is not merged
            merge_adapter(self._base.folder, self._store.folder(task, version), temp)
            temp.rename(target)
        finally:
            shutil.rmtree(temp, ignore_errors=True)
        return target

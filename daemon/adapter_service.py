"""`AdapterService`: tasks, versions and aliases, and the way of a version in and out."""
# ruff: noqa: N802 - the methods bear the names of the .proto file

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
from adapterd.v1 import adapters_pb2

from ..adapters.durable import TEMP_PREFIX, make_folder
from ..adapters.errors import BadRequest
from ..adapters.refs import check_task
from . import messages, overview
from .caller import caller
from .comparison import compare
from .dataset import Dataset
from .followers import POLL_S, Followers
from .request_stream import whole
from .transfer import pack, unpack

if TYPE_CHECKING:
    from .core import Core

_REFRESH_S: Final = 1.0  # how soon a Watch shows what is no event: a version's state in the engine


class AdapterService:
    """The handlers; what they raise becomes a status in `edge`."""

    def __init__(self, core: "Core", followers: Followers) -> None:
        self._core = core
        self._followers = followers
        self._merging = threading.Lock()  # a merge holds a second, unquantized base in memory: one at a time
        self._folder = core.settings.state / "transfer"
        shutil.rmtree(self._folder, ignore_errors=True)  # what a kill left; nothing is under way yet
        make_folder(self._folder)

    def ListTasks(
        self, _request: adapters_pb2.ListTasksRequest, _context: grpc.ServicerContext
    ) -> adapters_pb2.ListTasksResponse:
        """Every task."""
        return adapters_pb2.ListTasksResponse(tasks=overview.tasks(self._core))

    def ListVersions(
        self, request: adapters_pb2.ListVersionsRequest, _context: grpc.ServicerContext
    ) -> adapters_pb2.ListVersionsResponse:
        """The versions of a task, or of all, newest first."""
        if request.task:
            overview.check_known(self._core, request.task)
        return adapters_pb2.ListVersionsResponse(versions=overview.versions(self._core, request.task))

    def GetVersion(
        self, request: adapters_pb2.GetVersionRequest, _context: grpc.ServicerContext
    ) -> adapters_pb2.Version:
        """One version with its manifest."""
        row = overview.resolve(self._core, request.version, "version")
        return overview.version(self._core, row, with_manifest=True)

    def Compare(
        self, request: adapters_pb2.CompareRequest, _context: grpc.ServicerContext
    ) -> adapters_pb2.CompareResponse:
        """Held-out rows that two versions answer differently, and how far their weights are apart."""
        core = self._core
        left, right = (overview.resolve(core, getattr(request, side), side) for side in ("left", "right"))
        found = compare(core.ledger, core.store, Dataset.below(core.settings.state), left, right)
        return adapters_pb2.CompareResponse(comparison_json=json.dumps(found, ensure_ascii=False))

    def Promote(self, request: adapters_pb2.PromoteRequest, _context: grpc.ServicerContext) -> adapters_pb2.AliasMoved:
        """Make a version champion, or with `canary_share` the canary."""
        row = overview.resolve(self._core, request.version, "version")
        if request.canary_share:
            if request.expected_champion:
                raise BadRequest(
                    "`expected_champion` does not go with `canary_share`: the champion stays",
                    hint="leave one of them out",
                    field="expected_champion",
                )
            reason = "made canary by a person"
            return messages.moved(
                self._core.lifecycle.canary(row.task, row.version, request.canary_share, actor=caller(), reason=reason)
            )
        expected = overview.check_number(request.expected_champion, "expected_champion") or None
        moved = self._core.lifecycle.promote(
            row.task, row.version, expected=expected, actor=caller(), reason="promoted by a person"
        )
        return messages.moved(moved)

    def Revert(self, request: adapters_pb2.RevertRequest, _context: grpc.ServicerContext) -> adapters_pb2.AliasMoved:
        """Make an earlier version champion again, or take the canary back."""
        if request.canary:
            if request.to:
                raise BadRequest("`to` does not go with `canary`", hint="leave one of them out", field="to")
            reason = "taken back by a person"
            return messages.moved(
                self._core.lifecycle.end_canary(check_task(request.task), actor=caller(), reason=reason)
            )
        to = overview.check_number(request.to, "to") or None
        return messages.moved(self._core.lifecycle.revert(check_task(request.task), to, actor=caller()))

    def Delete(self, request: adapters_pb2.DeleteRequest, _context: grpc.ServicerContext) -> adapters_pb2.Version:
        """Delete a version's files."""
        row = overview.resolve(self._core, request.version, "version")
        return overview.version(self._core, self._core.lifecycle.delete(row.task, row.version, actor=caller()))

    def Pin(self, request: adapters_pb2.PinRequest, _context: grpc.ServicerContext) -> adapters_pb2.Version:
        """Keep a version whatever retention says, or no longer."""
        row = overview.resolve(self._core, request.version, "version")
        pinned = self._core.lifecycle.pin(row.task, row.version, not request.off, actor=caller())
        return overview.version(self._core, pinned)

    def Export(
        self, request: adapters_pb2.ExportRequest, context: grpc.ServicerContext
    ) -> Iterator[adapters_pb2.ExportResponse]:
        """A version's files as a tar, or with `merge` those of base and adapter as one model."""
        row = overview.resolve(self._core, request.version, "version")
        with self._temporary() as folder:
            target = folder / "export"
            if request.merge:
                with self._merging:
                    self._followers.check(context)  # it may have waited long
                    self._core.exchange.export_folder(row.task, row.version, target, merge=True)
            else:
                self._core.exchange.export_folder(row.task, row.version, target, merge=False)
            for piece in pack(target):
                yield adapters_pb2.ExportResponse(chunk=piece)

    def Import(
        self, requests: Iterator[adapters_pb2.ImportRequest], context: grpc.ServicerContext
    ) -> adapters_pb2.Version:
        """A PEFT folder as a candidate of the task that the first message names."""
        requests = whole(requests, context)
        first = next(requests, adapters_pb2.ImportRequest())
        task = check_task(first.task)
        with self._temporary() as folder:
            unpack(_chunks(first, requests), folder)
            row = self._core.exchange.import_folder(task, folder, actor=caller())
        return overview.version(self._core, row)

    def Watch(
        self, request: adapters_pb2.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[adapters_pb2.WatchResponse]:
        """The versions now, and again whenever something about them has changed."""
        if request.task:
            check_task(request.task)
        events = self._core.ledger.events
        told: list[adapters_pb2.Version] | None = None
        with self._followers.seat():
            while True:
                seen, looked = events.last_id(), time.monotonic()
                found = overview.versions(self._core, request.task)
                if found != told:
                    yield adapters_pb2.WatchResponse(versions=found)
                    told = found
                self._followers.check(context)
                while not events.wait(seen, POLL_S) and time.monotonic() - looked < _REFRESH_S:
                    self._followers.check(context)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A folder that is gone at the end of the body, or at the next start."""
        with tempfile.TemporaryDirectory(prefix=TEMP_PREFIX, dir=self._folder) as folder:
            yield Path(folder)


def _chunks(first: adapters_pb2.ImportRequest, rest: Iterator[adapters_pb2.ImportRequest]) -> Iterator[bytes]:
    yield first.chunk
    for request in rest:
        if request.task not in ("", first.task):
            raise BadRequest(
                f"one stream is for one task, and this one names {first.task!r} and {request.task[:80]!r}",
                hint="name the task in the first message alone",
                field="task",
            )
        yield request.chunk

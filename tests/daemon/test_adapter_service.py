"""Tasks, versions and aliases over the wire."""

import json
import shutil
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from adapterd.adapters.base import Base
from adapterd.adapters.states import VersionState
from adapterd.daemon.client import Client
from adapterd.daemon.core import Core
from adapterd.daemon.errors import RemoteError
from adapterd.daemon.peft_folder import packed_adapter
from adapterd.daemon.transfer import pack, unpack
from adapterd.v1 import adapters_pb2, common_pb2

from ..adapters.signing import allow, key, sign
from .real_core import publish, real_core, served, until


@pytest.fixture
def core(tmp_path: Path, tiny_base: Base) -> Iterator[Core]:
    with real_core(tmp_path, tiny_base) as core:
        publish(core, "mood", 2)
        publish(core, "mood", 3, state=VersionState.REJECTED)
        yield core


@pytest.fixture
def client(core: Core) -> Iterator[Client]:
    with served(core) as client:
        yield client


def versions(client: Client, task: str = "") -> list[adapters_pb2.Version]:
    return list(client.adapters.ListVersions(adapters_pb2.ListVersionsRequest(task=task)).versions)


def get(client: Client, name: str) -> adapters_pb2.Version:
    return client.adapters.GetVersion(adapters_pb2.GetVersionRequest(version=name))


def promote(client: Client, name: str, expected: int = 0) -> adapters_pb2.AliasMoved:
    return client.adapters.Promote(adapters_pb2.PromoteRequest(version=name, expected_champion=expected))


def export(client: Client, name: str, merge: bool = False) -> bytes:
    pieces = client.adapters.Export(adapters_pb2.ExportRequest(version=name, merge=merge))
    return b"".join(piece.chunk for piece in pieces)


def import_(client: Client, task: str, pieces: Any) -> adapters_pb2.Version:
    def requests() -> Iterator[adapters_pb2.ImportRequest]:
        yield adapters_pb2.ImportRequest(task=task)
        for piece in pieces:
            yield adapters_pb2.ImportRequest(chunk=piece)

    return client.adapters.Import(requests())


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(call: Any) -> tuple[str, str]:
    with pytest.raises(RemoteError) as caught:
        call()
    assert caught.value.message
    return caught.value.status, caught.value.cause


def leftovers(core: Core) -> list[Path]:
    return list((core.settings.state / "transfer").iterdir())


def test_tasks_are_listed_with_what_answers_for_each(client: Client, core: Core) -> None:
    publish(core, "idle", 1, state=VersionState.CANDIDATE)
    listed = client.adapters.ListTasks(adapters_pb2.ListTasksRequest()).tasks
    assert [(task.name, task.champion, task.previous, task.versions) for task in listed] == [
        ("idle", 0, 0, 1),
        ("mood", 1, 0, 3),
    ]
    assert [task.serving for task in listed] == [
        common_pb2.SERVING_STATE_UNSPECIFIED,
        common_pb2.SERVING_STATE_AVAILABLE,
    ]


def test_versions_are_listed_newest_first_by_task(client: Client, core: Core) -> None:
    publish(core, "alone", 1)
    assert [(row.task, row.version) for row in versions(client)] == [
        ("alone", 1),
        ("mood", 3),
        ("mood", 2),
        ("mood", 1),
    ]
    assert [row.version for row in versions(client, "mood")] == [3, 2, 1]


def test_a_listed_version_says_all_but_its_manifest(client: Client, core: Core) -> None:
    row = versions(client, "mood")[-1]
    stored = core.ledger.versions.get("mood", 1)
    assert (row.digest, row.parent, list(row.aliases)) == (stored.digest, 0, ["champion"])
    assert (row.state, row.serving) == (common_pb2.VERSION_STATE_AVAILABLE, common_pb2.SERVING_STATE_AVAILABLE)
    assert (row.verdict, row.reason, dict(row.metrics)) == ("promote", "it is better", {"loss": 1.0})
    assert row.created.ToMicroseconds() == round(stored.created * 1e6)
    assert not row.manifest_json


def test_a_version_is_got_with_its_manifest(client: Client, core: Core) -> None:
    row = get(client, "mood@2")
    assert json.loads(row.manifest_json) == core.store.manifest("mood", 2)
    assert get(client, "mood").version == 1


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("", "INVALID_ARGUMENT"),
        ("base", "INVALID_ARGUMENT"),
        ("mood@x", "INVALID_ARGUMENT"),
        ("mood@9", "NOT_FOUND"),
        ("nobody", "NOT_FOUND"),
        ("mood@canary", "NOT_FOUND"),
    ],
)
def test_a_version_that_is_none_has_its_status_everywhere(client: Client, name: str, status: str) -> None:
    for call in (
        lambda: get(client, name),
        lambda: promote(client, name),
        lambda: client.adapters.Delete(adapters_pb2.DeleteRequest(version=name)),
        lambda: client.adapters.Pin(adapters_pb2.PinRequest(version=name)),
        lambda: export(client, name),
    ):
        assert refused(call)[0] == status


def test_a_wrong_name_is_told_by_the_field_that_held_it(client: Client) -> None:
    with pytest.raises(RemoteError) as caught:
        get(client, "mood@x")
    assert caught.value.details["field"] == "version"


def test_a_task_that_is_not_there_is_not_found(client: Client, core: Core) -> None:
    assert refused(lambda: versions(client, "nobody")) == ("NOT_FOUND", "UNKNOWN_ADAPTER")
    (core.settings.inbox_dir / "fresh").mkdir()
    assert versions(client, "fresh") == []


def test_promoting_moves_the_champion_and_keeps_the_one_before(client: Client) -> None:
    moved = promote(client, "mood@2")
    assert (moved.task, moved.alias, getattr(moved, "from"), moved.to) == ("mood", "champion", 1, 2)
    assert moved.seconds >= 0
    assert {row.version: list(row.aliases) for row in versions(client, "mood")} == {
        3: [],
        2: ["champion"],
        1: ["previous"],
    }


def test_a_lost_race_is_aborted_and_changes_nothing(client: Client) -> None:
    assert refused(lambda: promote(client, "mood@2", expected=3)) == ("ABORTED", "ALIAS_CONFLICT")
    assert promote(client, "mood@2", expected=1).to == 2


def test_reverting_goes_back_to_the_one_before_or_to_the_one_named(client: Client) -> None:
    promote(client, "mood@2")
    promote(client, "mood@3")
    assert client.adapters.Revert(adapters_pb2.RevertRequest(task="mood")).to == 2
    assert client.adapters.Revert(adapters_pb2.RevertRequest(task="mood", to=1)).to == 1


def test_there_is_nothing_to_revert_to_at_first(client: Client) -> None:
    assert refused(lambda: client.adapters.Revert(adapters_pb2.RevertRequest(task="mood")))[0] == "FAILED_PRECONDITION"
    assert refused(lambda: client.adapters.Revert(adapters_pb2.RevertRequest(task="nobody")))[0] == "NOT_FOUND"
    assert refused(lambda: client.adapters.Revert(adapters_pb2.RevertRequest(task="A b")))[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("number", [2**63, 2**64 - 1])
def test_numbers_larger_than_any_version_are_invalid(client: Client, number: int) -> None:
    revert = adapters_pb2.RevertRequest(task="mood", to=number)
    assert refused(lambda: client.adapters.Revert(revert))[0] == "INVALID_ARGUMENT"
    assert refused(lambda: promote(client, "mood@2", expected=number))[0] == "INVALID_ARGUMENT"


def test_what_an_alias_names_cannot_be_deleted(client: Client) -> None:
    promote(client, "mood@2")
    for name in ("mood@2", "mood@1", "mood"):
        request = adapters_pb2.DeleteRequest(version=name)
        assert refused(lambda request=request: client.adapters.Delete(request)) == (
            "FAILED_PRECONDITION",
            "NOT_ALLOWED",
        )


def test_a_pinned_version_says_so_and_stays(client: Client) -> None:
    assert client.adapters.Pin(adapters_pb2.PinRequest(version="mood@3")).pinned
    assert get(client, "mood@3").pinned
    delete = adapters_pb2.DeleteRequest(version="mood@3")
    assert refused(lambda: client.adapters.Delete(delete)) == ("FAILED_PRECONDITION", "NOT_ALLOWED")
    assert not client.adapters.Pin(adapters_pb2.PinRequest(version="mood@3", off=True)).pinned
    assert client.adapters.Delete(delete).state == common_pb2.VERSION_STATE_DELETED


def test_a_deleted_version_keeps_its_row_and_loses_its_files(client: Client, core: Core) -> None:
    deleted = client.adapters.Delete(adapters_pb2.DeleteRequest(version="mood@3"))
    assert deleted.state == common_pb2.VERSION_STATE_DELETED
    assert get(client, "mood@3").manifest_json == ""
    assert not core.store.folder("mood", 3).exists()
    assert refused(lambda: export(client, "mood@3")) == ("FAILED_PRECONDITION", "VERSION_NOT_SERVABLE")
    assert refused(lambda: promote(client, "mood@3")) == ("FAILED_PRECONDITION", "VERSION_NOT_SERVABLE")


def test_an_export_is_the_folder_and_the_same_each_time(client: Client, core: Core, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    first = export(client, "mood")
    unpack([first], target)
    assert files(target) == files(core.store.folder("mood", 1))
    assert export(client, "mood") == first
    with tarfile.open(fileobj=BytesIO(first)) as archive:
        assert not [name for name in archive.getnames() if "/" in name]
    assert not leftovers(core)


def test_a_merged_export_is_a_plain_model(client: Client, core: Core, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    unpack([export(client, "mood", merge=True)], target)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files(target))
    assert "adapter_config.json" not in files(target)
    assert not leftovers(core)


def test_an_export_that_is_left_leaves_nothing(client: Client, core: Core) -> None:
    stream = client.adapters.Export(adapters_pb2.ExportRequest(version="mood"))
    next(stream)
    cast("Any", stream).close()
    assert until(lambda: not leftovers(core))


def test_what_was_exported_is_imported_as_a_candidate(client: Client, core: Core) -> None:
    row = import_(client, "fresh", [export(client, "mood")])
    assert (row.task, row.version, row.state) == ("fresh", 1, common_pb2.VERSION_STATE_CANDIDATE)
    assert promote(client, "fresh@1").to == 1
    assert not leftovers(core)


def test_a_folder_is_imported_in_pieces(client: Client, core: Core) -> None:
    assert import_(client, "mood", pack(core.store.folder("mood", 1))).version == 4


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed")
def test_where_signers_are_named_an_import_brings_its_signature_along(tmp_path: Path, tiny_base: Base) -> None:
    ada = key(tmp_path, "ada")
    signers = allow(ada, tmp_path / "signers")
    with real_core(tmp_path, tiny_base, signers=str(signers)) as core, served(core) as client:
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        unpack([export(client, "mood")], theirs)
        assert refused(lambda: import_(client, "mood", packed_adapter(theirs))) == ("INVALID_ARGUMENT", "UNSAFE_IMPORT")
        sign(theirs, ada, names=tuple(sorted(files(theirs))))
        row = import_(client, "mood", packed_adapter(theirs))
        assert json.loads(get(client, f"mood@{row.version}").manifest_json)["imported"]["signer"] == "ada@example.org"


@pytest.mark.parametrize("task", ["", "base", "A b"])
def test_an_import_names_a_task(client: Client, core: Core, task: str) -> None:
    assert refused(lambda: import_(client, task, pack(core.store.folder("mood", 1))))[0] == "INVALID_ARGUMENT"


def test_an_import_is_for_one_task(client: Client, core: Core) -> None:
    requests = [adapters_pb2.ImportRequest(task=task) for task in ("mood", "other")]
    assert refused(lambda: client.adapters.Import(requests))[0] == "INVALID_ARGUMENT"
    assert refused(lambda: client.adapters.Import([]))[0] == "INVALID_ARGUMENT"


def test_what_is_no_adapter_is_refused_and_leaves_nothing(client: Client, core: Core, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "adapter_model.bin").write_bytes(b"pickle")
    assert refused(lambda: import_(client, "mood", [b"no tar" * 200])) == ("INVALID_ARGUMENT", "UNSAFE_IMPORT")
    assert refused(lambda: import_(client, "mood", pack(folder))) == ("INVALID_ARGUMENT", "UNSAFE_IMPORT")
    assert not leftovers(core)
    assert [row.version for row in versions(client, "mood")] == [3, 2, 1]


def test_what_a_kill_left_of_a_transfer_is_removed(core: Core) -> None:
    left = core.settings.state / "transfer" / ".tmp-left"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"1")
    with served(core):
        assert not leftovers(core)


def test_a_watch_tells_the_versions_now_and_at_each_change(client: Client, core: Core) -> None:
    watch = client.adapters.Watch(adapters_pb2.WatchRequest(task="mood"), timeout=10)

    def champion(told: adapters_pb2.WatchResponse) -> list[int]:
        return [row.version for row in told.versions if "champion" in row.aliases]

    assert champion(next(watch)) == [1]
    promote(client, "mood@2")
    assert any(champion(told) == [2] for told in watch)


def test_a_watch_of_one_task_is_not_told_of_others(client: Client, core: Core) -> None:
    watch = client.adapters.Watch(adapters_pb2.WatchRequest(task="other"), timeout=10)
    assert next(watch).versions == []
    promote(client, "mood@2")
    publish(core, "other", 1)
    core.ledger.events.emit("version.published", "other@1", task="other", version=1)
    assert [(row.task, row.version) for row in next(watch).versions] == [("other", 1)]


def test_a_watch_that_is_left_gives_its_seat_back(tmp_path: Path, tiny_base: Base) -> None:
    with real_core(tmp_path, tiny_base, max_concurrent_rpcs=4) as core, served(core) as client:  # one seat
        first = client.adapters.Watch(adapters_pb2.WatchRequest())
        next(first)
        second = refused(lambda: next(client.adapters.Watch(adapters_pb2.WatchRequest())))
        assert second == ("RESOURCE_EXHAUSTED", "TOO_MANY_FOLLOWERS")
        cast("Any", first).close()

        def seated() -> bool:
            try:
                return bool(next(client.adapters.Watch(adapters_pb2.WatchRequest())).versions)
            except RemoteError:
                return False

        assert until(seated)

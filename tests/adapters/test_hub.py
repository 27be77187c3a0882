"""Bases from a hub: a small server that speaks its protocol stands in for it."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from adapterd.adapters.base import ensure_base
from adapterd.adapters.errors import BaseUnavailable
from adapterd.adapters.hub import is_repository

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/tiny-model"


class Hub(BaseHTTPRequestHandler):
    """One repository, one commit, whose files are `files`; everything asked for is noted in `asked`."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []
    lies: ClassVar[bool] = False  # about the hash of the weights
    gated: ClassVar[bool] = False

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if self.gated:
            return self._reply(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if not path.startswith((f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/resolve/")):
            return self._reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if path.endswith("/revision/no-such-branch"):
            return self._reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if "/tree/" in path:
            return self._json([{"type": "file", "path": name, **self._entry(name)} for name in self.files])
        if path.startswith("/api/"):
            siblings = [{"rfilename": name, **self._entry(name)} for name in self.files]
            return self._json(
                {"id": REPOSITORY, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}, "tags": []}
            )
        name = path.partition(f"/resolve/{COMMIT}/")[2]
        if name not in self.files:
            return self._reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        return self._reply(200, self.files[name], {"ETag": f'"{self._sha256(name)}"', "X-Repo-Commit": COMMIT})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing."""

    def _entry(self, name: str) -> dict[str, object]:
        size = len(self.files[name])
        entry: dict[str, object] = {"size": size, "oid": "b" * 40, "blobId": "b" * 40}
        if name.endswith(".safetensors"):
            sha256 = self._sha256(name) if not self.lies else "e" * 64
            entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": size, "pointerSize": 130}
        return entry

    def _sha256(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()

    def _json(self, value: object) -> None:
        self._reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _point_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does when the client is imported."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(tiny_base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    class Fresh(Hub):
        files: ClassVar[dict[str, bytes]] = {path.name: path.read_bytes() for path in tiny_base_folder.iterdir()}
        asked: ClassVar[list[str]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    _point_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    yield Fresh
    server.shutdown()
    thread.join()
    server.server_close()


def test_plain_files_alone_are_taken_and_the_commit_is_noted(hub: type[Hub], tmp_path: Path) -> None:
    plain = set(hub.files)
    hub.files["pytorch_model.bin"] = b"pickle"
    hub.files["modeling_own.py"] = b"raise SystemExit"
    hub.files["onnx/model.safetensors"] = b"x"
    hub.files["consolidated.safetensors"] = b"x"
    hub.files["adapter_config.json"] = b"{}"
    folder = ensure_base(tmp_path, REPOSITORY)
    assert {path.name for path in folder.iterdir()} == {*plain, "source.json"}
    source = json.loads((folder / "source.json").read_bytes())
    assert (source["name"], source["licence"]) == (REPOSITORY, "mit")
    assert source["origin"]["commit"] == COMMIT
    assert folder.name == "someone--tiny-model--main"


def test_what_is_there_is_kept_without_asking_again(hub: type[Hub], tmp_path: Path) -> None:
    """A base must not change under its adapters because somebody pushed to a branch."""
    folder = ensure_base(tmp_path, REPOSITORY)
    hub.asked.clear()
    hub.files["config.json"] = b"{}"
    assert ensure_base(tmp_path, REPOSITORY) == folder
    assert hub.asked == []


def test_revisions_lie_beside_each_other(hub: type[Hub], tmp_path: Path) -> None:
    names = {ensure_base(tmp_path, REPOSITORY, revision).name for revision in (None, COMMIT, "refs/pr/1")}
    assert names == {f"someone--tiny-model--{each}" for each in ("main", COMMIT, "refs-pr-1")}


def test_a_repository_with_pickles_alone_is_refused(hub: type[Hub], tmp_path: Path) -> None:
    hub.files["pytorch_model.bin"] = hub.files.pop("model.safetensors")
    with pytest.raises(BaseUnavailable, match=r"holds no model\.safetensors"):
        ensure_base(tmp_path, REPOSITORY)


def test_damaged_weights_are_refused_and_fetched_anew(hub: type[Hub], tmp_path: Path) -> None:
    hub.lies = True
    with pytest.raises(BaseUnavailable, match="arrived damaged"):
        ensure_base(tmp_path, REPOSITORY)
    hub.lies = False
    assert (ensure_base(tmp_path, REPOSITORY) / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


@pytest.mark.parametrize(
    ("name", "revision", "gated", "hint"),
    [
        ("someone/else", None, False, "check the name"),
        (REPOSITORY, "no-such-branch", False, "`revision` must be"),
        (REPOSITORY, None, True, "accept the terms"),
    ],
)
def test_what_the_hub_refuses_comes_with_a_hint(
    hub: type[Hub], tmp_path: Path, name: str, revision: str | None, gated: bool, hint: str
) -> None:
    hub.gated = gated
    with pytest.raises(BaseUnavailable, match=f"the base {name} cannot be downloaded") as caught:
        ensure_base(tmp_path, name, revision)
    assert hint in caught.value.hint


def test_without_a_network_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base_folder: Path
) -> None:
    _point_at("http://127.0.0.1:9", monkeypatch)
    shutil.copytree(tiny_base_folder, tmp_path / ".tmp-someone--tiny-model--main")  # a broken download is no base
    with pytest.raises(BaseUnavailable, match="cannot be downloaded") as caught:
        ensure_base(tmp_path, REPOSITORY)
    assert "HF_ENDPOINT" in caught.value.hint
    assert not (tmp_path / "someone--tiny-model--main").exists()


@pytest.mark.parametrize("name", ["a", "a/b/c", "/a/b", "../b", "a/..", "a b/c", "a/b\n", "-a/b", ""])
def test_what_is_no_repository(name: str) -> None:
    assert not is_repository(name)

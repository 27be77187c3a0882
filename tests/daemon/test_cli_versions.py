"""list, show, diff, revert, promote, delete, export, import."""

import json
import os
from pathlib import Path

import pytest
from adapterd.v1 import adapters_pb2

from .cli_runner import CommandLine
from .fake_daemon import FakeDaemon, manifest, version


def test_list_gives_each_version_a_line(adapterd: CommandLine) -> None:
    heads, *rows = [line.split() for line in adapterd("list", "mood").out.splitlines()]
    assert heads == [
        "VERSION",
        "STATE",
        "ALIASES",
        "SERVING",
        "PARENT",
        "DROP",
        "CREATED",
        "DIGEST",
        "ACCURACY",
        "LOSS",
    ]
    assert [row[:5] for row in rows] == [
        ["mood@1", "available", "previous", "available", "base"],
        ["mood@2", "available", "champion", "available", "1"],
    ]


def test_list_json_has_what_scripts_rely_on(adapterd: CommandLine) -> None:
    document = json.loads(adapterd("list", "--json").out)
    assert document["schema"] == 1
    first, second = document["versions"]
    wanted = {"task", "version", "state", "aliases", "digest", "parent", "created", "metrics"}
    assert wanted <= set(first)
    assert (first["parent"], second["parent"]) == (None, 1)
    assert second["aliases"] == ["champion"]
    assert second["metrics"] == {"accuracy": 0.7, "loss": 0.5}
    assert second["created"] == "2026-07-28T12:00:02.000Z"


def test_metric_that_is_no_number_is_null_in_json(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.versions[2].metrics["loss"] = float("nan")
    assert json.loads(adapterd("list", "--json").out)["versions"][1]["metrics"]["loss"] is None


def test_show_has_verdict_figures_lineage_and_recipe(adapterd: CommandLine) -> None:
    out = adapterd("show", "mood@2").out
    assert "new drop 2 improves" in out
    figures = [line.split() for line in out.splitlines() if "accuracy" in line]
    assert figures == [
        ["1", "20", "accuracy", "0.3000", "0.6000", "0.5500", "-0.0500"],
        ["2", "20", "accuracy", "0.3000", "0.3000", "0.7000", "+0.4000"],
    ]
    rows = [line.split() for line in out.splitlines()]
    assert ["learning_rate", "0.001"] in rows
    assert ["rows.train", "82"] in rows


def test_show_takes_aliases_and_the_task_alone(adapterd: CommandLine) -> None:
    assert adapterd("show", "mood").out == adapterd("show", "mood@2").out
    assert "mood@1" in adapterd("show", "mood@previous").out.splitlines()[0]


def test_show_json_holds_the_manifest(adapterd: CommandLine) -> None:
    document = json.loads(adapterd("show", "mood@2", "--json").out)
    assert (document["schema"], document["version"]) == (1, 2)
    assert document["manifest"] == manifest(2)


def test_show_of_a_number_is_a_drop(adapterd: CommandLine) -> None:
    out = adapterd("show", "2").out
    assert "100 (78 to learn from, 20 to judge by, 2 bad)" in out
    assert "duplicates  3" in out
    assert json.loads(adapterd("show", "2", "--json").out)["filename"] == "2.jsonl"
    assert adapterd("show", "77").status == 1


def test_show_of_an_imported_version_needs_no_figures(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.versions[3] = version(3, verdict="", reason="imported", drop=0, parent=0, manifest_json="{}")
    out = adapterd("show", "mood@3").out
    assert "none: it was imported" in out


def test_diff_puts_what_differs_side_by_side(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.versions[2].manifest_json = json.dumps(manifest(2, rank=16))
    rows = [line.split() for line in adapterd("diff", "mood@1", "mood@2").out.splitlines()]
    assert ["recipe", "rank", "8", "16", "+8"] in rows
    assert ["metrics", "loss", "1", "0.5", "-0.5"] in rows
    assert not any("learning_rate" in row for row in rows)
    document = json.loads(adapterd("diff", "mood@1", "mood@2", "--json").out)
    assert {"section": "recipe", "name": "rank", "left": 8, "right": 16, "change": 8.0} in document["differences"]


def test_diff_shows_rows_whose_answers_changed_worse_ones_first_and_layers_that_moved(
    adapterd: CommandLine, fake: FakeDaemon
) -> None:
    out = adapterd("diff", "mood@1", "mood@2").out
    assert "held-out rows whose answers changed: 1 better, 1 worse, of 20" in out
    assert out.index("the rainy row") < out.index("the sunny row")
    rows = [line.split() for line in out.splitlines()]
    assert ["1", "5.0000", "5.0000", "▇" * 30] in rows  # 3-4-5: the matrices of a layer together
    assert ["0", "3.0000", "0.0000"] in rows
    document = json.loads(adapterd("diff", "mood@1", "mood@2", "--json").out)
    assert document["comparison"] == fake.comparison


def test_diff_of_a_version_with_itself_is_nothing(adapterd: CommandLine) -> None:
    ended = adapterd("diff", "mood@2", "mood")
    assert (ended.status, ended.out) == (0, "")
    assert "do not differ" in ended.err


def test_revert_says_from_where_to_where_and_how_fast(adapterd: CommandLine, fake: FakeDaemon) -> None:
    assert adapterd("revert", "mood").out == "champion of mood: mood@2 → mood@1, in 40 ms\n"
    assert fake.aliases["champion"] == 1


def test_revert_to_a_version_and_promote_one(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.versions[3] = version(3)
    assert adapterd("promote", "mood@3").status == 0
    document = json.loads(adapterd("revert", "mood", "--to", "1", "--json").out)
    assert document == {"schema": 1, "task": "mood", "alias": "champion", "from": 3, "to": 1, "seconds": 0.04}


@pytest.mark.parametrize("share", ["10%", "0.1"])
def test_promote_as_canary_takes_a_share_either_way(adapterd: CommandLine, fake: FakeDaemon, share: str) -> None:
    fake.versions[3] = version(3)
    ended = adapterd("promote", "mood@3", "--canary", share)
    assert ended.out == "canary of mood: none → mood@3, in 40 ms\n"
    assert fake.requests == [adapters_pb2.PromoteRequest(version="mood@3", canary_share=0.1)]


@pytest.mark.parametrize("share", ["0", "1", "100%", "ten", "nan", "-5%", "%"])
def test_a_canary_takes_a_share_between_nothing_and_all(adapterd: CommandLine, fake: FakeDaemon, share: str) -> None:
    ended = adapterd("promote", "mood@2", f"--canary={share}")
    assert (ended.status, fake.requests) == (2, [])


def test_revert_takes_a_canary_back(adapterd: CommandLine, fake: FakeDaemon) -> None:
    assert adapterd("revert", "mood", "--canary").out == "canary of mood: mood@3 → none, in 40 ms\n"
    assert json.loads(adapterd("revert", "mood", "--canary", "--json").out)["to"] is None
    assert adapterd("revert", "mood", "--canary", "--to", "1").status == 2


def test_a_pinned_version_is_marked_in_the_list_until_it_is_let_go(adapterd: CommandLine) -> None:
    assert adapterd("pin", "mood@1").out == "mood@1 is pinned\n"
    assert "available, pinned" in adapterd("list", "mood").out
    assert json.loads(adapterd("pin", "mood@1", "--json").out)["pinned"]
    assert adapterd("pin", "mood@1", "--off").out == "mood@1 is no longer pinned\n"
    assert "pinned" not in adapterd("list", "mood").out
    assert adapterd("pin", "mood").status == 2  # an alias may move meanwhile


def test_delete_without_a_terminal_needs_yes(adapterd: CommandLine, fake: FakeDaemon) -> None:
    fake.versions[3] = version(3)
    ended = adapterd("delete", "mood@3", stdin=b"y\n")
    assert ended.status == 2
    assert "--yes" in ended.err
    assert adapterd("delete", "mood@3", "--yes").out == "mood@3 is deleted\n"


@pytest.mark.parametrize(("answer", "status", "state"), [(b"y\n", 0, "deleted"), (b"n\n", 1, "available")])
def test_delete_asks_on_a_terminal(
    adapterd: CommandLine, fake: FakeDaemon, answer: bytes, status: int, state: str
) -> None:
    fake.versions[3] = version(3)
    ended = adapterd("delete", "mood@3", stdin=answer, terminal=True)
    assert ended.status == status
    assert "Delete mood@3 for good?" in ended.err
    assert json.loads(adapterd("list", "--json").out)["versions"][2]["state"] == state


def test_delete_of_a_champion_is_refused_by_the_daemon(adapterd: CommandLine) -> None:
    ended = adapterd("delete", "mood@2", "-y")
    assert ended.status == 1
    assert "promote another version first" in ended.err


@pytest.fixture
def files(fake: FakeDaemon) -> dict[str, bytes]:
    """What version 2's folder holds, by name."""
    content = {
        "adapter_config.json": b"{}",
        "adapter_model.safetensors": bytes(range(256)) * 3000,
        "manifest.json": b"1",
    }
    folder = fake.folder / "000002"
    folder.mkdir()
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return content


def found(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_export_copies_the_folder(
    adapterd: CommandLine, fake: FakeDaemon, files: dict[str, bytes], tmp_path: Path
) -> None:
    ended = adapterd("export", "mood@2", tmp_path / "out")
    assert ended.status == 0
    assert found(tmp_path / "out") == files
    assert "3 files, 768 kB" in ended.out
    assert fake.requests == [adapters_pb2.ExportRequest(version="mood@2")]


def test_export_into_an_empty_folder_keeps_the_folder(
    adapterd: CommandLine, files: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    number = (tmp_path / "out").stat().st_ino
    document = json.loads(adapterd("export", "mood@2", tmp_path / "out", "--json", "--merge").out)
    assert (tmp_path / "out").stat().st_ino == number
    assert found(tmp_path / "out") == files
    assert document["merged"] is True
    assert document["files"]["manifest.json"] == 1


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_export_writes_over_nothing(adapterd: CommandLine, files: dict[str, bytes], tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out"
    if kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "mine").write_text("mine")
    ended = adapterd("export", "mood@2", target)
    assert ended.status == 1
    assert "empty or does not exist" in ended.err
    assert (target if kind == "file" else target / "mine").read_text() == "mine"


def test_export_that_breaks_off_leaves_nothing(
    adapterd: CommandLine, fake: FakeDaemon, files: dict[str, bytes], tmp_path: Path
) -> None:
    (fake.folder / "cut").touch()
    ended = adapterd("export", "mood@2", tmp_path / "out")
    assert ended.status == 1
    assert "was deleted meanwhile" in ended.err
    assert not (tmp_path / "out").exists()


def test_export_of_an_unknown_version_makes_no_folder(adapterd: CommandLine, tmp_path: Path) -> None:
    assert adapterd("export", "mood@9", tmp_path / "out").status == 1
    assert not (tmp_path / "out").exists()


def test_import_sends_the_adapter_and_nothing_else(
    adapterd: CommandLine, fake: FakeDaemon, files: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    adapterd("export", "mood@2", folder)
    (folder / "README.md").write_text("a model card")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder / "checkpoint-10").mkdir()
    ended = adapterd("import", "other", folder)
    assert ended.status == 0
    assert ended.out == "other@9 is a candidate; `adapterd promote other@9` makes it champion\n"
    assert found(fake.folder / "imported") == files


def test_import_json(adapterd: CommandLine, files: dict[str, bytes], tmp_path: Path) -> None:
    adapterd("export", "mood@2", tmp_path / "theirs")
    document = json.loads(adapterd("import", "other", tmp_path / "theirs", "--json").out)
    assert (document["task"], document["version"], document["state"]) == ("other", 9, "candidate")


def test_import_of_a_pickle_is_refused_before_anything_is_sent(
    adapterd: CommandLine, fake: FakeDaemon, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    ended = adapterd("import", "mood", tmp_path)
    assert ended.status == 1
    assert "safe_serialization" in ended.err
    assert not (fake.folder / "imported").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_import_of_a_file_that_cannot_be_read_is_a_message(
    adapterd: CommandLine, files: dict[str, bytes], tmp_path: Path
) -> None:
    adapterd("export", "mood@2", tmp_path / "theirs")
    (tmp_path / "theirs" / "adapter_model.safetensors").chmod(0)
    ended = adapterd("import", "mood", tmp_path / "theirs")
    assert ended.status == 1
    assert "Permission denied" in ended.err

"""Manifests for people."""

from adapterd.daemon.manifest_view import Difference, differences, flat, text

from .fake_daemon import manifest


def test_leaves_are_named_by_their_path() -> None:
    value = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}, {"e": True}], "f": []}
    assert flat(value) == {"a.b": 1, "a.c": [1, 2], "d.0.e": None, "d.1.e": True, "f": []}


def test_same_manifest_has_no_difference() -> None:
    assert differences(manifest(1), manifest(1)) == []


def test_differences_come_in_the_order_of_the_screen() -> None:
    found = differences(manifest(1), manifest(2, rank=16, dropout=0.1))
    sections = list(dict.fromkeys(difference.section for difference in found))
    assert sections == ["parent", "created", "digest", "metrics", "data", "recipe"]
    recipe = [difference for difference in found if difference.section == "recipe"]
    assert recipe == [Difference("recipe", "rank", 8, 16), Difference("recipe", "dropout", None, 0.1)]
    assert [difference.change for difference in recipe] == [8.0, None]


def test_single_checks_of_the_gate_are_left_out_and_its_reason_is_not() -> None:
    other = manifest(1) | {"gate": {"decision": "reject", "reason": "worse", "checks": []}}
    assert [difference.name for difference in differences(manifest(1), other)] == ["decision", "reason"]


def test_manifests_of_another_kind_differ_and_do_not_fail() -> None:
    imported = {"imported": {"actor": "me", "origin": {}}, "parent": 0}
    names = {(difference.section, difference.name) for difference in differences(imported, manifest(1))}
    assert ("imported", "actor") in names
    assert differences({}, {}) == []


def test_truth_is_no_number() -> None:
    assert Difference("recipe", "stopped_early", False, True).change is None


def test_values_are_short() -> None:
    values = [None, True, False, 7, 0.1 + 0.2, 1e-9, "x", [1, 2.5], []]
    assert [text(value) for value in values] == ["", "yes", "no", "7", "0.3", "1e-09", "x", "1, 2.5", "none"]
    assert text({}) == "{}"

"""Aliases serve what is ready, move all at once, and never point at what may not answer."""

import pytest
from adapterd.adapters.catalog import AliasMove, Catalog, Key, Served, VersionInfo
from adapterd.adapters.errors import UnknownAdapter, VersionNotServable
from adapterd.adapters.refs import AdapterRef
from adapterd.adapters.states import VersionState


def served(*versions: int) -> dict[str, Served]:
    return dict(
        zip(("champion", "canary", "previous"), (Served(version, f"d{version}") for version in versions), strict=False)
    )


def versions(*known: int, **states: VersionState) -> dict[int, VersionInfo]:
    return {v: VersionInfo(v, f"d{v}", states.get(f"v{v}", VersionState.AVAILABLE)) for v in known}


def champion(catalog: Catalog) -> int:
    return catalog.resolve(AdapterRef.parse("mail"), "key", lambda _: True).key.version


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog()
    catalog.set_versions("mail", versions(1, 2, 3))
    catalog.set_aliases("mail", served(1))
    catalog.settle(lambda key: False)
    return catalog


def test_the_first_target_of_an_alias_needs_not_be_ready(catalog: Catalog) -> None:
    resolved = catalog.resolve(AdapterRef.parse("mail"), "key", lambda _: True)
    assert (resolved.key, resolved.digest, resolved.alias) == (Key("mail", 1), "d1", "champion")


def test_an_alias_waits_for_its_target_and_tells_when_it_moves(catalog: Catalog) -> None:
    catalog.set_aliases("mail", served(2))
    assert catalog.settle(lambda key: False) == []
    assert champion(catalog) == 1
    assert catalog.pending() == {Key("mail", 2): "d2"}
    assert catalog.settle(lambda key: key == Key("mail", 2)) == [AliasMove("mail", "champion", 1, 2)]
    assert champion(catalog) == 2
    assert catalog.pending() == {}


def test_an_alias_does_not_wait_on_a_version_that_may_not_answer(catalog: Catalog) -> None:
    catalog.set_aliases("mail", served(2))
    catalog.set_versions("mail", versions(1, 2, v1=VersionState.RETIRED))
    catalog.settle(lambda key: False)
    assert champion(catalog) == 2


def test_an_alias_that_is_not_named_any_more_is_gone(catalog: Catalog) -> None:
    catalog.set_aliases("mail", {})
    catalog.settle(lambda key: True)
    with pytest.raises(UnknownAdapter, match="no champion"):
        champion(catalog)


def test_an_alias_of_a_retired_version_is_refused(catalog: Catalog) -> None:
    catalog.set_versions("mail", versions(1, v1=VersionState.RETIRED))
    with pytest.raises(VersionNotServable, match="mail@1 is retired"):
        champion(catalog)


def test_champions_are_kept_before_canaries_and_one_slot_stays_free(catalog: Catalog) -> None:
    catalog.set_aliases("mail", served(1, 2, 3))
    catalog.set_versions("post", versions(9))
    catalog.set_aliases("post", served(9))
    catalog.settle(lambda key: True)
    assert list(catalog.pinned(9)) == [Key("mail", 1), Key("post", 9), Key("mail", 2), Key("mail", 3)]
    assert list(catalog.pinned(3)) == [Key("mail", 1), Key("post", 9)]
    assert catalog.pinned(1) == {}


def test_a_forgotten_version_is_unknown_until_it_is_named_again(catalog: Catalog) -> None:
    catalog.forget(Key("mail", 3))
    assert not catalog.servable(Key("mail", 3))
    with pytest.raises(UnknownAdapter):
        catalog.resolve(AdapterRef.parse("mail@3"), "key", lambda _: True)
    catalog.set_versions("mail", versions(1, 2, 3))
    assert catalog.resolve(AdapterRef.parse("mail@3"), "key", lambda _: True).alias == ""


def test_a_long_list_of_versions_is_cut_short(catalog: Catalog) -> None:
    catalog.set_versions("mail", versions(*range(1, 51)))
    with pytest.raises(UnknownAdapter) as error:
        catalog.resolve(AdapterRef.parse("mail@99"), "key", lambda _: True)
    assert error.value.hint.endswith("20 and 30 more")

"""Names of tasks, versions and aliases, as people write them."""

import pytest
from adapterd.adapters.errors import BadRequest
from adapterd.adapters.refs import ALIASES, BASE, MAX_VERSION, AdapterRef, check_task
from hypothesis import given
from hypothesis import strategies as st

TASKS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True).filter(lambda name: name != BASE)
REFS = st.one_of(
    st.just(AdapterRef(BASE)),
    st.builds(lambda task, version: AdapterRef(task, version=version), TASKS, st.integers(1, MAX_VERSION)),
    st.builds(lambda task, alias: AdapterRef(task, alias=alias), TASKS, st.sampled_from(ALIASES)),
)


@given(REFS)
def test_what_is_written_is_read_back(ref: AdapterRef) -> None:
    assert AdapterRef.parse(str(ref)) == ref


@given(st.one_of(st.text(), st.text(alphabet="abz09-@ ", max_size=70), st.from_regex(r"[a-z]{1,3}@[0-9a-z]{0,25}")))
def test_any_text_is_a_reference_or_a_bad_request(text: str) -> None:
    try:
        ref = AdapterRef.parse(text)
    except BadRequest as error:
        refused = error
    else:
        assert str(ref) == text.removesuffix("@champion")
        return
    assert refused.hint
    assert refused.details["field"] == "adapter"
    assert len(refused.message) < 400


def test_a_long_text_without_a_letter_to_print_is_refused_in_few_words() -> None:
    with pytest.raises(BadRequest) as caught:
        AdapterRef.parse("a@" + "\U00018cd6" * 70)
    assert len(caught.value.message) < 400


def test_a_task_alone_is_its_champion() -> None:
    assert (
        AdapterRef.parse("tickets") == AdapterRef.parse("tickets@champion") == AdapterRef("tickets", alias="champion")
    )
    assert str(AdapterRef("tickets", alias="champion")) == "tickets"


def test_the_base_is_no_task() -> None:
    assert AdapterRef.parse("base").is_base
    assert not AdapterRef.parse("basement").is_base
    with pytest.raises(BadRequest, match="'base' is not a task") as caught:
        check_task("base")
    assert caught.value.details["field"] == "task"
    for text in ("base@7", "base@champion", "base@"):
        with pytest.raises(BadRequest, match="neither versions nor aliases"):
            AdapterRef.parse(text)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Tickets@7", "'Tickets' is not a task"),
        ("-a", "'-a' is not a task"),
        ("a" * 64, "is not a task"),
        ("tïckets", "is not a task"),
        ("tickets/../x", "is not a task"),
        ("tickets\n", "is not a task"),
        ("@7", "'' is not a task"),
        ("tickets@", "'' is neither a version nor an alias"),
        ("tickets@0", "'0' is neither"),
        ("tickets@07", "'07' is neither"),
        ("tickets@-1", "'-1' is neither"),
        ("tickets@\u0667", "is neither"),
        ("tickets@9223372036854775808", "is neither"),
        ("tickets@best", "'best' is neither"),
        ("tickets@7@8", "'7@8' is neither"),
        ("", "no adapter is named"),
    ],
)
def test_the_error_says_which_part_is_wrong(text: str, wrong: str) -> None:
    with pytest.raises(BadRequest, match=wrong):
        AdapterRef.parse(text)


@pytest.mark.parametrize("name", ["a", "7", "a" * 63, "support-tickets", "0-0"])
def test_a_task_is_lower_case_letters_digits_and_dashes(name: str) -> None:
    assert check_task(name) == name


@pytest.mark.parametrize(
    ("version", "alias"),
    [(None, None), (7, "champion"), (0, None), (-1, None), (MAX_VERSION + 1, None), (None, "best")],
)
def test_a_reference_that_means_nothing_cannot_be_made(version: int | None, alias: str | None) -> None:
    with pytest.raises(BadRequest):
        AdapterRef("tickets", version=version, alias=alias)

"""What a row shares with the rows before it."""

from collections.abc import Sequence

from adapterd.continual.audit.findings import Concern
from adapterd.continual.audit.repeats import Known, Repeats, Side, find_repeats
from adapterd.continual.examples import Example, Numbered, Repeat, parse_row


def label(text: str, name: str) -> Example:
    return parse_row({"text": text, "label": name})


def found(rows: Sequence[Example], *history: Known, repeated: Sequence[Repeat] = ()) -> Repeats:
    return find_repeats([Numbered(line, row) for line, row in enumerate(rows, 1)], repeated, history)


def said(repeats: Repeats) -> list[tuple[Concern, int, int, int]]:
    return [(one.concern, one.line, one.other, one.drop) for one in repeats.findings]


ASKED = "When will my new card be delivered to me?"
AGAIN = "when will my new card be delivered to me"
ALMOST = "Hi, when will my new card be delivered to me?"


def test_rephrasings_follow_the_first_and_are_named_with_it() -> None:
    rows = [
        label(ASKED, "card"),
        label("Where is the nearest bank?", "bank"),
        label(AGAIN, "card"),
        label(ALMOST, "card"),
    ]
    repeats = found(rows)
    assert repeats.fresh == rows[:2]
    assert repeats.followers == {rows[0].id: rows[2:]}
    assert said(repeats) == [(Concern.NEAR_DUPLICATE, 3, 1, 0), (Concern.NEAR_DUPLICATE, 4, 1, 0)]


def test_another_answer_to_the_same_question_contradicts_the_newest_row_that_has_one() -> None:
    old = Known(3, label(ASKED, "card"), Side.LEARNED)
    rows = [label(AGAIN, "post"), label(ALMOST, "mail"), label(AGAIN + "?", "post")]
    repeats = found(rows, old)
    assert said(repeats) == [
        (Concern.CONTRADICTION, 1, 0, 3),
        (Concern.CONTRADICTION, 2, 1, 0),
        (Concern.NEAR_DUPLICATE, 3, 1, 0),
    ]
    assert repeats.learnable == rows


def test_texts_that_answer_nearly_alike_do_not_contradict() -> None:
    one = {"prompt": ASKED, "completion": "Within five working days, as a rule, after we have sent it."}
    other = {"prompt": AGAIN, "completion": "within five working days as a rule, after we have sent it"}
    third = {"prompt": AGAIN, "completion": "Cards are made in Madrid."}
    assert said(found([parse_row(one), parse_row(other)])) == [(Concern.NEAR_DUPLICATE, 2, 1, 0)]
    assert said(found([parse_row(one), parse_row(third)])) == [(Concern.CONTRADICTION, 2, 1, 0)]


def test_what_versions_are_judged_by_is_never_learned_whatever_the_answer() -> None:
    judge = Known(2, label(ASKED, "card"), Side.HELD_OUT)
    golden = Known(1, label("Who owns the bank?", "bank"), Side.GOLDEN)
    rows = [label(ASKED, "card"), label(ALMOST, "card"), label(AGAIN, "post"), label("who owns the bank", "bank")]
    repeats = found(rows, golden, judge)
    assert (repeats.fresh, repeats.followers, repeats.learnable) == ([], {}, [])
    assert repeats.known == rows[:1]
    assert repeats.left_out == rows[1:]
    assert [one[:2] for one in said(repeats)] == [
        (Concern.LEAK, 1),
        (Concern.LEAK, 2),
        (Concern.LEAK, 3),
        (Concern.CONTRADICTION, 3),
        (Concern.LEAK, 4),
    ]


def test_what_asks_what_stopped_an_earlier_training_is_not_learned_and_no_leak() -> None:
    stopped_by = Known(2, label(ASKED, "card"), Side.VALIDATION)
    rows = [label(ASKED, "card"), label(ALMOST, "card"), label(AGAIN, "post")]
    repeats = found(rows, stopped_by)
    assert (repeats.fresh, repeats.followers, repeats.learnable) == ([], {}, [])
    assert (repeats.known, repeats.left_out) == (rows[:1], rows[1:])
    assert said(repeats) == [
        (Concern.DUPLICATE, 1, 0, 2),
        (Concern.NEAR_DUPLICATE, 2, 0, 2),
        (Concern.CONTRADICTION, 3, 0, 2),
    ]
    assert all("not learned from, as trainings stop by such rows" in told.said for told in repeats.findings[1:])


def test_what_was_left_out_of_an_earlier_drop_and_comes_again_is_no_leak() -> None:
    stopped_by, left_out = (
        Known(2, label(ASKED, "card"), Side.VALIDATION),
        Known(3, label(ALMOST, "card"), Side.LEFT_OUT),
    )
    repeats = found([label(ALMOST, "card")], stopped_by, left_out)
    assert said(repeats) == [(Concern.DUPLICATE, 1, 0, 3)]
    assert repeats.known == [label(ALMOST, "card")]


def test_rows_that_stand_in_an_earlier_drop_and_lines_left_out_by_the_parser_are_duplicates() -> None:
    row = label(ASKED, "card")
    repeats = found([row], Known(5, row, Side.LEARNED), repeated=[Repeat(2, 1)])
    assert said(repeats) == [(Concern.DUPLICATE, 2, 1, 0), (Concern.DUPLICATE, 1, 0, 5)]
    assert (repeats.known, repeats.fresh) == ([row], [])

"""Whether a canary goes on, becomes champion or is taken back."""

import math
from random import Random

import pytest
from adapterd.daemon.canary_rules import FIRST_LOOK, Judgement, Rules, Tally, judge, slowdown
from hypothesis import given
from hypothesis import strategies as st

RULES = Rules(min_requests=200, level=0.01, max_slowdown=1.5)


def tally(answered: int, failed: int = 0, good: int = 0, bad: int = 0, seconds: float = 0.01) -> Tally:
    """Answers that all took about `seconds` a token."""
    made = Tally(failed=failed, good=good, bad=bad)
    for number in range(answered):
        made = made.with_answer(seconds * (1.1 if number % 2 else 0.9) * 20, 20)
    return made


def test_a_canary_that_holds_becomes_champion_once_it_has_been_asked_enough() -> None:
    before = judge(tally(1800), tally(199), RULES, 160)
    assert before == (Judgement.WAIT, "", 160)
    judgement, reason, looked = judge(tally(1800), tally(200, good=3), RULES, 160)
    assert (judgement, looked) == (Judgement.PROMOTE, 200)
    assert reason == (
        "held as canary: 200 requests, 0 failed, 1.00 times the champion's seconds a token, "
        "rated good 3 and bad 0 times"
    )


@pytest.mark.parametrize(
    ("champion", "canary", "says"),
    [
        (tally(90), tally(0, failed=FIRST_LOOK), "it fails 10 of 10 requests, the champion 0 of 90"),
        (tally(90), tally(20, seconds=0.03), "it takes 3.0"),
        (tally(90, good=20), tally(20, bad=9, good=1), "9 of its 10 rated answers are bad, 0 of the champion's 20"),
    ],
    ids=["fails", "slow", "bad"],
)
def test_a_canary_that_is_clearly_worse_is_taken_back_at_its_first_look(
    champion: Tally, canary: Tally, says: str
) -> None:
    judgement, reason, _ = judge(champion, canary, RULES, 0)
    assert judgement is Judgement.REVERT
    assert says in reason


def test_a_canary_that_is_a_little_slower_is_kept() -> None:
    assert judge(tally(1800), tally(200, seconds=0.013), RULES, 160)[0] is Judgement.PROMOTE


def test_a_champion_that_fails_as_often_is_no_reason_to_take_the_canary_back() -> None:
    assert judge(tally(900, failed=100), tally(180, failed=20), RULES, 160)[0] is Judgement.PROMOTE


def test_between_two_looks_nothing_is_decided() -> None:
    assert judge(tally(90), tally(0, failed=12), RULES, 10) == (Judgement.WAIT, "", 10)
    assert judge(tally(90), tally(0, failed=20), RULES, 10)[0] is Judgement.REVERT


def test_an_equal_canary_is_seldom_taken_back_though_it_is_looked_at_again_and_again() -> None:
    random, reverted = Random(0), 0
    for _ in range(200):
        sides = [Tally(), Tally()]
        looked = 0
        while sides[1].requests < RULES.min_requests:
            side = int(random.random() < 0.3)
            failed = random.random() < 0.05
            sides[side] = (
                sides[side].with_failure()
                if failed
                else sides[side].with_answer(0.01 * math.exp(random.gauss(0, 0.5)), 1)
            )
            judgement, _, looked = judge(sides[0], sides[1], RULES, looked)
            if judgement is Judgement.REVERT:
                reverted += 1
                break
    assert reverted <= 4  # 1 % of 200 is 2


@given(st.integers(1, 5000))
def test_looks_double_and_end_where_the_trial_does(min_requests: int) -> None:
    looks = Rules(min_requests, 0.01, 1.5).looks
    assert looks == sorted(set(looks))
    assert looks[-1] == min_requests
    assert len(looks) <= 2 + math.log2(max(1, min_requests / FIRST_LOOK)) + 1


@given(st.lists(st.tuples(st.floats(1e-4, 1e3), st.integers(0, 5000)), max_size=30), st.integers(0, 30))
def test_counting_in_parts_is_counting_at_once(answers: list[tuple[float, int]], cut: int) -> None:
    def counted(some: list[tuple[float, int]]) -> Tally:
        total = Tally()
        for seconds, tokens in some:
            total = total.with_answer(seconds, tokens)
        return total

    whole, parts = counted(answers), counted(answers[:cut]) + counted(answers[cut:])
    assert whole.answered == parts.answered
    assert whole.log_seconds == pytest.approx(parts.log_seconds)
    assert Tally(**whole.to_json()) == whole


def test_slowdown_is_not_known_before_both_have_answered() -> None:
    assert slowdown(tally(0), tally(5)) is None
    assert slowdown(tally(5), tally(5, seconds=0.02)) == pytest.approx(2.0)

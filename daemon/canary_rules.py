"""Whether a canary goes on, becomes champion or is taken back: a function of what was counted, without memory.

Champion and canary answer requests that chance parted between them, so what differs beyond chance is the version's.
Three things are asked, each of which can take the canary back: whether it fails more often (Fisher's exact test), is
slower for each token (Welch's t-test on the logarithm of seconds a token) or is rated worse by people (Fisher's exact
test). They are asked at a few looks only, each time the canary's requests have doubled, and share the level among the
looks and questions (Bonferroni): looking at every request would find something by chance sooner or later.
"""

import math
from dataclasses import asdict, astuple, dataclass
from enum import StrEnum
from typing import Any, Final

from scipy import stats

from ..continual.paired import p_share_lower

FIRST_LOOK: Final = 10
"""Requests of the canary at which it is looked at first: one that always fails is taken back then."""
_QUESTIONS: Final = 3


class Judgement(StrEnum):
    """What becomes of a canary."""

    WAIT = "wait"
    PROMOTE = "promote"
    REVERT = "revert"


@dataclass(frozen=True)
class Rules:
    """`min_requests` that a canary has answered before it becomes champion; `level`, the probability that an equal one
    is taken back; `max_slowdown`, its seconds a token over the champion's that are accepted."""

    min_requests: int
    level: float
    max_slowdown: float

    @property
    def looks(self) -> list[int]:
        """Numbers of the canary's requests at which it is looked at."""
        if self.min_requests <= FIRST_LOOK:
            return [self.min_requests]
        doublings = math.ceil(math.log2(self.min_requests / FIRST_LOOK))
        return [*(FIRST_LOOK * 2**n for n in range(doublings)), self.min_requests]


@dataclass(frozen=True)
class Tally:
    """What a version's requests came to; `log_seconds` and `log_squares` are sums over those that were `answered`."""

    answered: int = 0
    failed: int = 0
    good: int = 0
    bad: int = 0
    log_seconds: float = 0.0
    log_squares: float = 0.0

    @property
    def requests(self) -> int:
        """All that ended, well or not."""
        return self.answered + self.failed

    def __add__(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def with_answer(self, seconds: float, tokens: int) -> "Tally":
        """After an answer that read and wrote `tokens` tokens in `seconds`."""
        log = math.log(max(seconds, 1e-9) / max(tokens, 1))
        return self + Tally(answered=1, log_seconds=log, log_squares=log * log)

    def with_failure(self) -> "Tally":
        """After a request that the version failed."""
        return self + Tally(failed=1)

    def with_rating(self, *, good: bool) -> "Tally":
        """After a person's judgement of an answer."""
        return self + Tally(good=int(good), bad=int(not good))

    def to_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)


def slowdown(champion: Tally, canary: Tally) -> float | None:
    """The canary's seconds a token over the champion's, geometric means; None where one has answered nothing."""
    if not champion.answered or not canary.answered:
        return None
    return math.exp(canary.log_seconds / canary.answered - champion.log_seconds / champion.answered)


def judge(champion: Tally, canary: Tally, rules: Rules, looked: int) -> tuple[Judgement, str, int]:
    """(what becomes of the canary, why, at how many requests it was looked at), `looked` being that of the last time.

    Between two looks it is `WAIT`.
    """
    due = [look for look in rules.looks if looked < look <= canary.requests]
    if not due:
        return Judgement.WAIT, "", looked
    level = rules.level / (len(rules.looks) * _QUESTIONS)
    for reason in (
        _fails(champion, canary, level),
        _slow(champion, canary, rules, level),
        _bad(champion, canary, level),
    ):
        if reason:
            return Judgement.REVERT, reason, due[-1]
    if canary.requests < rules.min_requests:
        return Judgement.WAIT, "", due[-1]
    said = f"{canary.requests} requests, {canary.failed} failed"
    ratio = slowdown(champion, canary)
    if ratio is not None:
        said += f", {ratio:.2f} times the champion's seconds a token"
    if canary.good or canary.bad:
        said += f", rated good {canary.good} and bad {canary.bad} times"
    return Judgement.PROMOTE, f"held as canary: {said}", due[-1]


def _fails(champion: Tally, canary: Tally, level: float) -> str:
    p = p_share_lower(canary.answered, canary.requests, champion.answered, champion.requests)
    if p >= level:
        return ""
    return (
        f"it fails {canary.failed} of {canary.requests} requests, the champion {champion.failed} of "
        f"{champion.requests} (p = {p:.2g})"
    )


def _bad(champion: Tally, canary: Tally, level: float) -> str:
    p = p_share_lower(canary.good, canary.good + canary.bad, champion.good, champion.good + champion.bad)
    if p >= level:
        return ""
    return (
        f"{canary.bad} of its {canary.good + canary.bad} rated answers are bad, {champion.bad} of the champion's "
        f"{champion.good + champion.bad} (p = {p:.2g})"
    )


def _slow(champion: Tally, canary: Tally, rules: Rules, level: float) -> str:
    """Whether its seconds a token are more than `max_slowdown` times the champion's, beyond chance."""
    ratio = slowdown(champion, canary)
    if ratio is None or min(champion.answered, canary.answered) < 2:
        return ""
    mean, spread = _moments(canary)
    other_mean, other_spread = _moments(champion)
    p = stats.ttest_ind_from_stats(
        mean - math.log(rules.max_slowdown),
        max(spread, 1e-9),
        canary.answered,
        other_mean,
        max(other_spread, 1e-9),
        champion.answered,
        equal_var=False,
        alternative="greater",
    ).pvalue
    return f"it takes {ratio:.2f} times the champion's seconds a token (p = {p:.2g})" if p < level else ""


def _moments(tally: Tally) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm of seconds a token."""
    mean = tally.log_seconds / tally.answered
    variance = max(0.0, tally.log_squares - tally.answered * mean * mean) / (tally.answered - 1)
    return mean, math.sqrt(variance)

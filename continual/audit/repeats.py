"""Rows that stand there twice, rephrasings, contradictions and leaks: what a row shares with rows that came before it.

A question that earlier rows asked belongs to their group. With the answer known there, a row repeats; with another
one, it contradicts; and if the group's first row is one that versions are judged by, it leaks and is not learned from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from ..examples import Example, Kind, Numbered, Repeat
from .findings import Concern, Finding
from .similar import NEAR, Index, Question, boilerplate, plain, resemblance, same_meaning


class Side(StrEnum):
    """What an earlier row is for."""

    LEARNED = "learned"
    VALIDATION = "validation"
    HELD_OUT = "held out"
    GOLDEN = "golden"
    LEFT_OUT = "left out"

    @property
    def judges(self) -> bool:
        """Whether versions are judged by it."""
        return self in (Side.HELD_OUT, Side.GOLDEN)


@dataclass(frozen=True, slots=True)
class Known:
    """A row of an earlier drop."""

    drop: int
    example: Example
    side: Side


@dataclass(slots=True)
class Repeats:
    """What was found, and what becomes of the drop's rows for it.

    `fresh`: the rows that ask what no row before them asked. `followers`: rows, by the id of the fresh one whose
    question they ask. `learnable`: rows that ask what earlier drops' training rows asked. `known`: rows that stand in
    an earlier drop, letter by letter. `left_out`: rows that ask what a row asks that versions are judged by, or that
    decides when trainings stop: learned in other words, neither would say anything any more.
    """

    fresh: list[Example] = field(default_factory=list)
    followers: dict[str, list[Example]] = field(default_factory=dict)
    learnable: list[Example] = field(default_factory=list)
    known: list[Example] = field(default_factory=list)
    left_out: list[Example] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


class _Asked(NamedTuple):
    """Where a question was asked: a line of this drop (`drop` 0), or an earlier drop."""

    drop: int
    line: int
    example: Example
    side: Side
    question: Question


class _Group:
    """Rows that ask the same: the first, and the first row of each answer."""

    def __init__(self, first: _Asked) -> None:
        self.first = first
        self._answers: list[_Asked] = [first]

    def answered_alike(self, example: Example) -> _Asked | None:
        """The first row with that answer."""
        return next((asked for asked in self._answers if same_answer(asked.example, example)), None)

    def add(self, asked: _Asked) -> None:
        """Note the first row of an answer."""
        self._answers.append(asked)

    def contradicted(self, question: Question) -> _Asked | None:
        """The newest row with another answer that means the same question."""
        alike = (asked for asked in reversed(self._answers) if same_meaning(question, asked.question))
        return next(alike, None)


def find_repeats(rows: Sequence[Numbered], repeated: Sequence[Repeat], history: Iterable[Known]) -> Repeats:
    """Compare each row with all before it; `repeated`: lines that the parser left out, as equal to earlier ones."""
    found = Repeats()
    questions = [Question.of(example) for _, example in rows]
    index: Index[int] = Index(boilerplate(questions))
    groups: list[_Group] = []
    ids: dict[str, Known] = {}
    for known in history:
        ids.setdefault(known.example.id, known)
        _join(index, groups, _Asked(known.drop, 0, known.example, known.side, Question.of(known.example)))
    for line, first in repeated:
        found.findings.append(Finding(Concern.DUPLICATE, line, f"is line {first} again", other=first))
    for (line, example), question in zip(rows, questions, strict=True):
        if (twin := ids.get(example.id)) is not None:
            (found.left_out if twin.side is Side.GOLDEN else found.known).append(example)
            leaks = twin.side.judges
            said = f"stands in drop {twin.drop} already" + (", to judge by: not learned from" if leaks else "")
            concern = Concern.LEAK if leaks else Concern.DUPLICATE
            found.findings.append(Finding(concern, line, said, drop=twin.drop))
            continue
        asked = _Asked(0, line, example, Side.LEARNED, question)
        group, resembling = _join(index, groups, asked)
        if group.first is asked:
            found.fresh.append(example)
            continue
        found.findings.extend(_said(asked, group, resembling))
        if not group.first.drop:
            found.followers.setdefault(group.first.example.id, []).append(example)
        elif group.first.side is Side.LEARNED:
            found.learnable.append(example)
        else:
            found.left_out.append(example)
    return found


def same_answer(left: Example, right: Example) -> bool:
    """Whether two rows answer alike: labels letter by letter, texts nearly so."""
    if left.completion == right.completion:
        return True
    if left.kind is Kind.LABEL or right.kind is Kind.LABEL:
        return False
    answers = Question(plain(left.completion), ""), Question(plain(right.completion), "")
    return resemblance(*answers) >= NEAR


def _join(index: Index[int], groups: list[_Group], asked: _Asked) -> tuple[_Group, float]:
    place, resembling = index.leader(len(groups), asked.question)
    if place == len(groups):
        groups.append(_Group(asked))
    return groups[place], resembling


def _said(asked: _Asked, group: _Group, resembling: float) -> list[Finding]:
    """What a row's question says of it, asked before it by the group's first row; a new answer is noted there."""
    found, first, unlearned = [], group.first, ""
    if first.side.judges:
        said = f"asks what a row of drop {first.drop} asks that versions are judged by: not learned from"
        found.append(Finding(Concern.LEAK, asked.line, said, drop=first.drop))
    elif first.side is not Side.LEARNED:
        unlearned = ": not learned from, as trainings stop by such rows"
    alike = group.answered_alike(asked.example)
    if alike is not None:
        if not found:
            how = "asks in other spelling" if resembling == 1.0 else f"asks nearly ({resembling:.0%})"
            said = f"{how} what {_named(alike)} asks, and answers alike{unlearned}"
            found.append(Finding(Concern.NEAR_DUPLICATE, asked.line, said, other=alike.line, drop=alike.drop))
        return found
    if (other := group.contradicted(asked.question)) is not None:
        answers = f"answers {_short(asked)} where that answers {_short(other)}"
        said = f"asks what {_named(other)} asks, and {answers}{unlearned}"
        found.append(Finding(Concern.CONTRADICTION, asked.line, said, other=other.line, drop=other.drop))
    group.add(asked)
    return found


def _named(asked: _Asked) -> str:
    return f"line {asked.line}" if not asked.drop else f"a row of drop {asked.drop}"


def _short(asked: _Asked) -> str:
    text = " ".join(asked.example.completion.split())
    return f'"{text[:40]}…"' if len(text) > 40 else f'"{text}"'

"""Which rows ask the same, word by word or nearly so.

Questions are compared by the Jaccard similarity of their sets of three-character shingles (Broder 1997, "On the
resemblance and containment of documents"); MinHash signatures in bands find the candidates (Indyk & Motwani 1998), and
each candidate is then compared exactly, so that a signature's error never makes two rows equal. A row joins the first
group whose leader it resembles and is not compared with any further row: ten thousand rephrasings of one question cost
ten thousand comparisons, not fifty million.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar
from zlib import crc32

from datasketch import MinHash, MinHashLSH

from ..examples import Example, Kind

Key = TypeVar("Key", bound=Hashable)

# Resemblance from which two questions count as one; and where they differ in the spelling of one word alone, for in a
# short question a slip of the pen touches many shingles.
NEAR: Final = 0.8
_NEAR_BUT_FOR_A_SLIP: Final = 0.6
# Of fewer characters ("order 7", "order 71") a part says little about the whole.
_LONG: Final = 20
# Where bands of signatures look for candidates.
_CANDIDATES: Final = 0.6
_PERMUTATIONS: Final = 64
_SHINGLE: Final = 3
# Two words are spellings of one another from this ratio of common letters on ("recognise", "recognize").
_SAME_WORD: Final = 0.75
# Words in more than half of the questions are boilerplate, where there are enough to tell.
_MOST, _MANY = 0.5, 16


@dataclass(frozen=True, slots=True)
class Question:
    """What a row asks, without case, punctuation and spacing: `asked` itself, and all that is said before it."""

    asked: str
    before: str

    @classmethod
    def of(cls, example: Example) -> "Question":
        """The last thing asked, and the context or the turns before; a plain text asks itself."""
        if example.messages:
            *before, (_, asked) = example.messages[:-1]
            return cls(plain(asked), plain(" ".join(content for _, content in before)))
        asked = example.completion if example.kind is Kind.TEXT else example.prompt
        return cls(plain(asked), plain(example.context))


def plain(text: str) -> str:
    """The words of a text in lower case, one space between; the text as it is where it has no word."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(words) or text.strip()


def resemblance(left: Question, right: Question) -> float:
    """Jaccard similarity of two questions, in [0, 1]: that of what is asked or of what stands before, the lower."""
    asked = _jaccard(left.asked, right.asked)
    return asked if asked < _NEAR_BUT_FOR_A_SLIP else min(asked, _jaccard(left.before, right.before))


def near(left: Question, right: Question) -> float:
    """The resemblance of two questions that count as one; else 0."""
    alike = resemblance(left, right)
    long = min(len(left.asked), len(right.asked)) >= _LONG
    if (alike >= NEAR and long) or (alike >= _NEAR_BUT_FOR_A_SLIP and _one_slip(left.asked, right.asked)):
        return alike
    return 0.0


def same_meaning(left: Question, right: Question) -> bool:
    """Whether two resembling questions differ in spelling or in added words only, not in a word replaced by another.

    "Who founded House Massey?" and "Who founded House Bulwer?" resemble each other and may have different answers.
    """
    only_left, only_right = _differing(left.asked, right.asked)
    return not (only_left and only_right) or _alike("".join(only_left), "".join(only_right))


def boilerplate(questions: Sequence[Question]) -> frozenset[str]:
    """Words that stand in most of many questions, such as those of an instruction that every prompt begins with.

    They make questions resemble each other that have nothing else in common, so `Index` leaves them out.
    """
    if len(questions) < _MANY:
        return frozenset()
    counts = Counter(word for question in questions for word in {*question.asked.split(), *question.before.split()})
    return frozenset(word for word, count in counts.items() if count > _MOST * len(questions))


class Index(Generic[Key]):
    """Groups of resembling questions, each led by the first that came; `common`: see `boilerplate`."""

    def __init__(self, common: frozenset[str] = frozenset()) -> None:
        self._common = common
        # One for all questions, since drawing its permutations takes longer than all else; the bands keep no signature.
        self._signature = MinHash(num_perm=_PERMUTATIONS, hashfunc=crc32, scheme="affine32")
        self._bands = MinHashLSH(threshold=_CANDIDATES, num_perm=_PERMUTATIONS)
        self._leaders: list[tuple[Key, Question]] = []
        self._exact: dict[Question, int] = {}

    def leader(self, key: Key, question: Question) -> tuple[Key, float]:
        """The leader of the group that `question` belongs to, and its resemblance to it; its own new group's: 1.0."""
        if (known := self._exact.get(question)) is not None:
            return self._leaders[known][0], 1.0
        own = self._without_common(question)
        text = f"{own.asked} {own.before}" if own.before else own.asked
        signature = self._signature
        signature.clear()
        signature.update_batch([shingle.encode() for shingle in _shingles(text)])
        # A question of common words alone is compared letter by letter, above.
        places: Any = self._bands.query(signature) if own.asked else ()
        candidates = [(near(own, self._leaders[place][1]), -place) for place in places]
        nearest, place = max(candidates, default=(0.0, 0))
        if nearest:
            return self._leaders[-place][0], nearest
        self._exact[question] = len(self._leaders)
        if own.asked:
            self._bands.insert(len(self._leaders), signature, check_duplication=False)
        self._leaders.append((key, own))
        return key, 1.0

    def _without_common(self, question: Question) -> Question:
        if not self._common:
            return question
        texts = (question.asked, question.before)
        return Question(*(" ".join(word for word in text.split() if word not in self._common) for text in texts))


def _one_slip(left: str, right: str) -> bool:
    only_left, only_right = _differing(left, right)
    return len(only_left) == len(only_right) == 1 and _alike(only_left[0], only_right[0])


def _differing(left: str, right: str) -> tuple[list[str], list[str]]:
    """The words that only one of two texts has."""
    here, there = Counter(left.split()), Counter(right.split())
    return list((here - there).elements()), list((there - here).elements())


def _alike(left: str, right: str) -> bool:
    """Whether two words are spellings of one another; two numbers are two numbers."""
    if any(sign.isdigit() for sign in left + right):
        return left == right
    return SequenceMatcher(None, left, right, autojunk=False).ratio() >= _SAME_WORD


def _jaccard(left: str, right: str) -> float:
    if left == right:
        return 1.0
    here, there = _shingles(left), _shingles(right)
    shared = len(here & there)
    return shared / (len(here) + len(there) - shared)


@lru_cache(maxsize=4096)  # a question is compared with several others, and asked for its signature
def _shingles(text: str) -> frozenset[str]:
    return frozenset(text[start : start + _SHINGLE] for start in range(max(1, len(text) - _SHINGLE + 1)))

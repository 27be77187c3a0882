"""Guesses at what a generation says next, from its own text: several tokens a step where it repeats itself.

A step over a few tokens takes hardly longer than one over a single token, for both read every weight once. So what
followed the last time that the text stood as it does now is computed along, and kept as far as the request draws the
very same tokens by itself (speculative decoding, Leviathan et al. 2023, arXiv:2211.17192; guessed by looking the
text up, Saxena 2023, "Prompt Lookup Decoding"). An answer is the one that it would have been, only sooner: a query that
names what its question named, a record with the same keys again, a list.
"""

from collections.abc import Sequence
from typing import Final

#: The last tokens that must have stood there before, longest first. A single one repeats by chance too often.
_CONTEXTS: Final = (3, 2)
#: The first guess, and the longest.
_FIRST, _LONGEST = 2, 16


class Drafter:
    """The text of one generation so far, and what may come next."""

    def __init__(self, text: Sequence[int]) -> None:
        self._text: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # where the text went on after its last tokens were these
        self._reach = _FIRST
        for token in text:
            self.add(token)

    def add(self, token: int) -> None:
        """The text goes on with `token`."""
        end = len(self._text)
        for length in _CONTEXTS:
            if length <= end:
                self._after[tuple(self._text[end - length :])] = end
        self._text.append(token)

    def propose(self, most: int) -> list[int]:
        """Up to `most` tokens that may come next; none where nothing repeats."""
        for length in _CONTEXTS:
            start = self._after.get(tuple(self._text[-length:]))
            if start is not None:
                # What repeats up to the end goes on repeating.
                period = len(self._text) - start
                return [self._text[start + at % period] for at in range(min(most, self._reach))]
        return []

    def learn(self, proposed: int, kept: int) -> None:
        """Reach farther after a guess that was right to its end, and no farther than it was right after another."""
        if proposed:
            self._reach = min(2 * self._reach, _LONGEST) if kept == proposed else max(1, kept)

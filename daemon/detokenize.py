"""Tokens to text while they come: never half a character, never the beginning of a stop text.

Two buffers follow each other. The first holds tokens whose bytes do not make whole characters yet: a decoder shows
them as U+FFFD at the end of the text. The second holds text that may turn out to be the beginning of a stop text.
What leaves both is final, so the pieces joined are exactly the decoded whole, cut at the first stop text.
"""

from collections.abc import Callable, Sequence
from typing import Final

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are not, or not yet, UTF-8."""

_UNFINISHED: Final = 3  # bytes of a UTF-8 character that still lacks one, at most; each is one U+FFFD at most


class Detokenizer:
    """Text of one answer, piece by piece.

    `decode` turns token ids into text, special tokens left out, and is a function of the ids alone; the text of a
    longer sequence begins with that of a shorter one, up to U+FFFD at its end. `stops` are texts that end the answer.
    `joint` is what may stand between prompt and answer, one character at most; it is no part of the answer.
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = (), joint: str = "") -> None:
        self._decode = decode
        self._stops = tuple(stops)
        self._joint = joint
        # Decoded together: tokens whose text is out already (a decoder may treat the first of a sequence differently,
        # so it needs them as context), then those whose text is not, or not all, out.
        self._window: list[int] = []
        self._context = 0  # tokens of the window that are context
        self._before = ""  # their text
        self._released = 0  # characters of the window's text that have left it
        self._held = ""  # text that may be the beginning of a stop text
        self._stopped = False
        self.tokens = 0
        """How many were taken, up to the one that completed a stop text."""

    @property
    def stopped(self) -> bool:
        """Whether a stop text was met; what comes after it is thrown away."""
        return self._stopped

    def feed(self, token: int) -> str:
        """Take one token; return the text that is final now, often that of this token, sometimes none."""
        if self._stopped:
            return ""
        self.tokens += 1
        self._window.append(token)
        text = self._text()
        unfinished = min(len(text) - len(text.rstrip(REPLACEMENT)), _UNFINISHED)
        piece = text[self._released : len(text) - unfinished]
        self._released += len(piece)
        if piece and not unfinished:
            # Everything is out: the tokens of this piece are the context of the next, older ones are not needed.
            fresh = self._window[self._context :]
            self._window, self._context = fresh, len(fresh)
            self._before = self._decode(fresh)
            self._released = len(self._before)
        return self._pass_stops(piece, last=False)

    def finish(self) -> str:
        """Return what was held back: no more tokens come. U+FFFD that is still there is part of the text."""
        if self._stopped:
            return ""
        piece = self._text()[self._released :]
        self._released += len(piece)
        return self._pass_stops(piece, last=True)

    def _text(self) -> str:
        """The text of the window."""
        text = self._decode(self._window)
        if text.startswith(self._before):
            return text
        # Some decoders show every byte of a run as U+FFFD while its last character lacks one, those before it too.
        return self._before + self._decode(self._window[self._context :])

    def _pass_stops(self, piece: str, *, last: bool) -> str:
        """Return the part of held text and `piece` that no stop text can change any more."""
        if piece:
            piece, self._joint = piece.removeprefix(self._joint), ""
        text = self._held + piece
        # The stop text that is complete first wins, and of two that end together the longer one: so the answer is the
        # same however the text was cut into tokens.
        met = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if met:
            self._stopped, self._held = True, ""
            return text[: min(met)[1]]
        keep = 0 if last else self._beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _beginning(self, text: str) -> int:
        """Characters at the end of `text` that are the beginning of a stop text; the most, if of several."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0

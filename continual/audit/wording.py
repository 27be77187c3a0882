"""How rows are written: damage, repetition, length, language."""

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ftfy.badness import is_bad
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from ..examples import Example, Kind, Numbered
from .findings import Concern, Finding

# Deflate leaves more than this of what a person wrote; a text that says one thing over and over leaves a tenth.
_REPETITIVE: Final = 0.12
_LONG_ENOUGH_TO_REPEAT: Final = 200
# Rows whose language is asked, and the characters that an answer needs.
_LANGUAGE_ROWS, _LANGUAGE_CHARS = 400, 40
# Share of the rows in another language than most of them that is worth a word.
_OTHER_LANGUAGE: Final = 0.1
_SURE: Final = 0.9

Tokens = Callable[[str], int]
"""How many tokens a text has."""


def find_wording(rows: Sequence[Numbered], tokens: Tokens | None, max_length: int) -> Iterator[Finding]:
    """What single rows are like. `max_length`: the tokens that training reads; None for `tokens`: no length is told."""
    for line, example in rows:
        text = whole(example)
        if not re.search(r"\w", example.completion):
            yield Finding(Concern.EMPTY, line, "has an answer without a letter or digit")
        if len(text) >= _LONG_ENOUGH_TO_REPEAT:
            encoded = text.encode()
            if len(zlib.compress(encoded, 6)) < _REPETITIVE * len(encoded):
                yield Finding(Concern.REPETITION, line, "says the same over and over")
        if "\N{REPLACEMENT CHARACTER}" in text or (not text.isascii() and is_bad(text)):
            yield Finding(Concern.ENCODING, line, "was decoded with a wrong character set somewhere")
        # Most texts have three characters a token or more: a shorter one is not worth the counting.
        if tokens and len(text) > 2 * max_length and (length := tokens(text)) > max_length:
            said = f"has {length:,} tokens, of which training reads {max_length:,}"
            yield Finding(Concern.TRUNCATED, line, said)


def find_languages(rows: Sequence[Numbered]) -> Iterator[Finding]:
    """A word on the drop as a whole where its rows are of several languages, judged by some hundred of the longer."""
    texts = [text for _, example in rows if len(text := whole(example)) >= _LANGUAGE_CHARS]
    some = texts[:: max(1, len(texts) // _LANGUAGE_ROWS)]
    if not some:
        return
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    sure = [language for text in some for language, share in [identifier.classify(text)] if share >= _SURE]
    by_count = Counter(sure).most_common()
    others = [(language, count) for language, count in by_count[1:] if count >= _OTHER_LANGUAGE * len(sure)]
    if others:
        named = ", ".join(f"{count / len(sure):.0%} {language}" for language, count in others)
        said = f"most rows are {by_count[0][0]}, but {named} (of {len(sure)} rows looked at)"
        yield Finding(Concern.LANGUAGE, 0, said)


def texts(example: Example) -> tuple[str, ...]:
    """Everything that a row says, its answer last."""
    turns = tuple(content for _, content in example.messages)
    return tuple(text for text in (turns or (example.prompt, example.context, example.completion)) if text)


def whole(example: Example) -> str:
    """All that a row says in one text; a label is no text."""
    parts = texts(example)
    return "\n".join(parts[:-1] if example.kind is Kind.LABEL else parts)

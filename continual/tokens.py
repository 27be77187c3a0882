"""Text into token ids, in such a way that nothing a person writes becomes a control token.

A tokenizer turns the characters "<|im_end|>" into the token that ends a turn, wherever they come from: a row or a
request that quotes them would end its turn, or speak as the system. So a mark is put within such places before the
text is joined with what a template adds, and the pieces between marks are encoded one by one.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import jinja2

from .errors import BadTemplate, UnrenderableChat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as TokenizerLike
else:  # importing transformers takes seconds, and who has a tokenizer has done so
    TokenizerLike = Any

__all__ = ["TokenizerLike", "chat_text", "encode", "end_of_text", "end_of_turn", "protect", "start_of_text"]

_NONCHARACTER: Final = "\ufdd0"  # Unicode keeps it for uses like this one
_TOKENIZERS: Final = 8  # to remember facts about; a daemon has one
_PROBE: Final = "adapterd"  # an answer, to see what a chat template puts behind it


def protect(tokenizer: TokenizerLike, texts: Sequence[str]) -> tuple[list[str], str]:
    """`texts` with a mark after the first character of whatever reads like a control token, and the mark.

    The mark is "" where there is no such place, else a text that stands nowhere in `texts`.
    """
    control = _control_tokens(tokenizer)
    if control is None or not any(control.search(text) for text in texts):
        return list(texts), ""
    mark = _NONCHARACTER
    while any(mark in text for text in texts):
        mark += _NONCHARACTER
    return [control.sub(lambda found: found[0] + mark, text) for text in texts], mark


def encode(tokenizer: TokenizerLike, text: str, mark: str = "") -> list[int]:
    """The ids of `text` and nothing around it; control tokens are recognised, though not across a mark."""
    pieces = text.split(mark) if mark else [text]
    return [token for piece in pieces if piece for token in tokenizer.encode(piece, add_special_tokens=False)]


def chat_text(tokenizer: TokenizerLike, messages: Sequence[tuple[str, str]], *, to_be_answered: bool) -> str:
    """(role, content) of each turn as the base's chat template writes them, up to where the assistant would begin.

    Raises `UnrenderableChat` where the template refuses the conversation.
    """
    turns = [{"role": role, "content": content} for role, content in messages]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=to_be_answered)
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
        roles = ", ".join(role for role, _ in messages)
        raise UnrenderableChat(
            f"the base's chat template refuses a conversation of {roles or 'no turns'}: {error}",
            hint="most templates want at most one system message, first, and then user and assistant in turn",
        ) from error
    return str(text)


@lru_cache(maxsize=_TOKENIZERS)
def end_of_text(tokenizer: TokenizerLike) -> int:
    """The id that ends a text; `BadTemplate` where the tokenizer has none."""
    end = tokenizer.eos_token_id
    if not isinstance(end, int):
        raise BadTemplate(
            "the base's tokenizer has no end-of-text token, so that an answer could never end",
            hint="set eos_token in the base's tokenizer_config.json",
        )
    return end


@lru_cache(maxsize=_TOKENIZERS)
def end_of_turn(tokenizer: TokenizerLike) -> tuple[int, ...]:
    """The ids with which the chat template ends the assistant's turn, up to the first control token.

    Often that is the end of the text; Gemma and Phi have another. Where the template has no control token behind an
    answer, it is the end of the text.
    """
    end = (end_of_text(tokenizer),)
    try:
        chat = chat_text(tokenizer, [("user", _PROBE), ("assistant", _PROBE)], to_be_answered=False)
    except UnrenderableChat:
        return end
    behind = tuple(encode(tokenizer, chat.rpartition(_PROBE)[2]))
    control = [place for place, token in enumerate(behind) if token in set(_control_ids(tokenizer))]
    return behind[: control[0] + 1] if control else end


@lru_cache(maxsize=_TOKENIZERS)
def start_of_text(tokenizer: TokenizerLike) -> tuple[int, ...]:
    """The beginning-of-text id where the tokenizer itself begins every text with it (Llama, Gemma), else nothing."""
    begin = tokenizer.bos_token_id
    return (begin,) if isinstance(begin, int) and tokenizer.encode(_PROBE)[:1] == [begin] else ()


@lru_cache(maxsize=_TOKENIZERS)
def _control_tokens(tokenizer: TokenizerLike) -> re.Pattern[str] | None:
    """Matches the first character of each control token's text, of overlapping ones too."""
    added = tokenizer.added_tokens_decoder
    texts = {str(added[token].content) for token in _control_ids(tokenizer)}
    longer = sorted((re.escape(text) for text in texts if len(text) > 1), reverse=True)
    return re.compile(f"(?=(?:{'|'.join(longer)})).", re.DOTALL) if longer else None


def _control_ids(tokenizer: TokenizerLike) -> list[int]:
    return [token for token, added in tokenizer.added_tokens_decoder.items() if added.special]

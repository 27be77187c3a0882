"""The template of a version: how rows became tokens when it was trained, and requests do when it is served.

Prompt and completion are always encoded apart, in training as in serving, so that the tokens at their seam are the
same in both. Each kind of row has one form:

    chat          the base's chat template up to the assistant's turn | answer, end of turn
    instruction   the same, with one user turn: the instruction, and a blank line and the input where there is one
    label         "Text: …\\nLabel:"    | " …", end of text
    io            "Input: …\\nOutput:"  | " …", end of text
    prompt        the prompt as it is   | the completion as it is, end of text
    text          nothing               | the text, end of text

On a base without a chat template, an instruction is "Instruction: …\\nAnswer:" | " …", and a chat is "User: …\\n" and
so on up to "Assistant:" | " …". What people write cannot become a control token (see `tokens`), but in `prompt`, where
they write the form themselves.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from .errors import BadTemplate, UnrenderableChat
from .examples import Example
from .rows import shown
from .shapes import ROLES, Kind
from .tokens import TokenizerLike, chat_text, encode, end_of_text, end_of_turn, protect, start_of_text

__all__ = ["Encoded", "Rendered", "Template", "TokenizerLike"]

_FORMAT: Final = 1
_FRAMES: Final = {
    Kind.LABEL: ("Text: ", "\nLabel:"),
    Kind.IO: ("Input: ", "\nOutput:"),
    Kind.INSTRUCTION: ("Instruction: ", "\nAnswer:"),
    Kind.TEXT: ("", ""),
}


class Rendered(NamedTuple):
    """A row as text, without the token that ends it."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Encoded:
    """A row as token ids: `prompt_ids` is never empty, and the loss is taken on `completion_ids` only.

    `left_out` counts the tokens beyond the length allowed: the prompt's first ones, or the completion's last ones.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    left_out: int = field(default=0, compare=False)

    def __len__(self) -> int:
        """Tokens in all."""
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True)
class Template:
    """`serve` is the kind that a plain prompt is rendered as, `labels` are those known so far, sorted.

    `chat_template`: whether the base has one. Methods take the base's tokenizer, which is not part of the template.
    """

    serve: Kind
    labels: tuple[str, ...] = ()
    chat_template: bool = False

    @classmethod
    def for_base(cls, has_chat_template: bool) -> Self:
        """The template of the base itself: a prompt goes in as it is, messages through the chat template."""
        return cls(Kind.PROMPT, (), has_chat_template)

    @classmethod
    def for_examples(cls, examples: Iterable[Example], previous: "Template | None", has_chat_template: bool) -> Self:
        """The template of the version after `previous` that learns `examples`.

        Labels are added to those known. A plain prompt is rendered as the commonest kind among `examples`; of equally
        common ones as `previous` did, else as the first in the order of `Kind`. Raises `ValueError` with neither.
        """
        kinds: Counter[Kind] = Counter()
        labels = set(previous.labels) if previous else set()
        for example in examples:
            kinds[example.kind] += 1
            if example.kind is Kind.LABEL:
                labels.add(example.completion)
        if previous is None and not kinds:
            raise ValueError("a template needs examples or a template before it")
        served = previous.serve if previous else None
        serve = max(Kind, key=lambda kind: (kinds[kind], kind is served))  # max keeps the first of equals
        return cls(serve, tuple(sorted(labels)), has_chat_template)

    def to_json(self) -> dict[str, object]:
        """As it is stored with a version; `from_json` is the inverse."""
        return {
            "format": _FORMAT,
            "serve": self.serve.value,
            "labels": list(self.labels),
            "chat_template": self.chat_template,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """The template that `to_json` wrote; `BadTemplate` for anything else."""
        if value.get("format") != _FORMAT:
            raise BadTemplate(
                f"the template has format {value.get('format')!r}, and {_FORMAT} is read here",
                hint="was the version made by a newer adapterd?",
            )
        serve, labels, chat_template = (value.get(name) for name in ("serve", "labels", "chat_template"))
        if (
            serve not in list(Kind)
            or not isinstance(labels, list)
            or not all(isinstance(label, str) for label in labels)
            or not isinstance(chat_template, bool)
        ):
            raise BadTemplate("the template lacks serve, labels or chat_template", hint="restore the version's folder")
        return cls(Kind(str(serve)), tuple(sorted(labels)), chat_template)

    def render(self, tokenizer: TokenizerLike, example: Example) -> Rendered:
        """The text of `example`, for people to read."""
        text, mark = self._prompt_of(tokenizer, example)
        return Rendered(text.replace(mark, "") if mark else text, self.joint(example.kind) + example.completion)

    def joint(self, kind: Kind | None = None) -> str:
        """What stands between a prompt and its completion: a space, or nothing; a generated text begins with it.

        `kind` is the serve kind if not given; requests of messages are `Kind.CHAT`.
        """
        kind = kind or self.serve
        return "" if kind in (Kind.PROMPT, Kind.TEXT) or self.has_turns(kind) else " "

    def has_turns(self, kind: Kind) -> bool:
        """Whether rows of this kind are written as turns of the base's chat template."""
        return self.chat_template and kind in (Kind.CHAT, Kind.INSTRUCTION)

    def encode_prompt(
        self,
        tokenizer: TokenizerLike,
        *,
        prompt: str | None = None,
        messages: Sequence[tuple[str, str]] | None = None,
    ) -> list[int]:
        """The ids of a request, at least one: of a plain `prompt`, or of `messages` as (role, content).

        Raises `ValueError` unless exactly one is given, and `UnrenderableChat`.
        """
        if (prompt is None) == (messages is None):
            raise ValueError("give a prompt or messages")
        kind = self.serve if messages is None else Kind.CHAT
        return self._prompt_ids(tokenizer, kind, *self._frame(tokenizer, kind, prompt or "", messages or ()))

    def encode_continuation(self, tokenizer: TokenizerLike, text: str, kind: Kind | None = None) -> list[int]:
        """The ids of an answer as training would have it, from the space that joins it to the token that ends it.

        `kind` is the serve kind if not given; answers to messages are `Kind.CHAT`.
        """
        kind = kind or self.serve
        end = list(end_of_turn(tokenizer)) if self.has_turns(kind) else [end_of_text(tokenizer)]
        (shielded,), mark = ([text], "") if kind is Kind.PROMPT else protect(tokenizer, [text])
        ids = encode(tokenizer, self.joint(kind) + shielded, mark)
        return ids if ids[-len(end) :] == end else ids + end  # a raw completion may have brought its own end

    def encode_label(self, tokenizer: TokenizerLike, label: str) -> list[int]:
        """The ids of a label as the answer to a classification."""
        return self.encode_continuation(tokenizer, label, Kind.LABEL)

    def encode_example(self, tokenizer: TokenizerLike, example: Example, max_length: int) -> Encoded:
        """The ids of a row, at most `max_length` (two or more) in all.

        The prompt loses its first tokens (but a beginning-of-text), down to one; the completion loses its last ones,
        its end included, only where it is too long by itself. Raises `UnrenderableChat`.
        """
        if max_length < 2:
            raise ValueError(f"max_length must be two or more, not {max_length}")
        prompt = self._prompt_ids(tokenizer, example.kind, *self._prompt_of(tokenizer, example))
        completion = self.encode_continuation(tokenizer, example.completion, example.kind)
        full = len(prompt) + len(completion)
        room = max(1, max_length - len(completion))
        if len(prompt) > room:
            start = start_of_text(tokenizer)
            kept = len(start) if room > len(start) and tuple(prompt[: len(start)]) == start else 0
            prompt = prompt[:kept] + prompt[len(prompt) - room + kept :]
        completion = completion[: max_length - len(prompt)]
        return Encoded(prompt, completion, full - len(prompt) - len(completion))

    def stop_ids(self, tokenizer: TokenizerLike) -> frozenset[int]:
        """The ids at which generating ends: of the text, and of the assistant's turn where the base has turns."""
        turn = end_of_turn(tokenizer)[-1:] if self.chat_template else ()
        return frozenset({end_of_text(tokenizer), *turn})

    def _prompt_of(self, tokenizer: TokenizerLike, example: Example) -> tuple[str, str]:
        return self._frame(tokenizer, example.kind, example.request, example.messages[:-1])

    def _frame(
        self, tokenizer: TokenizerLike, kind: Kind, prompt: str, messages: Sequence[tuple[str, str]]
    ) -> tuple[str, str]:
        """The text of a prompt with marks in it, and the mark (see `protect`)."""
        if kind is Kind.PROMPT:
            return prompt, ""
        if kind is not Kind.CHAT and not self.has_turns(kind):
            (text,), mark = protect(tokenizer, [prompt])
            before, behind = _FRAMES[kind]
            return before + text + behind, mark
        turns = messages or [("user", prompt)]
        strange = next((role for role, _ in turns if role not in ROLES), None)
        if strange is not None:
            raise UnrenderableChat(f"the role {shown(strange)} is not known", hint=f"roles are {', '.join(ROLES)}")
        contents, mark = protect(tokenizer, [content for _, content in turns])
        turns = [(role, content) for (role, _), content in zip(turns, contents, strict=True)]
        if self.chat_template:
            return chat_text(tokenizer, turns, to_be_answered=True), mark
        return "".join(f"{role.capitalize()}: {content}\n" for role, content in turns) + "Assistant:", mark

    def _prompt_ids(self, tokenizer: TokenizerLike, kind: Kind, text: str, mark: str) -> list[int]:
        ids = encode(tokenizer, text, mark)
        if not self.has_turns(kind):  # a chat template writes the beginning of a text itself
            ids = [*start_of_text(tokenizer), *ids]
            if (kind is Kind.TEXT and not start_of_text(tokenizer)) or not ids:
                begin = tokenizer.bos_token_id
                ids = [begin if isinstance(begin, int) else end_of_text(tokenizer), *ids]
        return ids

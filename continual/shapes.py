"""Row shapes: what columns a row may have, and the checks of what stands in them."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from .rows import Unread, shown
from .strict_json import BadJson, parse_json

ROLES: Final = ("system", "user", "assistant")

_MESSAGES_DEPTH: Final = 8  # of a conversation in one field: list, message, content parts, part


class BadRowError(ValueError):
    """A row is no example; the message is a sentence that names the column and what would be right."""


class Kind(StrEnum):
    """The shape a row has, which decides how it is rendered."""

    CHAT = "chat"
    PROMPT = "prompt"
    INSTRUCTION = "instruction"
    IO = "io"
    LABEL = "label"
    TEXT = "text"


class Shape(NamedTuple):
    """The columns by which a kind is recognised."""

    kind: Kind
    columns: tuple[str, ...]


# A row takes the first of these whose columns it has.
SHAPES: Final = (
    Shape(Kind.CHAT, ("messages",)),
    Shape(Kind.PROMPT, ("prompt", "completion")),
    Shape(Kind.INSTRUCTION, ("instruction", "output")),
    Shape(Kind.IO, ("input", "output")),
    Shape(Kind.LABEL, ("text", "label")),
    Shape(Kind.TEXT, ("text",)),
)


class Fields(NamedTuple):
    """What a row says, whichever columns it said it in; `Example` explains each."""

    kind: Kind
    prompt: str
    completion: str
    context: str = ""
    messages: tuple[tuple[str, str], ...] = ()


def read_shape(value: Mapping[str, object]) -> Fields:
    """What the row says, by the first of `SHAPES` whose columns it has; other columns are ignored.

    Texts are kept as they are, and must hold more than whitespace; labels lose the whitespace around them and may be
    numbers or truth values, written as JSON writes them. Raises `BadRowError` for a row of no known shape, and for a
    value that does not fit.
    """
    kind = next((shape.kind for shape in SHAPES if all(column in value for column in shape.columns)), None)
    match kind:
        case Kind.CHAT:
            messages = read_messages(value["messages"])
            return Fields(kind, "", messages[-1][1], messages=messages)
        case Kind.PROMPT:
            return Fields(kind, _text(value, "prompt"), _text(value, "completion"))
        case Kind.INSTRUCTION:
            return Fields(kind, _text(value, "instruction"), _text(value, "output"), _optional_text(value, "input"))
        case Kind.IO:
            return Fields(kind, _text(value, "input"), _text(value, "output"))
        case Kind.LABEL:
            return Fields(kind, _text(value, "text"), _label(value["label"]))
        case Kind.TEXT:
            return Fields(kind, "", _text(value, "text"))
    raise BadRowError(_no_shape(list(value)))


def _no_shape(columns: Sequence[str]) -> str:
    seen = ", ".join(shown(column) for column in columns[:10]) + (", …" if len(columns) > 10 else "")
    best = max(SHAPES, key=lambda shape: _likeness(shape, columns))
    if not _likeness(best, columns):
        known = "; ".join(" + ".join(shape.columns) for shape in SHAPES)
        return f"its columns ({seen or 'none'}) are of no known shape; known are {known}"
    missing = " and ".join(column for column in best.columns if column not in columns)
    return f"its columns ({seen}) are of no known shape; the closest is {' + '.join(best.columns)}, without {missing}"


def _likeness(shape: Shape, columns: Sequence[str]) -> float:
    """The share of the shape's columns that are there, one in other letter case counting half."""
    lower = {column.strip().lower() for column in columns}
    return sum(1.0 if name in columns else 0.5 * (name in lower) for name in shape.columns) / len(shape.columns)


def _text(value: Mapping[str, object], name: str) -> str:
    text = value[name]
    if not isinstance(text, str):
        raise BadRowError(f"{name} is {_described(text)}, not text")
    if not text.strip():
        raise BadRowError(f"{name} is empty")
    return _encodable(text, name)


def _optional_text(value: Mapping[str, object], name: str) -> str:
    text = value.get(name)
    return "" if text is None or (isinstance(text, str) and not text.strip()) else _text(value, name)


def _encodable(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRowError(f"{name} holds half of a surrogate pair, which is no character") from error
    return text


def _label(label: object) -> str:
    if isinstance(label, bool | int | float):
        try:
            return json.dumps(label, allow_nan=False)
        except ValueError as error:  # not finite, or of thousands of digits
            raise BadRowError("label is not a finite number of reasonable size") from error
    return _text({"label": label}, "label").strip()


def read_messages(value: object) -> tuple[tuple[str, str], ...]:
    """The turns of a chat, from a list of objects or from the same as JSON in a text, as tables have it."""
    if isinstance(value, str):
        try:
            value = parse_json(value, _MESSAGES_DEPTH)
        except BadJson as error:
            raise BadRowError(f"messages is a text and not a list as JSON: {error}") from error
    if not isinstance(value, list):
        raise BadRowError(f"messages is {_described(value)}, not a list")
    messages = tuple(_message(message, f"messages[{index}]") for index, message in enumerate(value))
    if len(messages) < 2:
        raise BadRowError("messages holds no turn before the assistant's")
    if messages[-1][0] != "assistant":
        raise BadRowError(f"the last message is the {messages[-1][0]}'s, not the assistant's")
    if not messages[-1][1].strip():
        raise BadRowError("the assistant's last message is empty")
    return messages


def _message(value: object, where: str) -> tuple[str, str]:
    if not isinstance(value, Mapping):
        raise BadRowError(f"{where} is {_described(value)}, not an object with role and content")
    role = value.get("role")
    if role not in ROLES:
        found = shown(role) if isinstance(role, str) else _described(role)
        raise BadRowError(f"the role of {where} is {found}; it can be {', '.join(ROLES)}")
    if any(value.get(call) for call in ("tool_calls", "function_call")):
        raise BadRowError(f"{where} calls a tool, which is not learned")
    content = value.get("content")
    if isinstance(content, list):  # OpenAI's content parts
        content = "".join(_part(part, where) for part in content)
    if not isinstance(content, str):
        raise BadRowError(f"the content of {where} is {_described(content)}, not text")
    return str(role), _encodable(content, f"the content of {where}")


def _part(part: object, where: str) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise BadRowError(f'the content of {where} has a part that is not {{"type": "text", "text": …}}')


def _described(value: object) -> str:
    match value:
        case None:
            return "missing or null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case Mapping():
            return "an object"
        case Unread():
            return f"of the type {value.type}"
    return f"of the type {type(value).__name__}"

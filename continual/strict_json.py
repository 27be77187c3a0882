"""JSON as its standard has it: Python's parser takes NaN, keeps the last of two equal keys and can run out of stack."""

import json
import re
from collections.abc import Sequence
from typing import Final, NoReturn

from .rows import shown

_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


class BadJson(ValueError):
    """A text is not JSON, or is JSON that two readers would read differently; the message is a sentence."""


def parse_json(text: str, max_depth: int) -> object:
    """The value that `text` holds.

    Raises `BadJson` for what is not JSON, NaN and Infinity, numbers beyond a float's range or of thousands of
    digits, a key given twice, nesting deeper than `max_depth`, and half of a surrogate pair (which parses, and
    fails later, when it is to be encoded).
    """
    if _deeper_than(text, max_depth):  # before parsing, whose recursion is bounded only by the stack
        raise BadJson(f"nested more than {max_depth} deep")
    try:
        value: object = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BadJson(f"not JSON: {error.msg} (character {error.pos + 1})") from error
    except BadJson:
        raise
    except ValueError as error:  # int() refuses more than 4,300 digits
        raise BadJson("holds an integer of thousands of digits") from error
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise BadJson("holds half of a surrogate pair (\\ud800 to \\udfff), which is no character") from error
    return value


def _deeper_than(text: str, max_depth: int) -> bool:
    if text.count("[") + text.count("{") <= max_depth:
        return False
    depth = 0
    for mark in _BRACKET.finditer(text):
        if mark[0] in "[{":
            depth += 1
            if depth > max_depth:
                return True
        elif mark[0] in "]}":
            depth -= 1
    return False


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadJson(f"the key {shown(key)} stands twice in one object")
            seen.add(key)
    return value


def _constant(name: str) -> NoReturn:
    raise BadJson(f"{name} is not JSON")


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise BadJson(f"the number {digits[:20]} is beyond the range of a float")
    return value


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)

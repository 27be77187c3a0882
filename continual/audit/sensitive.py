"""Personal data and secrets in a text: found by their form, and by their check digits where they have some.

Numbers that are checked (cards, bank accounts, national numbers) are checked by python-stdnum, telephone numbers by
libphonenumber's port. Forms of secrets are those that their issuers document, so that leaked ones can be found.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from phonenumbers import Leniency, PhoneNumberMatcher
from stdnum import iban, luhn
from stdnum.es import dni
from stdnum.fr import nir
from stdnum.it import codicefiscale
from stdnum.us import ssn

from ..examples import Example
from .findings import Concern
from .presidio import recognized


class Span(NamedTuple):
    """Characters `start` to `end` of a text, and what they are, such as "email"."""

    start: int
    end: int
    what: str
    concern: Concern


class _Form(NamedTuple):
    what: str
    pattern: re.Pattern[str]
    check: Callable[[str], bool] = lambda _text: True


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return 13 <= len(digits) <= 19 and digits[0] in "3456" and len(set(digits)) > 1 and luhn.is_valid(digits)


def _is_public_address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_random(text: str) -> bool:
    """Whether a value looks drawn, not written: both letters and digits, and three bits or more a character."""
    counts = Counter(text)
    bits = -sum(count / len(text) * math.log2(count / len(text)) for count in counts.values())
    return bits >= 3.0 and any(sign.isdigit() for sign in text) and any(sign.isalpha() for sign in text)


_PERSONAL: Final = (
    _Form("email", re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[a-zA-Z]{2,24}\b")),
    _Form("iban", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), iban.is_valid),
    _Form("card", re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![\d-]|[.,]\d)"), _is_card),
    _Form("national-id", re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"), ssn.is_valid),
    _Form("national-id", re.compile(r"\b[12] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}\b"), nir.is_valid),
    _Form("national-id", re.compile(r"\b[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]\b"), codicefiscale.is_valid),
    _Form("national-id", re.compile(r"\b\d{8}-?[A-Z]\b"), dni.is_valid),
    _Form("ip", re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)"), _is_public_address),
    _Form("ip", re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{1,4}:){2,7}:?[0-9a-fA-F]{1,4}(?![\w:])"), _is_public_address),
)

_SECRETS: Final = (
    _Form("aws-key", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    _Form("github-token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255})\b")),
    _Form("gitlab-token", re.compile(r"\bglpat-[\w-]{20,}")),
    _Form("slack-token", re.compile(r"\bxox[abeprs]-[A-Za-z0-9-]{10,}")),
    _Form("google-key", re.compile(r"\bAIza[\w-]{35}(?![\w-])")),
    _Form("stripe-key", re.compile(r"\b[rs]k_live_[A-Za-z0-9]{16,}\b")),
    _Form("hugging-face-token", re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")),
    _Form("npm-token", re.compile(r"\bnpm_[A-Za-z0-9]{36}\b")),
    _Form("pypi-token", re.compile(r"\bpypi-AgEIcHlwaS5vcmc[\w-]{50,}")),
    _Form("api-key", re.compile(r"\bsk-(?:proj-|ant-|svcacct-)?[\w-]{20,}"), _is_random),
    _Form("jwt", re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")),
    _Form(
        "private-key",
        re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:.*?-----END [A-Z ]+-----)?", re.DOTALL),
    ),
    _Form("password", re.compile(r"(?<=://)[^\s/:@]{1,64}:[^\s/:@]{3,64}(?=@)")),
    _Form(
        "password",
        re.compile(
            r"(?:password|passwd|secret|api[_-]?key|access[_-]?key|auth[_-]?token)[\"']?\s*[:=]\s*[\"']?([^\s\"',;]{8,})",
            re.IGNORECASE,
        ),
        lambda text: _is_random(re.split(r"[:=]\s*[\"']?", text, maxsplit=1)[1]),
    ),
)
# What must stand in a text before the slow telephone matcher reads it.
_MANY_DIGITS: Final = re.compile(r"(?:\d\D{0,3}){6}\d")


# Every secret's form has one of these, and most texts have none.
_SECRET_SIGNS: Final = re.compile(r"[_=:-]|AKIA|ASIA|AIza|eyJ")


@lru_cache(maxsize=1024)  # labels come again and again
def sensitive(text: str, region: str = "", presidio: str = "") -> tuple[Span, ...]:
    """What is personal or secret in a text, in order, no two overlapping.

    `region`: the country (ISO 3166, "US") whose way of writing telephone numbers is known beside the international one;
    empty: that one alone, with its `+`. `presidio`: a model with which `audit.presidio` is asked too; empty: it is not.
    """
    found = list(_spans(text, _SECRETS, Concern.SECRET)) if _SECRET_SIGNS.search(text) else []
    if any(sign.isdigit() or sign == "@" for sign in text):
        found += _spans(text, _PERSONAL, Concern.PERSONAL)
    if _MANY_DIGITS.search(text):
        matches = PhoneNumberMatcher(text, region or None, leniency=Leniency.VALID)
        found += [Span(match.start, match.end, "phone", Concern.PERSONAL) for match in matches]
    if presidio and text.strip():
        found += [Span(*one, Concern.PERSONAL) for one in recognized(text, presidio)]
    taken: list[Span] = []
    for span in found:  # the first form that fits, in the order above
        if all(span.end <= other.start or other.end <= span.start for other in taken):
            taken.append(span)
    return tuple(sorted(taken))


def redact(text: str, concerns: Collection[Concern], region: str = "", presidio: str = "") -> tuple[str, list[str]]:
    """The text with `[EMAIL]`, `[CARD]` and so on where something of `concerns` stood; and what stood there."""
    parts, taken, at = [], [], 0
    for span in sensitive(text, region, presidio) if concerns else ():
        if span.concern in concerns:
            parts += [text[at : span.start], f"[{span.what.upper()}]"]
            taken.append(span.what)
            at = span.end
    return "".join([*parts, text[at:]]), taken


def redact_example(
    example: Example, concerns: Collection[Concern], region: str = "", presidio: str = ""
) -> tuple[Example, list[str]]:
    """The same of all that a row says."""
    if not concerns:
        return example, []
    prompt, context, completion = (
        redact(text, concerns, region, presidio) for text in (example.prompt, example.context, example.completion)
    )
    turns = [(role, *redact(content, concerns, region, presidio)) for role, content in example.messages]
    taken = [prompt[1], context[1], *(here for _, _, here in turns), *([] if turns else [completion[1]])]
    messages = tuple((role, content) for role, content, _ in turns)
    redacted = Example(example.kind, prompt[0], completion[0], context[0], messages, example.date)
    return redacted, sorted({what for here in taken for what in here})


def concern_of(what: str) -> Concern:
    """Whether what `redact` took was personal or secret."""
    return Concern.SECRET if any(form.what == what for form in _SECRETS) else Concern.PERSONAL


def _spans(text: str, forms: tuple[_Form, ...], concern: Concern) -> Iterator[Span]:
    for form in forms:
        for match in form.pattern.finditer(text):
            if form.check(match.group()):
                yield Span(match.start(), match.end(), form.what, concern)

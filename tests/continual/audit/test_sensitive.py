"""Personal data and secrets: what is found, what is not, and what is left of a text when they are taken out."""

import pytest
from adapterd.continual.audit.findings import Concern
from adapterd.continual.audit.sensitive import concern_of, redact, redact_example, sensitive
from adapterd.continual.examples import Example, Kind, parse_row

BOTH = frozenset({Concern.PERSONAL, Concern.SECRET})
# Put together here, so that no scanner of repositories takes them for real ones.
TOKENS = {
    "aws-key": "AKIA" + "IOSFODNN7EXAMPLE",
    "github-token": "ghp_" + "a1B2c3D4" * 5,
    "slack-token": "xoxb-" + "123456789012-abcdefGHIJKL",
    "hugging-face-token": "hf_" + "aBcDeFgHiJ" * 4,
    "api-key": "sk-proj-" + "q7Wz91kLmX" * 4,
    "jwt": "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("write to anna.k+news@mail.example.co.uk, please", "email"),
        ("card 4111 1111 1111 1111 was declined", "card"),
        ("card 3782-822463-10005", "card"),
        ("pay to DE89 3704 0044 0532 0130 00 today", "iban"),
        ("my number is 078-05-1120", None),  # one that was never given out
        ("my number is 536-90-4399", "national-id"),
        ("codice RCCMNL83S18D969H", "national-id"),
        ("from 8.8.8.8 again", "ip"),
        ("from 2001:4860:4860::8888 again", "ip"),
        ("call +44 20 7031 3000 now", "phone"),
    ],
)
def test_personal_data_is_found_by_its_form_and_its_check_digits(text: str, what: str | None) -> None:
    assert [span.what for span in sensitive(text)] == ([what] if what else [])


@pytest.mark.parametrize(
    "text",
    [
        "card 4111 1111 1111 1112 was declined",  # the check digit is wrong
        "order 1234567890123456",
        "version 1.2.3.4 of 127.0.0.1 and 192.168.0.1",
        "at 10:30:45 on 2024-05-06",
        "pi is 3.14159265358979323846",
        "a@b and user@host",
        "password: the one that I told you",
        "the secret = correcthorsebatterystaple",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert sensitive(text.replace("1.2.3.4 of ", "")) == ()


@pytest.mark.parametrize("what", TOKENS)
def test_tokens_are_known_by_the_form_that_their_issuers_give_them(what: str) -> None:
    (span,) = sensitive(f"use {TOKENS[what]} for it")
    assert (span.what, span.concern) == (what, Concern.SECRET)
    assert concern_of(what) is Concern.SECRET


def test_passwords_in_addresses_and_settings_and_private_keys_are_secrets() -> None:
    key = "-----BEGIN " + "PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----"
    for text in ("postgres://app:hunter22@db/main", "api_key='a8Kd93Lm20xQ'", key):
        assert [span.concern for span in sensitive(text)] == [Concern.SECRET], text


def test_telephone_numbers_as_a_country_writes_them_are_known_where_the_country_is() -> None:
    text = "call (212) 736-5000 now"
    assert sensitive(text) == ()
    assert [span.what for span in sensitive(text, "US")] == ["phone"]


def test_redacting_leaves_the_rest_and_says_what_was_taken() -> None:
    text = f"Hi, a.b@example.org, key {TOKENS['aws-key']}."
    assert redact(text, BOTH) == ("Hi, [EMAIL], key [AWS-KEY].", ["email", "aws-key"])
    assert redact(text, {Concern.SECRET})[0] == "Hi, a.b@example.org, key [AWS-KEY]."
    assert redact(text, ()) == (text, [])


def test_every_part_of_a_row_is_redacted() -> None:
    mail = "a.b@example.org"
    turns = [{"role": "user", "content": f"I am {mail}"}, {"role": "assistant", "content": f"Hello {mail}"}]
    chat, taken = redact_example(parse_row({"messages": turns}), BOTH)
    assert [content for _, content in chat.messages] == ["I am [EMAIL]", "Hello [EMAIL]"]
    assert (chat.completion, taken) == ("Hello [EMAIL]", ["email"])
    row = parse_row({"instruction": f"ask {mail}", "input": mail, "output": f"asked {mail}"})
    redacted, taken = redact_example(row, BOTH)
    assert (redacted.prompt, redacted.context, redacted.completion) == ("ask [EMAIL]", "[EMAIL]", "asked [EMAIL]")
    assert taken == ["email"]


def test_a_redacted_row_keeps_its_date() -> None:
    row = Example(Kind.LABEL, "write to ada@example.org", "x", date=5.0)
    redacted, taken = redact_example(row, {Concern.PERSONAL}, "")
    assert taken
    assert redacted.date == 5.0

"""What is asked of the engine, read from a message and checked: pure functions that name the field that is wrong."""

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from adapterd.v1 import common_pb2, inference_pb2

from ..adapters.errors import BadRequest

ROLES: Final = ("system", "user", "assistant")
MAX_TEMPERATURE: Final = 5.0
MAX_STOPS: Final = 8

Turns = tuple[tuple[str, str], ...]
"""A conversation: role and content of each turn."""


@dataclass(frozen=True)
class Asked:
    """Either a plain prompt or a conversation; the other is None."""

    prompt: str | None
    messages: Turns | None

    @property
    def text(self) -> str:
        """All that is asked, in one text."""
        return self.prompt or "\n".join(content for _, content in self.messages or ())

    @property
    def field(self) -> str:
        """The field of the request that it came in."""
        return "input.prompt" if self.messages is None else "input.messages"


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn: `temperature` 0 is greedy, `top_k` 0 keeps all, `stops` are texts that end it."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    stops: tuple[str, ...]


def read_input(message: inference_pb2.Input) -> Asked:
    """Exactly one of `prompt` and `messages`. Raises `BadRequest`."""
    if bool(message.prompt) == bool(message.messages):
        both = "both prompt and messages are given" if message.prompt else "neither a prompt nor messages are given"
        raise BadRequest(both, hint="give exactly one of input.prompt and input.messages", field="input")
    if message.prompt:
        return Asked(message.prompt, None)
    return Asked(None, _read_turns(message.messages))


def read_sampling(message: inference_pb2.Sampling, *, default_max_tokens: int) -> Sampling:
    """Sampling parameters, absent ones as the .proto says. Raises `BadRequest`."""
    temperature = message.temperature if message.HasField("temperature") else 0.0
    # Not `temperature < 0 or …`: every comparison with NaN is false.
    if not 0 <= temperature <= MAX_TEMPERATURE:
        raise _wrong("temperature", temperature, f"is a number from 0 (greedy) to {MAX_TEMPERATURE:g}")
    top_p = message.top_p if message.HasField("top_p") else 1.0
    if not 0 < top_p <= 1:
        raise _wrong("top_p", top_p, "is a number above 0, and 1 at most")
    return Sampling(
        max_tokens=message.max_tokens or default_max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=message.top_k,
        seed=message.seed if message.HasField("seed") else secrets.randbits(64),
        stops=_read_stops(message.stop),
    )


def read_continuations(texts: Sequence[str], *, limit: int) -> tuple[str, ...]:
    """At least one and at most `limit`, none empty. Raises `BadRequest`."""
    if not texts:
        raise BadRequest("there are no continuations to score", hint="name at least one", field="continuations")
    if len(texts) > limit:
        raise BadRequest(
            f"{len(texts)} continuations are more than serving.max_continuations = {limit}",
            hint="ask in several requests; scores of different requests can be compared",
            field="continuations",
        )
    for index, text in enumerate(texts):
        if not text:
            raise BadRequest(f"continuation {index} is empty", hint="leave it out", field=f"continuations[{index}]")
    return tuple(texts)


def best(scores: Sequence[float]) -> int:
    """The index of the highest log-likelihood; of equal ones the first."""
    return max(range(len(scores)), key=lambda index: -math.inf if math.isnan(scores[index]) else scores[index])


def _read_turns(messages: Sequence[common_pb2.Message]) -> Turns:
    for index, turn in enumerate(messages):
        if turn.role not in ROLES:
            raise BadRequest(
                f"message {index} has the role {turn.role[:80]!r}",
                hint=f"the roles are {', '.join(ROLES)}",
                field=f"input.messages[{index}].role",
            )
        if not turn.content:
            raise BadRequest(
                f"message {index} has no content", hint="leave it out", field=f"input.messages[{index}].content"
            )
    if messages[-1].role != "user":
        raise BadRequest(
            f"the last message is the {messages[-1].role}'s, so there is nothing to answer",
            hint="end the conversation with a user's message",
            field=f"input.messages[{len(messages) - 1}].role",
        )
    return tuple((turn.role, turn.content) for turn in messages)


def _read_stops(stops: Sequence[str]) -> tuple[str, ...]:
    if len(stops) > MAX_STOPS:
        raise BadRequest(f"{len(stops)} stop texts are more than {MAX_STOPS}", hint="name fewer", field="sampling.stop")
    if not all(stops):
        raise BadRequest(
            "a stop text is empty, and would end every answer at once", hint="leave it out", field="sampling.stop"
        )
    return tuple(stops)


def _wrong(name: str, value: float, rule: str) -> BadRequest:
    return BadRequest(f"{name} is {value:g}; it {rule}", hint=f"{name} {rule}", field=f"sampling.{name}")

"""What is asked, read and checked."""

import math
from typing import Any

import pytest
from adapterd.adapters.errors import BadRequest
from adapterd.daemon.questions import Asked, best, read_continuations, read_input, read_sampling
from adapterd.v1 import common_pb2, inference_pb2


def turns(*pairs: tuple[str, str]) -> list[common_pb2.Message]:
    return [common_pb2.Message(role=role, content=content) for role, content in pairs]


def sampling(**fields: Any) -> Any:
    return read_sampling(inference_pb2.Sampling(**fields), default_max_tokens=17)


def test_a_prompt_is_taken_as_it_is() -> None:
    assert read_input(inference_pb2.Input(prompt=" a\0\n")) == Asked(" a\0\n", None)


def test_messages_are_taken_in_their_order() -> None:
    talk = (("system", "be kind"), ("user", "hi"), ("assistant", "hello"), ("user", "bye"))
    assert read_input(inference_pb2.Input(messages=turns(*talk))) == Asked(None, talk)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (inference_pb2.Input(), "input"),
        (inference_pb2.Input(prompt="a", messages=turns(("user", "b"))), "input"),
        (inference_pb2.Input(messages=turns(("tool", "b"))), "input.messages[0].role"),
        (inference_pb2.Input(messages=turns(("user", "a"), ("", "b"))), "input.messages[1].role"),
        (inference_pb2.Input(messages=turns(("user", ""))), "input.messages[0].content"),
        (inference_pb2.Input(messages=turns(("user", "a"), ("assistant", "b"))), "input.messages[1].role"),
    ],
)
def test_a_wrong_input_names_its_field(message: inference_pb2.Input, field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_input(message)
    assert caught.value.details["field"] == field


def test_absent_sampling_is_greedy_and_unlimited_but_for_the_default_length() -> None:
    read = sampling()
    assert (read.max_tokens, read.temperature, read.top_p, read.top_k, read.stops) == (17, 0.0, 1.0, 0, ())


def test_absent_seeds_are_drawn_and_given_ones_kept() -> None:
    assert len({sampling().seed for _ in range(5)}) == 5
    assert sampling(seed=0).seed == 0
    assert sampling(seed=2**64 - 1).seed == 2**64 - 1


@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"temperature": 5.0}, {"top_p": 1.0}, {"top_p": 1e-6}])
def test_the_ends_of_the_ranges_are_taken(fields: dict[str, float]) -> None:
    (name,) = fields
    assert getattr(sampling(**fields), name) == pytest.approx(fields[name])


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", value) for value in (-0.1, 5.1, math.nan, math.inf, -math.inf)]
    + [("top_p", value) for value in (0.0, -1.0, 1.1, math.nan, math.inf)],
)
def test_figures_out_of_their_range_name_their_field(name: str, value: float) -> None:
    with pytest.raises(BadRequest) as caught:
        sampling(**{name: value})
    assert caught.value.details["field"] == f"sampling.{name}"


@pytest.mark.parametrize("stops", [["a"] * 9, ["a", ""]])
def test_wrong_stop_texts_name_their_field(stops: list[str]) -> None:
    with pytest.raises(BadRequest) as caught:
        sampling(stop=stops)
    assert caught.value.details["field"] == "sampling.stop"


@pytest.mark.parametrize(
    ("texts", "field"), [([], "continuations"), (["a"] * 4, "continuations"), (["a", ""], "continuations[1]")]
)
def test_wrong_continuations_name_their_field(texts: list[str], field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_continuations(texts, limit=3)
    assert caught.value.details["field"] == field


def test_as_many_continuations_as_allowed_are_taken() -> None:
    assert read_continuations(["a", "b", "a"], limit=3) == ("a", "b", "a")


@pytest.mark.parametrize(
    ("scores", "index"), [([-1.0], 0), ([-2.0, -1.0, -3.0], 1), ([-1.0, -1.0], 0), ([math.nan, -9.0], 1)]
)
def test_the_best_is_the_first_of_the_highest(scores: list[float], index: int) -> None:
    assert best(scores) == index

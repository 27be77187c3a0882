"""Answers: from a request over the wire to tokens and back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import torch
from adapterd.adapters.base import Base, load_base
from adapterd.adapters.errors import BadRequest
from adapterd.adapters.requests import Generation
from adapterd.adapters.states import VersionState
from adapterd.continual.shapes import Kind
from adapterd.continual.template import Template
from adapterd.daemon.client import Client
from adapterd.daemon.core import Core
from adapterd.daemon.errors import CallerGone, DeadlinePassed, RemoteError
from adapterd.daemon.inference import InferenceService
from adapterd.v1 import common_pb2, inference_pb2

from .real_core import LABELS, publish, real_core, served, until

USER = [common_pb2.Message(role="user", content="Is it good?")]


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path) -> Iterator[Core]:
    with real_core(tmp_path_factory.mktemp("i"), tiny_base_folder) as core:
        publish(core, "mood", 2)
        publish(core, "mood", 3, state=VersionState.REJECTED)
        publish(core, "talk", 1, kind=Kind.CHAT)
        yield core


@pytest.fixture(scope="module")
def client(core: Core) -> Iterator[Client]:
    with served(core) as client:
        yield client


@pytest.fixture(scope="module")
def plain(tiny_base_folder: Path) -> Base:
    """The base again, without an engine on it: the reference."""
    return load_base(tiny_base_folder, quantization="none", device="cpu")


def asked(adapter: str = "mood", prompt: str = "a fine day", **sampling: Any) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(
        adapter=adapter,
        input=inference_pb2.Input(prompt=prompt),
        sampling=inference_pb2.Sampling(**{"max_tokens": 12, **sampling}),
    )


def scored(adapter: str = "mood", *texts: str, prompt: str = "a fine day") -> inference_pb2.ScoreRequest:
    return inference_pb2.ScoreRequest(
        adapter=adapter, input=inference_pb2.Input(prompt=prompt), continuations=texts or LABELS
    )


def log_likelihood(base: Base, prompt: list[int], continuation: list[int]) -> float:
    with torch.no_grad():
        logits = base.model(torch.tensor([[*prompt, *continuation]])).logits[0].float().log_softmax(-1)
    return sum(float(logits[len(prompt) - 1 + n, token]) for n, token in enumerate(continuation))


class Context:
    """What a handler needs of gRPC's context; the client is there for so many looks."""

    def __init__(self, looks: int = 10**9, remaining: float | None = None) -> None:
        self.looks = looks
        self.remaining = remaining

    def is_active(self) -> bool:
        self.looks -= 1
        return self.looks >= 0

    def time_remaining(self) -> float | None:
        return self.remaining


def context(**how: Any) -> grpc.ServicerContext:
    return cast("grpc.ServicerContext", Context(**how))


def test_the_base_continues_a_prompt_as_it_is(client: Client, core: Core, plain: Base) -> None:
    answer = client.inference.Complete(asked("base", "Hello"))
    ids = plain.tokenizer("Hello", return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        whole = cast("Any", plain.model).generate(ids, max_new_tokens=12, do_sample=False)
    expected = plain.tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
    assert answer.text == expected
    assert answer.usage.prompt_tokens == 5
    assert answer.served_by == common_pb2.ServedBy(digest=core.base.fingerprint)


def test_the_pieces_of_a_stream_are_the_whole_answer(client: Client) -> None:
    pieces = list(client.inference.Generate(asked()))
    whole = client.inference.Complete(asked())
    assert "".join(piece.text for piece in pieces) == whole.text
    assert (pieces[-1].usage, pieces[-1].finish_reason) == (whole.usage, whole.finish_reason)
    assert all(not piece.HasField("usage") and not piece.finish_reason for piece in pieces[:-1])


def test_every_message_says_who_answers(client: Client, core: Core) -> None:
    digest = core.ledger.versions.get("mood", 1).digest
    who = common_pb2.ServedBy(task="mood", version=1, digest=digest, alias="champion")
    assert {piece.served_by.SerializeToString() for piece in client.inference.Generate(asked())} == {
        who.SerializeToString()
    }
    assert client.inference.Score(scored()).served_by == who


@pytest.mark.parametrize(("adapter", "version"), [("mood@1", 1), ("mood@2", 2), ("mood@3", 3)])
def test_a_version_asked_for_by_number_answers_without_alias(client: Client, adapter: str, version: int) -> None:
    who = client.inference.Complete(asked(adapter)).served_by
    assert (who.task, who.version, who.alias) == ("mood", version, "")


def test_a_prompt_is_rendered_by_the_template_of_its_version(client: Client, core: Core) -> None:
    used = client.inference.Complete(asked("mood", "a fine day")).usage.prompt_tokens
    template = Template(Kind.LABEL, LABELS, True)
    assert used == len(template.encode_prompt(core.base.tokenizer, prompt="a fine day"))


@pytest.mark.parametrize("adapter", ["base", "mood", "talk@1"])
def test_messages_go_through_the_chat_template(client: Client, core: Core, adapter: str) -> None:
    request = inference_pb2.GenerateRequest(
        adapter=adapter, input=inference_pb2.Input(messages=USER), sampling=inference_pb2.Sampling(max_tokens=2)
    )
    used = client.inference.Complete(request).usage.prompt_tokens
    template = Template.for_base(True)
    assert used == len(template.encode_prompt(core.base.tokenizer, messages=[("user", "Is it good?")]))


def test_versions_answer_differently_side_by_side(client: Client) -> None:
    scores = {
        name: client.inference.Score(scored(name)).scores[0].log_likelihood for name in ("base", "mood@1", "mood@2")
    }
    assert len(set(scores.values())) == 3


def test_many_at_once_get_what_each_would_alone(client: Client) -> None:
    requests = [asked(adapter, f"day {n}") for n in range(8) for adapter in ("base", "mood@1", "mood@2")]
    alone = [client.inference.Complete(request).text for request in requests]
    with ThreadPoolExecutor(12) as threads:
        together = [answer.text for answer in threads.map(client.inference.Complete, requests)]
    assert together == alone


def test_the_longest_answer_is_as_long_as_asked(client: Client) -> None:
    answer = client.inference.Complete(asked(max_tokens=3))
    assert answer.usage.completion_tokens == 3
    assert answer.finish_reason == inference_pb2.FINISH_REASON_LENGTH


def test_an_answer_without_a_length_has_the_default_one(tmp_path: Path, tiny_base: Base) -> None:
    with real_core(tmp_path, tiny_base, max_tokens=2) as core:
        answer = InferenceService(core).Complete(asked(max_tokens=0), context())
    assert answer.usage.completion_tokens <= 2


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(client: Client) -> None:
    whole = client.inference.Complete(asked("base", "Hello", max_tokens=40)).text
    stop = whole[10:12]
    cut = client.inference.Complete(asked("base", "Hello", max_tokens=40, stop=[stop, "never there"]))
    assert cut.text == whole[: whole.index(stop)]
    assert cut.finish_reason == inference_pb2.FINISH_REASON_STOP
    assert cut.usage.completion_tokens < 40


def test_a_seed_makes_drawing_repeatable(client: Client) -> None:
    def draw(seed: int) -> str:
        return client.inference.Complete(asked("base", temperature=1.5, top_p=0.9, top_k=40, seed=seed)).text

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(4)}) > 1


def test_scores_are_the_models_log_likelihoods(client: Client, plain: Base) -> None:
    answer = client.inference.Score(scored("base", "yes", "no", "perhaps", prompt="Is it?"))
    template = Template.for_base(True)
    prompt = template.encode_prompt(plain.tokenizer, prompt="Is it?")
    ids = [template.encode_continuation(plain.tokenizer, text) for text in ("yes", "no", "perhaps")]
    expected = [log_likelihood(plain, prompt, continuation) for continuation in ids]
    assert [row.text for row in answer.scores] == ["yes", "no", "perhaps"]
    assert [row.log_likelihood for row in answer.scores] == pytest.approx(expected, abs=1e-3)
    assert [row.tokens for row in answer.scores] == [len(each) for each in ids]
    assert answer.best == max(range(3), key=lambda n: expected[n])
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(prompt), sum(map(len, ids)))


def test_continuations_of_messages_are_answers_of_the_assistant(client: Client, plain: Base) -> None:
    request = inference_pb2.ScoreRequest(
        adapter="base", input=inference_pb2.Input(messages=USER), continuations=["yes"]
    )
    template = Template.for_base(True)
    prompt = template.encode_prompt(plain.tokenizer, messages=[("user", "Is it good?")])
    expected = log_likelihood(plain, prompt, template.encode_continuation(plain.tokenizer, "yes", Kind.CHAT))
    assert client.inference.Score(request).scores[0].log_likelihood == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("text", ["", "Ünïcödé 😀 猫", "a\0b", "\ufffd", "<|im_end|>", " " * 50, "\n"])
def test_whatever_text_is_asked_about_is_answered(client: Client, text: str) -> None:
    client.inference.Complete(asked("mood", f"x{text}"))
    assert len(client.inference.Score(scored("mood", f"x{text}", "no", prompt=f"x{text}")).scores) == 2


@pytest.mark.parametrize(
    ("request_", "status", "cause"),
    [
        (asked(""), "INVALID_ARGUMENT", "BAD_REQUEST"),
        (asked("no such@"), "INVALID_ARGUMENT", "BAD_REQUEST"),
        (asked("nobody"), "NOT_FOUND", "UNKNOWN_ADAPTER"),
        (asked("mood@99"), "NOT_FOUND", "UNKNOWN_ADAPTER"),
        (asked("mood@canary"), "NOT_FOUND", "UNKNOWN_ADAPTER"),
        (asked("mood", "x" * 300), "INVALID_ARGUMENT", "BAD_REQUEST"),
        (asked("mood", ""), "INVALID_ARGUMENT", "BAD_REQUEST"),
        (asked("mood", temperature=float("nan")), "INVALID_ARGUMENT", "BAD_REQUEST"),
    ],
)
def test_what_cannot_be_answered_has_its_status(
    client: Client, request_: inference_pb2.GenerateRequest, status: str, cause: str
) -> None:
    for call in (lambda: list(client.inference.Generate(request_)), lambda: [client.inference.Complete(request_)]):
        with pytest.raises(RemoteError) as caught:
            call()
        assert (caught.value.status, caught.value.cause) == (status, cause)
        assert caught.value.hint


def test_a_prompt_that_fills_the_context_names_its_field(client: Client) -> None:
    with pytest.raises(RemoteError, match="256") as caught:
        client.inference.Score(scored(prompt="x" * 300))
    assert caught.value.details["field"] == "input.prompt"


def test_a_retired_version_is_a_failed_precondition(client: Client, core: Core) -> None:
    publish(core, "old", 1, state=VersionState.RETIRED)
    with pytest.raises(RemoteError) as caught:
        client.inference.Complete(asked("old@1"))
    assert (caught.value.status, caught.value.cause) == ("FAILED_PRECONDITION", "VERSION_NOT_SERVABLE")


def test_a_running_answer_ends_on_the_version_that_it_began_with(client: Client, core: Core) -> None:
    publish(core, "swap", 1)
    publish(core, "swap", 2)
    core.lifecycle.promote("swap", 1, expected=None, actor="test", reason="first")
    stream = client.inference.Generate(asked("swap", max_tokens=200))
    first = next(stream)
    core.lifecycle.promote("swap", 2, expected=1, actor="test", reason="second")
    assert {piece.served_by.version for piece in (first, *stream)} == {1}
    assert client.inference.Complete(asked("swap")).served_by.version == 2


def test_a_client_that_leaves_gives_everything_back(client: Client, core: Core) -> None:
    stream = client.inference.Generate(asked(max_tokens=240))
    next(stream)
    cast("Any", stream).close()
    assert until(lambda: core.manager.usage().leases == 0 and core.engine.stats().running == 0)


def test_a_full_queue_is_told_with_when_to_come_back(tmp_path: Path, tiny_base: Base) -> None:
    with real_core(tmp_path, tiny_base, max_batch=1, max_queue=1) as core, served(core) as client:
        long = [Generation(f"long {n}", 0, [5], max_tokens=250) for n in range(2)]
        tickets = [core.engine.submit(long[0])]
        assert until(lambda: core.engine.stats().running == 1)
        tickets.append(core.engine.submit(long[1]))
        with pytest.raises(RemoteError) as caught:
            client.inference.Complete(asked())
        assert (caught.value.status, caught.value.cause) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        assert core.manager.usage().leases == 0
        for ticket in tickets:
            ticket.cancel()


def test_a_client_that_is_gone_ends_the_work(core: Core) -> None:
    service = InferenceService(core)
    with pytest.raises(CallerGone):
        list(service.Generate(asked(max_tokens=240), context(looks=2)))
    assert core.manager.usage().leases == 0
    assert until(lambda: core.engine.stats().running == 0)


@pytest.mark.parametrize("remaining", [0.0, -1.0])
def test_a_deadline_that_is_over_ends_the_work(core: Core, remaining: float) -> None:
    service = InferenceService(core)
    with pytest.raises(DeadlinePassed):
        list(service.Generate(asked(), context(remaining=remaining)))
    with pytest.raises(DeadlinePassed):
        service.Score(scored(), context(remaining=remaining))
    assert core.manager.usage().leases == 0


def test_a_request_without_deadline_has_the_servers(tmp_path: Path, tiny_base: Base) -> None:
    with real_core(tmp_path, tiny_base, request_timeout_s=0.0) as core, pytest.raises(DeadlinePassed):
        InferenceService(core).Complete(asked(), context(remaining=None))


def test_errors_release_the_lease(core: Core) -> None:
    service = InferenceService(core)
    with pytest.raises(BadRequest):
        service.Score(scored("mood", "x" * 300), context())
    assert core.manager.usage().leases == 0

"""Commands about what comes out: query, feedback and report."""

import json
import math
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from adapterd.v1 import common_pb2, inference_pb2, learning_pb2

from . import documents, render_report
from .cli_options import Adapter, Address, AsJson, ConfigFile, Task, whereabouts
from .client import Client
from .plot import draw
from .render import duration, errors, heading, print_document, printable, put, screens, table, titled

_PANEL = "Answers"

commands = typer.Typer()


class Rating(StrEnum):
    """What a person thinks of an answer."""

    GOOD = "good"
    BAD = "bad"


def read_report(client: Client, task: str) -> dict[str, Any]:
    """A task's report, as `GetReport` documents it."""
    message = client.learning.GetReport(learning_pb2.GetReportRequest(task=task))
    report: dict[str, Any] = json.loads(message.report_json)
    return report


def _choices(text: str | None) -> str | None:
    if text is None:
        return None
    named = _split(text)
    if "" in named or len(set(named)) < len(named):
        raise typer.BadParameter(f"{text!r}: write different answers, parted by commas, none of them empty")
    return text


def _split(text: str) -> list[str]:
    return [choice.strip() for choice in text.split(",")]


@commands.command(rich_help_panel=_PANEL)
def query(
    context: typer.Context,
    adapter: Adapter,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help='The prompt; "-" reads it from standard input.')],
    choices: Annotated[
        str | None,
        typer.Option(
            "--choices",
            metavar="A,B,C",
            help="Choose the likeliest of these answers.",
            callback=_choices,
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", metavar="N", min=1, help="Longest answer, in tokens.", show_default=False),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", metavar="T", min=0.0, help="0, the default, is greedy.", show_default=False),
    ] = None,
    key: Annotated[
        str,
        typer.Option(
            "--key", metavar="KEY", help="Requests with one key see one side of a canary.", show_default=False
        ),
    ] = "",
    stream: Annotated[
        bool | None,
        typer.Option("--stream/--no-stream", help="Print the answer as it comes, or whole.", show_default="stream"),
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Ask a task's adapter, one of its versions, or the base."""
    if choices and (max_tokens is not None or temperature is not None or stream is not None):
        raise typer.BadParameter("--max-tokens, --temperature and --stream do not go with --choices")
    if as_json and stream:
        raise typer.BadParameter("--json prints one document, which cannot be streamed")
    asked = inference_pb2.Input(prompt=_prompt(prompt))
    with whereabouts(context, config, address).connect() as client:
        if choices:
            score = inference_pb2.ScoreRequest(
                adapter=adapter, input=asked, continuations=_split(choices), request_key=key
            )
            _choose(client, score, as_json)
            return
        sampling = inference_pb2.Sampling(max_tokens=max_tokens or 0, temperature=temperature)
        request = inference_pb2.GenerateRequest(adapter=adapter, input=asked, sampling=sampling, request_key=key)
        if as_json or stream is False:
            _complete(client, request, as_json)
        else:
            _stream(client, request)


@commands.command(rich_help_panel=_PANEL)
def feedback(
    context: typer.Context,
    request_id: Annotated[
        str, typer.Argument(metavar="REQUEST", help="The id that the answer came with.", show_default=False)
    ],
    rating: Annotated[
        Rating | None, typer.Argument(metavar="[RATING]", help="good or bad.", show_default=False)
    ] = None,
    correct: Annotated[
        str | None,
        typer.Option("--correct", metavar="ANSWER", help="What should have been answered.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Say whether an answer was good or bad, or what it should have been; a canary is judged by it too."""
    if rating is None and correct is None:
        raise typer.BadParameter("say good or bad, or --correct ANSWER")
    rating = rating or Rating.BAD
    value = learning_pb2.RATING_GOOD if rating is Rating.GOOD else learning_pb2.RATING_BAD
    request = learning_pb2.FeedbackRequest(request_id=request_id, rating=value, correction=correct or "")
    with whereabouts(context, config, address).connect() as client:
        taken = client.learning.Feedback(request)
    served_by = taken.served_by
    if as_json:
        document = {"request_id": request_id, "rating": rating.value, "served_by": documents.served_by(served_by)}
        print_document({**document, "waiting": taken.waiting} if correct else document)
    else:
        who = f"{served_by.task}@{served_by.version}" if served_by.task else "the base"
        waiting = f"; {taken.waiting} corrections wait for their drop" if correct else ""
        put(f"{rating.value}, for {who}{waiting}")


@commands.command(rich_help_panel=_PANEL)
def report(
    context: typer.Context,
    task: Task,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw it into this file: .png, .svg or .pdf.",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Show what each version of a task reaches on every drop, and how the versions came about."""
    with whereabouts(context, config, address).connect() as client:
        found = read_report(client, task)
    if plot is not None:
        draw(found, plot)
        errors().print(f"drawn into {plot}")
    if as_json:
        print_document(found)
        return
    parts = [
        titled(f"{measure} on each drop's held-out rows", render_report.matrix(found, measure))
        for measure in render_report.measures_in(found)
    ]
    parts.append(titled("versions", render_report.history(found)))
    if found.get("drift"):
        parts.append(titled("drift", render_report.drift(found)))
    if found.get("history"):
        parts.append(titled("moves of aliases", render_report.moves(found)))
    put(screens(*parts))


def _prompt(text: str) -> str:
    """The prompt itself, or what standard input holds, without the line break that `echo` adds."""
    try:
        if text == "-":
            return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
        text.encode("utf-8")  # bytes of the command line that are no UTF-8 arrive as lone surrogates
    except UnicodeError as error:
        raise typer.BadParameter("the prompt is not UTF-8") from error
    return text


def _choose(client: Client, request: inference_pb2.ScoreRequest, as_json: bool) -> None:
    answer = client.inference.Score(request)
    scores = {row.text: row.log_likelihood for row in answer.scores}
    choice = answer.scores[answer.best].text
    if as_json:
        print_document(
            {
                "choice": choice,
                "scores": scores,
                "served_by": documents.served_by(answer.served_by),
                "usage": documents.usage(answer.usage),
                "request_id": answer.request_id,
            }
        )
        return
    ranked = sorted(scores.items(), key=lambda pair: -pair[1])
    rows = [
        (text, f"{share:.1%}", f"{score:.3f}")
        for (text, score), share in zip(ranked, _shares([score for _, score in ranked]), strict=True)
    ]
    scored = table(("CHOICE", "SHARE", "LOG-LIKELIHOOD"), rows, right=("SHARE", "LOG-LIKELIHOOD"))
    put(screens(heading(choice), scored))
    _footnote(answer.served_by, _named(answer.request_id))


def _shares(scores: Sequence[float]) -> list[float]:
    """Probabilities among the choices alone: softmax over log-likelihoods, best first."""
    weights = [math.exp(score - scores[0]) for score in scores]
    return [weight / sum(weights) for weight in weights]


def _complete(client: Client, request: inference_pb2.GenerateRequest, as_json: bool) -> None:
    began = time.monotonic()
    answer = client.inference.Complete(request)
    if as_json:
        print_document(
            {
                "text": answer.text,
                "finish_reason": documents.finish_reason(answer.finish_reason),
                "served_by": documents.served_by(answer.served_by),
                "usage": documents.usage(answer.usage),
                "request_id": answer.request_id,
            }
        )
        return
    _write(answer.text + "\n")
    _footnote(answer.served_by, _cost(answer, began))


def _stream(client: Client, request: inference_pb2.GenerateRequest) -> None:
    began = time.monotonic()
    last: inference_pb2.GenerateResponse | None = None
    for last in client.inference.Generate(request):
        _write(last.text)
    _write("\n")
    if last is not None:
        _footnote(last.served_by, _cost(last, began))


def _write(text: str) -> None:
    """Print model output: as it is into a pipe, without control characters onto a terminal."""
    sys.stdout.write(printable(text, lines=True) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _cost(answer: inference_pb2.CompleteResponse | inference_pb2.GenerateResponse, began: float) -> str:
    cut = ", cut there" if answer.finish_reason == inference_pb2.FINISH_REASON_LENGTH else ""
    took = duration(time.monotonic() - began)
    return f", {answer.usage.completion_tokens} tokens in {took}{cut}{_named(answer.request_id)}"


def _named(request_id: str) -> str:
    return f", request {request_id}" if request_id else ""


def _footnote(served_by: common_pb2.ServedBy, cost: str) -> None:
    """Who answered, for a person: on standard error, and only if the answer itself went onto a terminal."""
    if not sys.stdout.isatty():
        return
    name = f"{served_by.task}@{served_by.version}" if served_by.task else "base"
    alias = f" ({served_by.alias})" if served_by.alias else ""
    errors().print(f"{name}{alias}{cost}", style="dim")

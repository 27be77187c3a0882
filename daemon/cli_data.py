"""Commands about what comes in: drop, drops, release, cancel, events, tasks."""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from adapterd.v1 import adapters_pb2, common_pb2, learning_pb2
from rich.console import Console

from . import documents, render_audit, render_tables
from .cli_inference import read_report
from .cli_options import Address, AsJson, ConfigFile, MaybeTask, Task, whereabouts
from .client import Client
from .drop_watch import DONE, await_end, last_event
from .errors import NotAllowed
from .render import console, errors, print_document, printable, put, screens, transfer_bar
from .render_report import comparison, version_of
from .transfer import PIECE_BYTES

_PANEL = "Data"

commands = typer.Typer()

PAST_EVENTS = 20
"""Events that `events` shows if it is not told how many: what fits on a screen."""

_OPEN = (learning_pb2.JOB_STATE_QUEUED, learning_pb2.JOB_STATE_RUNNING)

DropNumber = Annotated[int, typer.Argument(metavar="DROP", min=1, help="A drop's number.", show_default=False)]


@commands.command(rich_help_panel=_PANEL)
def drop(
    context: typer.Context,
    task: Task,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The data.", exists=True, dir_okay=False, show_default=False),
    ],
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its verdict; exit 1 unless it is done.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Hand a file of training data to the daemon."""
    with whereabouts(context, config, address).connect() as client:
        newest = last_event(client, task) if wait else 0
        sent = _send(client, task, file, errors())
        document: documents.Document = {"task": sent.task, "filename": sent.filename, "sha256": sent.sha256}
        if not wait:
            if as_json:
                print_document(document)
            else:
                put(f"{sent.filename} lies in the inbox of {sent.task}; `adapterd drops {task}` follows it")
            return
        try:
            ended = await_end(client, task, sent.sha256, newest, errors())
        except KeyboardInterrupt:
            errors().print(f"the drop goes on; `adapterd drops {task}` shows how far it is")
            raise
        if as_json:
            version = _version(client, ended)
            print_document(
                {**document, "drop": documents.drop(ended), "version": documents.version(version) if version else None}
            )
        else:
            _print_end(client, ended)
    raise typer.Exit(0 if ended.state == DONE else 1)


@commands.command(rich_help_panel=_PANEL)
def drops(
    context: typer.Context,
    task: MaybeTask = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """List the files that came in, and what became of each."""
    with whereabouts(context, config, address).connect() as client:
        found = client.learning.ListDrops(learning_pb2.ListDropsRequest(task=task or "")).drops
    if as_json:
        print_document({"drops": [documents.drop(row) for row in found]})
    elif found:
        put(render_tables.drops(found))
    else:
        errors().print(f"no drops{f' of {task}' if task else ''} yet")


@commands.command(rich_help_panel=_PANEL)
def release(
    context: typer.Context,
    number: DropNumber,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Let a held drop go on, or try a failed or quarantined one again."""
    with whereabouts(context, config, address).connect() as client:
        released = client.learning.ReleaseDrop(learning_pb2.ReleaseDropRequest(id=number))
    if as_json:
        print_document(documents.drop(released))
    else:
        put(f"drop {released.id} of {released.task} goes on; it is {documents.drop_state(released.state)}")


@commands.command(rich_help_panel=_PANEL)
def cancel(
    context: typer.Context,
    number: DropNumber,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Stop a drop's training; the drop is held until somebody releases it."""
    with whereabouts(context, config, address).connect() as client:
        drop = client.learning.GetDrop(learning_pb2.GetDropRequest(id=number))
        jobs = client.learning.ListJobs(learning_pb2.ListJobsRequest(task=drop.task)).jobs
        open_job = next((job for job in jobs if job.drop == number and job.state in _OPEN), None)
        if open_job is None:
            raise NotAllowed(
                f"drop {number} of {drop.task} is {documents.drop_state(drop.state)}: no training of it waits or runs",
                hint="`adapterd status` shows what is trained and what waits for it",
            )
        client.learning.CancelJob(learning_pb2.CancelJobRequest(id=open_job.id))
        held = client.learning.GetDrop(learning_pb2.GetDropRequest(id=number))
    if as_json:
        print_document(documents.drop(held))
    else:
        put(f"drop {held.id} of {held.task} is {documents.drop_state(held.state)}: {held.reason}")


@commands.command(rich_help_panel=_PANEL)
def sample(
    context: typer.Context,
    task: Task,
    count: Annotated[int, typer.Argument(metavar="N", min=1, help="How many rows.")] = 10,
    of: Annotated[
        int | None, typer.Option("--drop", metavar="DROP", min=1, help="Of this drop alone.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Another number draws other rows.")] = 0,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Show some rows that were dropped, drawn at random, and whether they are learned from or judged by."""
    request = learning_pb2.SampleRowsRequest(task=task, drop=of or 0, count=count, seed=seed)
    with whereabouts(context, config, address).connect() as client:
        rows = [documents.sampled(row) for row in client.learning.SampleRows(request).rows]
    if as_json:
        print_document({"rows": rows})
    elif rows:
        put(render_audit.rows(rows))
    else:
        errors().print(f"{task} has no rows yet")


@commands.command(rich_help_panel=_PANEL)
def events(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones as they happen.")] = False,
    task: Annotated[
        str | None, typer.Option("--task", metavar="TASK", help="Of this task alone.", show_default=False)
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(
            "--last", "-n", metavar="N", min=0, help="So many past ones; 20, or all of --after.", show_default=False
        ),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option("--after", metavar="ID", min=0, help="Those after the event of this number.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Show what happened, and with --follow what happens; with --json too, it is a JSON document a line."""
    request = learning_pb2.EventsRequest(after=after or 0, task=task or "")
    kept = PAST_EVENTS if last is None and after is None else last
    with whereabouts(context, config, address).connect() as client:
        past = deque(client.learning.Events(request), kept)
        newest = past[-1].id if past else last_event(client, task or "")
        if as_json and not follow:
            print_document({"events": [documents.event(row) for row in past]})
            return
        screen = console()
        for row in past:
            _print_event(screen, row, as_json)
        if follow:
            request = learning_pb2.EventsRequest(after=max(newest, after or 0), task=task or "", follow=True)
            for row in client.learning.Events(request):
                _print_event(screen, row, as_json)


@commands.command(rich_help_panel=_PANEL)
def tasks(context: typer.Context, as_json: AsJson = False, config: ConfigFile = None, address: Address = None) -> None:
    """List the tasks, and what answers for each."""
    with whereabouts(context, config, address).connect() as client:
        found = client.adapters.ListTasks(adapters_pb2.ListTasksRequest()).tasks
    if as_json:
        print_document({"tasks": [documents.task(row) for row in found]})
    elif found:
        put(render_tables.tasks(found))
    else:
        errors().print("no tasks yet: `adapterd drop TASK FILE` makes one")


def _send(client: Client, task: str, file: Path, screen: Console) -> learning_pb2.SubmitDataResponse:
    """Stream a file to the daemon, with a bar where `screen` is a terminal."""
    with file.open("rb") as source, transfer_bar(screen) as bar:
        meter = bar.add_task(printable(file.name), total=file.stat().st_size)

        def pieces() -> Iterator[learning_pb2.SubmitDataRequest]:
            name = os.fsencode(file.name).decode("utf-8", "replace")
            yield learning_pb2.SubmitDataRequest(task=task, filename=name, size=file.stat().st_size)
            while piece := source.read(PIECE_BYTES):
                yield learning_pb2.SubmitDataRequest(chunk=piece)
                bar.advance(meter, len(piece))

        return client.learning.SubmitData(pieces())


def _print_end(client: Client, drop: learning_pb2.Drop) -> None:
    """What became of a drop: for a version the verdict and its figures beside the champion's, else the reason."""
    version = _version(client, drop)
    if version is None:
        put(render_tables.drop(drop))
        return
    report = read_report(client, drop.task)
    evaluations = version_of(report, version.version).get("evaluations") or {}
    put(screens(render_tables.version(version), comparison(evaluations, report.get("golden", 0))))


def _version(client: Client, drop: learning_pb2.Drop) -> adapters_pb2.Version | None:
    if not drop.version:
        return None
    return client.adapters.GetVersion(adapters_pb2.GetVersionRequest(version=f"{drop.task}@{drop.version}"))


def _print_event(screen: Console, event: common_pb2.Event, as_json: bool) -> None:
    if as_json:
        print_document(documents.event(event), line=True)
    else:
        screen.print(render_tables.event(event), soft_wrap=True)

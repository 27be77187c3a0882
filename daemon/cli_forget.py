"""The command that takes rows out again: forget."""

import sys
from typing import Annotated

import typer
from adapterd.v1 import learning_pb2

from . import documents, render_forgetting
from .cli_options import Address, AsJson, ConfigFile, MaybeTask, whereabouts
from .client import Client
from .render import errors, print_document, put

commands = typer.Typer()


@commands.command(rich_help_panel="Data")
def forget(
    context: typer.Context,
    task: MaybeTask = None,
    match: Annotated[
        str | None,
        typer.Option("--match", metavar="TEXT", help="Rows that have this text in them.", show_default=False),
    ] = None,
    number: Annotated[
        int | None, typer.Option("--drop", metavar="DROP", min=1, help="All rows of this drop.", show_default=False)
    ] = None,
    retrain: Annotated[
        bool,
        typer.Option("--retrain", help="Delete the versions that learned from forgotten rows; learn the rest again."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be forgotten, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Take rows out of everything that is kept, and name the versions that have learned from them."""
    if (match is None) == (number is None) and not (retrain and match is None and number is None):
        raise typer.BadParameter("name the rows by one of --match TEXT and --drop DROP")
    if retrain and task is None:
        raise typer.BadParameter("--retrain is for one task: name it")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise typer.BadParameter("nobody can be asked here: add --yes if you mean it, or --dry-run to look first")
    request = learning_pb2.ForgetRequest(task=task or "", text=match or "", drop=number or 0)
    document: documents.Document = {}
    with whereabouts(context, config, address).connect() as client:
        if request.text or request.drop:
            document |= _forget(client, request, dry_run=dry_run, yes=yes, as_json=as_json)
        if retrain and not dry_run:
            document |= {"retraining": _retrain(client, task or "", yes=yes, as_json=as_json)}
    if as_json:
        print_document(document)


def _forget(
    client: Client, request: learning_pb2.ForgetRequest, *, dry_run: bool, yes: bool, as_json: bool
) -> documents.Document:
    looked = client.learning.Forget(
        learning_pb2.ForgetRequest(task=request.task, text=request.text, drop=request.drop, dry_run=True)
    )
    if not as_json:
        put(render_forgetting.found(looked.found))
        put(render_forgetting.saw(looked.saw))
    found = any(one.rows or one.bad_rows for one in looked.found) or bool(request.drop)
    if dry_run or not found:
        return documents.forgotten(looked)
    if not yes:
        typer.confirm("Forget these rows for good?", abort=True, err=True)
    done = client.learning.Forget(request)
    errors().print("they are forgotten")
    for task in dict.fromkeys(one.task for one in done.saw):
        said = "deletes the versions that have learned from them and learns the rest again"
        errors().print(f"`adapterd forget {task} --retrain` {said}")
    return documents.forgotten(done)


def _retrain(client: Client, task: str, *, yes: bool, as_json: bool) -> documents.Document:
    if not yes:
        said = f"Delete every version of {task} that has learned from forgotten rows, and learn the rest again?"
        typer.confirm(said, abort=True, err=True)
    done = client.learning.Retrain(learning_pb2.RetrainRequest(task=task))
    if not as_json:
        put(render_forgetting.retraining(done))
    return documents.retraining(done)

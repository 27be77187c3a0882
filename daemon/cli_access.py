"""Commands about who may do what and who did: token new, list and remove; audit-log."""

import json
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from adapterd.v1 import common_pb2, learning_pb2

from . import documents
from .chain import Entry, verify
from .cli_daemon import PANEL
from .cli_options import Address, AsJson, ConfigFile, MaybeTask, Whereabouts, whereabouts
from .errors import ConfigError
from .render import errors, local, print_document, put, table
from .tokens import ROLES, Token, add_token, read_tokens, remove_token

commands = typer.Typer()
token_commands = typer.Typer(no_args_is_help=True, help="Make and look at the tokens that callers show.")

# What the daemon tells of its work, and nobody asks an audit log for.
_WORK = ("training.progress", "serving.", "inbox.")
_PAST = 50

Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is.", show_default=False)]
TokensFile = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="The file of hashes; access.tokens where none is named."),
]


@token_commands.command("new")
def token_new(
    context: typer.Context,
    name: Name,
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help=f"One of {', '.join(ROLES)}.")] = "infer",
    days: Annotated[
        int | None, typer.Option("--days", metavar="N", min=0, help="Days that it holds; for ever if not said.")
    ] = None,
    file: TokensFile = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Make a token, keep its hash and print it, this once. The daemon knows it after a reload."""
    path = _file(whereabouts(context, config, address), file)
    secret = add_token(path, name, role, days)
    if as_json:
        print_document({"name": name, "role": role, "file": str(path), "token": secret})
        return
    typer.echo(secret)
    errors().print(f"{name} has the role {role}; its hash is in {path}. The daemon knows it after a reload (SIGHUP).")


@token_commands.command("list")
def token_list(
    context: typer.Context,
    file: TokensFile = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """List who has a token, which role, and until when."""
    tokens = read_tokens(_file(whereabouts(context, config, address), file))
    if as_json:
        rows = [
            {"name": one.name, "role": one.role, "expires": _date(one.expires) if one.expires else None}
            for one in tokens
        ]
        print_document({"tokens": rows})
        return
    put(table(("NAME", "ROLE", "HOLDS"), ((one.name, one.role, _holds(one, time.time())) for one in tokens)))


@token_commands.command("remove")
def token_remove(
    context: typer.Context,
    name: Name,
    file: TokensFile = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Take a token's hash out of the file; the daemon refuses it after a reload."""
    path = _file(whereabouts(context, config, address), file)
    remove_token(path, name)
    if as_json:
        print_document({"removed": name, "file": str(path)})
    else:
        put(f"{name} has no token any more in {path}. The daemon refuses it after a reload (SIGHUP).")


@commands.command("audit-log", rich_help_panel=PANEL)
def audit_log(
    context: typer.Context,
    task: MaybeTask = None,
    check: Annotated[
        bool, typer.Option("--verify", help="Follow the hash chain through all events; exit 1 if it is broken.")
    ] = False,
    noted: Annotated[
        str, typer.Option("--noted", metavar="HASH", help="With --verify: a hash that the chain must contain.")
    ] = "",
    last: Annotated[int, typer.Option("--last", "-n", metavar="N", min=0, help="So many of the newest.")] = _PAST,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Show who changed what and when, refused calls among it; with --verify, that nobody has changed that since."""
    with whereabouts(context, config, address).connect() as client:
        if check:
            _verify(client.learning.Events(learning_pb2.EventsRequest()), noted, as_json)
            return
        rows = client.learning.Events(learning_pb2.EventsRequest(task=task or ""))
        kept = deque((row for row in rows if not row.kind.startswith(_WORK)), last)
    if as_json:
        print_document({"entries": [documents.event(row) for row in kept]})
        return
    shown = ((str(row.id), local(row.time), row.actor, row.kind, row.message) for row in kept)
    put(table(("ID", "WHEN", "WHO", "WHAT", "IN WORDS"), shown, right=("ID",)))


def _verify(events: Iterator[common_pb2.Event], noted: str, as_json: bool) -> None:
    found = verify((_entry(event) for event in events), noted.strip().lower())
    if as_json:
        print_document(
            {
                "sound": found.sound,
                "entries": found.entries,
                "head": found.head,
                "broken_at": found.broken_at or None,
                "unchained": found.unchained,
                "noted": found.noted,
            }
        )
    elif found.broken_at:
        errors().print(
            f"event {found.broken_at} does not follow from the one before: since it was written, it or that one was "
            "changed, or events between them were taken out",
            style="red",
        )
    elif not found.noted:
        errors().print(f"no event has the hash {noted}: the log is not the one that it was noted of", style="red")
    else:
        before = f" ({found.unchained} before them are of releases without a chain)" if found.unchained else ""
        put(f"{found.entries} events follow one from the other{before}; note the newest one's hash elsewhere:")
        put(found.head)
    raise typer.Exit(0 if found.sound else 1)


def _entry(event: common_pb2.Event) -> Entry:
    return Entry(
        id=event.id,
        micros=event.time.ToMicroseconds(),
        actor=event.actor,
        kind=event.kind,
        task=event.task,
        drop=event.drop,
        version=event.version,
        message=event.message,
        details=json.loads(event.details_json or "{}"),
        hash=event.hash,
    )


def _file(place: Whereabouts, named: Path | None) -> Path:
    path = named or place.settings().access.tokens
    if not path:
        raise ConfigError("no file of tokens is named", hint="set access.tokens, or name one with --file")
    return Path(path)


def _holds(token: Token, now: float) -> str:
    if not token.expires:
        return "for ever"
    return f"until {_date(token.expires)}" if now < token.expires else f"expired on {_date(token.expires)}"


def _date(expires: float) -> str:
    return datetime.fromtimestamp(expires - 1, UTC).date().isoformat()

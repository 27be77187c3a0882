"""Commands about the daemon itself: serve, status, doctor, config check, base pull and list."""

import time
from typing import Annotated

import typer
from adapterd.v1 import learning_pb2

from . import documents, environment, render_tables
from .bases import installed_bases
from .cli_options import Address, AsJson, ConfigFile, Whereabouts, whereabouts
from .config_sources import Examined, examine
from .render import errors, print_document, printable, put, size, table, word

PANEL = "Daemon"
"""Heading of these commands in the help."""

commands = typer.Typer()
config_commands = typer.Typer(no_args_is_help=True, help="Look at the settings.")
base_commands = typer.Typer(no_args_is_help=True, help="Look at and fetch base models.")


@commands.command(rich_help_panel=PANEL)
def serve(context: typer.Context, config: ConfigFile = None, address: Address = None) -> None:
    """Run the daemon in the foreground, until SIGTERM or Ctrl-C."""
    place = whereabouts(context, config, address)
    settings = place.settings()
    environment.set_unless_told(environment.SERVING)
    from .serve import run  # noqa: PLC0415 - brings torch and transformers, seconds that no other command should pay

    raise typer.Exit(run(settings, place.config))


@commands.command(rich_help_panel=PANEL)
def status(context: typer.Context, as_json: AsJson = False, config: ConfigFile = None, address: Address = None) -> None:
    """Show on one screen what the daemon is, holds and does."""
    with whereabouts(context, config, address).connect() as client:
        found = client.learning.GetStatus(learning_pb2.GetStatusRequest())
    if as_json:
        print_document(documents.status(found))
    else:
        put(render_tables.status(found, time.time()))


@commands.command(rich_help_panel=PANEL)
def doctor(
    context: typer.Context,
    mend: Annotated[
        bool, typer.Option("--repair", help="Mend ledger and store, with no daemon on them; nothing is deleted.")
    ] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Look for whatever keeps the daemon from working, and say what to do about it."""
    place = whereabouts(context, config, address)
    if mend:
        _repair(place, as_json)
        return
    from .examination import examine_machine  # noqa: PLC0415 - brings psutil, which no other command needs

    checks = examine_machine(place)
    failed = [check for check in checks if check.status == "fail"]
    if as_json:
        rows = [
            {"name": check.name, "status": check.status, "message": check.message, "hint": check.hint or None}
            for check in checks
        ]
        print_document({"ok": not failed, "checks": rows})
    else:
        put(
            table(
                ("", "CHECK", "FOUND", "WHAT TO DO"),
                ((word(check.status), check.name, check.message, check.hint) for check in checks),
            )
        )
    raise typer.Exit(1 if failed else 0)


@config_commands.command("check")
def config_check(
    context: typer.Context, as_json: AsJson = False, config: ConfigFile = None, address: Address = None
) -> None:
    """Print every setting with its value and where it came from; exit 1 if one is wrong."""
    place = whereabouts(context, config, address)
    found = examine(place.config, place.address)
    if as_json:
        _print_settings_document(found)
    else:
        rows = ((row.name, _value(row.value), row.source) for row in found.settings)
        put(table(("SETTING", "VALUE", "FROM"), rows))
        for sentence in found.warnings:
            errors().print(f"warning: {printable(sentence)}", style="yellow")
        for sentence in found.problems:
            errors().print(f"error: {printable(sentence)}", style="red")
    raise typer.Exit(1 if found.problems else 0)


@base_commands.command("pull")
def base_pull(
    context: typer.Context, as_json: AsJson = False, config: ConfigFile = None, address: Address = None
) -> None:
    """Fetch the configured base, check it and convert it, so that `serve` starts at once."""
    settings = whereabouts(context, config, address).settings()
    from ..adapters.bases import ensure_base  # noqa: PLC0415 - brings torch, which converts the weights
    from .base_progress import base_progress  # noqa: PLC0415
    from .log import configure  # noqa: PLC0415

    configure(settings.log_level, settings.log_format)
    with base_progress() as progress:
        folder = ensure_base(settings.state / "bases", settings.base, settings.base_revision, progress)
    if as_json:
        print_document({"base": settings.base, "folder": str(folder)})
    else:
        put(f"{settings.base} is ready in {folder}")


@base_commands.command("list")
def base_list(
    context: typer.Context, as_json: AsJson = False, config: ConfigFile = None, address: Address = None
) -> None:
    """List the bases in the state folder."""
    settings = whereabouts(context, config, address).settings()
    found = installed_bases(settings.state / "bases")
    if as_json:
        rows = [
            {
                "name": row.name or None,
                "folder": str(row.folder),
                "bytes": row.size,
                "licence": row.licence or None,
                "origin": row.origin,
            }
            for row in found
        ]
        print_document({"configured": settings.base, "bases": rows})
    elif found:
        put(
            table(
                ("BASE", "SIZE", "LICENCE", "FOLDER"),
                ((row.name, size(row.size), row.licence, str(row.folder)) for row in found),
                right=("SIZE",),
            )
        )
    else:
        errors().print(f"no base in {settings.state / 'bases'} yet: `adapterd base pull` fetches {settings.base}")


def _repair(place: Whereabouts, as_json: bool) -> None:
    from .repair import repair  # noqa: PLC0415 - brings torch, to read versions

    done = repair(place.settings().state.absolute())
    if as_json:
        rows = [
            {"kind": one.kind, "task": one.task or None, "version": one.version or None, "message": one.message}
            for one in done
        ]
        print_document({"repairs": rows})
    elif done:
        put(table(("WHAT", "REPAIRED"), ((one.kind, one.message) for one in done)))
    else:
        put("ledger and store are sound: nothing to repair")


def _print_settings_document(found: Examined) -> None:
    print_document(
        {
            "ok": not found.problems,
            "file": str(found.file) if found.file else None,
            "settings": [
                {
                    "name": row.name,
                    "value": row.value if isinstance(row.value, int | float | str | None) else str(row.value),
                    "source": row.source,
                    "description": row.description,
                }
                for row in found.settings
            ],
            "errors": list(found.problems),
            "warnings": list(found.warnings),
        }
    )


def _value(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return str(value).lower()
        case _:
            return str(value)
